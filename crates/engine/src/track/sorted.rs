//! What a scan for written pages says, sorted into what becomes of the pages.

use space::{PageFlags, PageRange, PageRun, RangeSet};

use super::look::THERE;

/// The pages of some ranges, after a scan that reported all of them that are not as they were
/// armed. There may be a million runs, and the target may stand still: each list is walked once.
pub(super) struct Sorted {
    /// Captured pages that were not reported.
    pub(super) keep: RangeSet,
    /// Reported pages with content.
    pub(super) carried: RangeSet,
    /// Reported pages of zeros.
    pub(super) zeros: RangeSet,
    /// How many bytes all of them take.
    pub(super) bytes: u64,
}

impl Sorted {
    /// Sorts what was reported of `known`, in ascending runs; of `captured` may more be given than
    /// lies there.
    pub(super) fn of(runs: &[PageRun], captured: &RangeSet, known: &RangeSet) -> Self {
        let mut sorted = Self {
            keep: RangeSet::with_capacity(captured.ranges().len() + runs.len()),
            carried: RangeSet::with_capacity(runs.len()),
            zeros: RangeSet::new(),
            bytes: 0,
        };
        for run in runs {
            if !run.flags.intersects(THERE) || run.flags.contains(PageFlags::GUARD) {
                continue;
            }
            sorted.bytes += run.range.len().0;
            if run.flags.contains(PageFlags::ZERO) {
                sorted.zeros.push(run.range);
            } else {
                sorted.carried.push(run.range);
            }
        }
        let mut cuts = runs;
        let mut captured = captured.ranges();
        for whole in known.iter() {
            while let Some(range) = captured.first() {
                if let Some(inside) = range.intersection(whole) {
                    sorted.keep_rest(inside, &mut cuts);
                }
                // The rest of it may lie in the next of the known ranges.
                if range.end() > whole.end() {
                    break;
                }
                captured = &captured[1..];
            }
        }
        sorted
    }

    /// Keeps what of `range` was not reported. `cuts` are the runs that may lie in it or behind it,
    /// and move on.
    fn keep_rest(&mut self, range: PageRange, cuts: &mut &[PageRun]) {
        let mut at = range.start();
        while let Some(cut) = cuts.first() {
            if cut.range.start() >= range.end() {
                break;
            }
            self.keep(PageRange::new(at, cut.range.start()));
            at = at.max(cut.range.end());
            if cut.range.end() > range.end() {
                break;
            }
            *cuts = &cuts[1..];
        }
        self.keep(PageRange::new(at, range.end()));
    }

    fn keep(&mut self, range: Option<PageRange>) {
        if let Some(range) = range {
            self.bytes += range.len().0;
            self.keep.push(range);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use space::Vaddr;

    use super::*;

    const PAGE: u64 = 4096;

    fn range(start: u64, len: u64) -> PageRange {
        PageRange::new(Vaddr(start * PAGE), Vaddr((start + len) * PAGE)).unwrap()
    }

    fn set(ranges: &[(u64, u64)]) -> RangeSet {
        ranges
            .iter()
            .map(|&(start, len)| range(start, len))
            .collect()
    }

    /// Ascending runs within `known`, as a scan reports them, of the given gaps and lengths.
    fn reported(known: &RangeSet, lens: &[(u64, u64, u8)]) -> Vec<PageRun> {
        let flags = [
            PageFlags::PRESENT | PageFlags::WRITTEN,
            PageFlags::PRESENT | PageFlags::WRITTEN | PageFlags::ZERO,
            PageFlags::SWAPPED | PageFlags::WRITTEN,
            PageFlags::SWAPPED | PageFlags::WRITTEN | PageFlags::GUARD,
            PageFlags::WRITTEN,
        ];
        let mut runs = Vec::new();
        let mut at = 0;
        for &(gap, len, kind) in lens {
            let run = range(at + gap, len);
            at += gap + len;
            let flags = flags[usize::from(kind) % flags.len()];
            let parts = known.iter().filter_map(|known| known.intersection(run));
            runs.extend(parts.map(|range| PageRun { range, flags }));
        }
        runs
    }

    proptest! {
        #[test]
        fn is_what_sets_say(
            captured in prop::collection::vec((0u64..60, 1u64..8), 0..12),
            known in prop::collection::vec((0u64..60, 1u64..12), 0..8),
            lens in prop::collection::vec((0u64..5, 1u64..5, any::<u8>()), 0..20),
        ) {
            let (captured, known) = (set(&captured), set(&known));
            let runs = reported(&known, &lens);
            let sorted = Sorted::of(&runs, &captured, &known);
            let of = |wanted: &dyn Fn(PageFlags) -> bool| -> RangeSet {
                runs.iter().filter(|run| wanted(run.flags)).map(|run| run.range).collect()
            };
            let there = |flags: PageFlags| flags.intersects(THERE) && !flags.contains(PageFlags::GUARD);
            let zero = |flags: PageFlags| flags.contains(PageFlags::ZERO);
            prop_assert_eq!(&sorted.keep, &captured.intersection(&known).difference(&of(&|_| true)));
            prop_assert_eq!(&sorted.carried, &of(&|flags| there(flags) && !zero(flags)));
            prop_assert_eq!(&sorted.zeros, &of(&|flags| there(flags) && zero(flags)));
            let bytes = sorted.keep.len().0 + sorted.carried.len().0 + sorted.zeros.len().0;
            prop_assert_eq!(sorted.bytes, bytes);
        }
    }
}
