//! Batches: lists of ranges that are read in one call.

use std::ops::Range;

use space::{ByteLen, Errno, PageRange, PageSize, PageSource, RangeSet, Vaddr};

/// A set of pages, cut into batches of nearly equal size.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    ranges: Vec<PageRange>,
    batches: Vec<Range<usize>>,
}

impl Batches {
    /// Cuts `set` into batches of at most `len` bytes each.
    pub(crate) fn cut(set: &RangeSet, len: ByteLen) -> Self {
        let mut cut = Self::default();
        let mut room = len.0;
        let mut first = 0;
        for range in set.iter() {
            let mut rest = Some(range);
            while let Some(range) = rest {
                let (head, tail) = split_at(range, ByteLen(room));
                cut.ranges.push(head);
                room -= head.len().0;
                rest = tail;
                if room == 0 {
                    cut.batches.push(first..cut.ranges.len());
                    (first, room) = (cut.ranges.len(), len.0);
                }
            }
        }
        if first < cut.ranges.len() {
            cut.batches.push(first..cut.ranges.len());
        }
        cut
    }

    /// Returns how many batches there are.
    pub(crate) fn len(&self) -> usize {
        self.batches.len()
    }

    /// Returns the ranges of a batch.
    pub(crate) fn get(&self, index: usize) -> &[PageRange] {
        &self.ranges[self.batches[index].clone()]
    }
}

/// Cuts the first `len` bytes (not zero) off a range.
fn split_at(range: PageRange, len: ByteLen) -> (PageRange, Option<PageRange>) {
    let middle = range
        .start()
        .checked_add(len)
        .map_or(range.end(), |at| at.min(range.end()));
    let head = PageRange::new(range.start(), middle).expect("the cut lies behind the start");
    (head, PageRange::new(middle, range.end()))
}

/// What to do where a page can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Skips more and more: memory may have been unmapped, and what is skipped is looked at again.
    Skip,
    /// Tries every single page: nothing changes any more.
    TryEach,
}

/// Reads `ranges` into the start of `buf`, one behind the other. Where pages can't be read their
/// place in `buf` holds nothing of use, and they are added to `missed`.
pub(crate) fn read_batch<R: PageSource + ?Sized>(
    source: &R,
    ranges: &[PageRange],
    buf: &mut [u8],
    page_size: PageSize,
    missing: Missing,
    missed: &mut Vec<PageRange>,
) -> Result<(), Errno> {
    let total: u64 = ranges.iter().map(|range| range.len().0).sum();
    let mut done = 0;
    let mut rest = ranges;
    let mut owned: Vec<PageRange>;
    let mut skip = page_size.bytes();
    loop {
        let from = ByteLen(done).as_usize();
        let read = match source.read(rest, &mut buf[from..ByteLen(total).as_usize()]) {
            Ok(read) => read.0,
            Err(Errno::EFAULT | Errno::EIO | Errno::EHWPOISON) => 0,
            Err(errno) => return Err(errno),
        };
        debug_assert!(
            read.is_multiple_of(page_size.bytes()),
            "whole pages are read"
        );
        done += read;
        if done >= total {
            return Ok(());
        }
        if read > 0 || missing == Missing::TryEach {
            skip = page_size.bytes();
        }
        owned = behind(rest, read);
        let gap = skip.min(owned[0].len().0);
        let (bad, _) = split_at(owned[0], ByteLen(gap));
        missed.push(bad);
        owned = behind(&owned, gap);
        done += gap;
        skip = skip.saturating_mul(2);
        if owned.is_empty() {
            return Ok(());
        }
        rest = &owned;
    }
}

/// Returns what of `ranges` lies behind their first `bytes` bytes.
fn behind(ranges: &[PageRange], bytes: u64) -> Vec<PageRange> {
    let mut left = bytes;
    let mut rest = Vec::with_capacity(ranges.len());
    for &range in ranges {
        let len = range.len().0;
        if left >= len {
            left -= len;
        } else {
            rest.extend(PageRange::new(Vaddr(range.start().0 + left), range.end()));
            left = 0;
        }
    }
    rest
}

/// Calls `take` for each range of a batch that was read, with its bytes in `buf`.
pub(crate) fn pieces<E>(
    ranges: &[PageRange],
    missed: &[PageRange],
    buf: &[u8],
    mut take: impl FnMut(PageRange, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let bad: RangeSet = missed.iter().copied().collect();
    let mut offset = 0;
    for &range in ranges {
        let base = offset;
        offset += range.len().0;
        let mut give = |good: PageRange| {
            let from = ByteLen(base + good.start().0 - range.start().0).as_usize();
            take(good, &buf[from..from + good.len().as_usize()])
        };
        if bad.is_empty() {
            give(range)?;
        } else {
            let whole: RangeSet = [range].into_iter().collect();
            whole.difference(&bad).iter().try_for_each(&mut give)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const PAGE: u64 = 4096;
    const LEN: usize = 4096;

    fn range(start: u64, pages: u64) -> PageRange {
        PageRange::new(Vaddr(start * PAGE), Vaddr((start + pages) * PAGE)).unwrap()
    }

    /// Every page's bytes are its number; some pages can't be read.
    struct Numbers(BTreeSet<u64>);

    impl PageSource for Numbers {
        fn read(&self, ranges: &[PageRange], buf: &mut [u8]) -> Result<ByteLen, Errno> {
            let mut done = 0;
            for range in ranges {
                for page in range.start().0 / PAGE..range.end().0 / PAGE {
                    if self.0.contains(&page) {
                        return if done == 0 {
                            Err(Errno::EFAULT)
                        } else {
                            Ok(ByteLen(done as u64))
                        };
                    }
                    buf[done..done + LEN].fill(u8::try_from(page).unwrap());
                    done += LEN;
                }
            }
            Ok(ByteLen(done as u64))
        }
    }

    proptest! {
        #[test]
        fn all_that_can_be_read_is_read(
            starts in prop::collection::btree_set(0u64..200, 0..40),
            bad in prop::collection::btree_set(0u64..200, 0..40),
            batch in 1u64..9,
        ) {
            let set: RangeSet = starts.iter().map(|&page| range(page, 1)).collect();
            let size = PageSize::new(PAGE).unwrap();
            let cut = Batches::cut(&set, ByteLen(batch * PAGE));
            let mut buf = vec![0; ByteLen(batch * PAGE).as_usize()];
            let (mut good, mut lost) = (BTreeSet::new(), BTreeSet::new());
            for index in 0..cut.len() {
                let mut missed = Vec::new();
                let ranges = cut.get(index);
                let source = Numbers(bad.clone());
                read_batch(&source, ranges, &mut buf, size, Missing::TryEach, &mut missed).unwrap();
                pieces(ranges, &missed, &buf, |range, bytes| {
                    for (page, bytes) in (range.start().0 / PAGE..).zip(bytes.chunks(LEN)) {
                        prop_assert!(bytes.iter().all(|&byte| u64::from(byte) == page));
                        prop_assert!(good.insert(page));
                    }
                    Ok(())
                })?;
                lost.extend(missed.iter().flat_map(|r| r.start().0 / PAGE..r.end().0 / PAGE));
            }
            prop_assert_eq!(good, &starts - &bad);
            prop_assert_eq!(lost, &starts & &bad);
        }
    }
}
