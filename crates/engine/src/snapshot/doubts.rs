//! What the engine itself can't prove of a snapshot.

use space::{Mapping, PageRange, PageSize, RangeSet, Tracking};

use crate::Tracker;
use crate::track::Look;

/// Memory that may be of another moment than the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Where.
    pub ranges: Vec<PageRange>,
    /// Why, as a sentence.
    pub reason: &'static str,
}

const DENIED: &str = "the files behind this shared memory may not be looked at: what others wrote \
                      there that the process has not touched is missing";
const MOVED: &str = "if the process moved whole page tables of this memory away (mremap) and back \
                     while it was copied, soft-dirty bits did not tell, and the copy is of other \
                     pages; --strategy fork or freeze does without them";

/// Returns what is in doubt of what a freeze found.
pub(super) fn doubts(
    look: &Look,
    tracker: &Tracker,
    tracking: Tracking,
    page_size: PageSize,
) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    let mut doubt = |ranges: Vec<PageRange>, reason| {
        if !ranges.is_empty() {
            doubts.push(Doubt { ranges, reason });
        }
    };
    doubt(look.denied.clone(), DENIED);
    if tracking == Tracking::SoftDirty {
        let kept = look.keep.intersection(tracker.read_running());
        doubt(movable(&look.mappings, &kept, page_size), MOVED);
    }
    doubts
}

/// Returns the parts of mappings that are made of whole page tables, and of which something was
/// kept. `mremap` moves such a table as it is, and less than one page by page, which sets the bits.
fn movable(mappings: &[Mapping], kept: &RangeSet, page_size: PageSize) -> Vec<PageRange> {
    let whole = mappings
        .iter()
        .filter_map(|mapping| whole_tables(mapping.range, page_size));
    whole
        .filter(|&range| {
            let first = kept
                .ranges()
                .partition_point(|own| own.end() <= range.start());
            let next = kept.ranges().get(first);
            next.is_some_and(|own| own.intersection(range).is_some())
        })
        .collect()
}

/// Returns the whole page tables in a range. An entry has eight bytes, and a table fills a page.
fn whole_tables(range: PageRange, page_size: PageSize) -> Option<PageRange> {
    const ENTRY: u64 = 8;
    let table = PageSize::new(page_size.bytes() / ENTRY * page_size.bytes())?;
    PageRange::new(
        range.start().align_up(table)?,
        range.end().align_down(table),
    )
}

#[cfg(test)]
mod tests {
    use space::Vaddr;

    use super::*;

    const PAGE: u64 = 4096;
    const TABLE: u64 = 2 << 20;

    fn tables(start: u64, end: u64) -> Option<(u64, u64)> {
        let range = PageRange::new(Vaddr(start), Vaddr(end)).unwrap();
        let whole = whole_tables(range, PageSize::new(PAGE).unwrap())?;
        Some((whole.start().0, whole.end().0))
    }

    #[test]
    fn only_whole_page_tables_are_moved_without_a_trace() {
        assert_eq!(tables(TABLE, 2 * TABLE), Some((TABLE, 2 * TABLE)));
        assert_eq!(tables(TABLE + PAGE, 2 * TABLE), None);
        assert_eq!(
            tables(TABLE + PAGE, 3 * TABLE),
            Some((2 * TABLE, 3 * TABLE))
        );
        assert_eq!(
            tables(TABLE - PAGE, 2 * TABLE + PAGE),
            Some((TABLE, 2 * TABLE))
        );
        assert_eq!(tables(PAGE, TABLE - PAGE), None);
    }
}
