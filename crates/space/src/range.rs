//! A half-open range of whole pages.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ByteLen, PageCount, PageSize, Vaddr};

/// A half-open range of addresses, `start..end`, that is never empty.
///
/// Both ends are multiples of the page size that the maker of the range works with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "(Vaddr, Vaddr)", into = "(Vaddr, Vaddr)")]
pub struct PageRange {
    start: Vaddr,
    end: Vaddr,
}

impl PageRange {
    /// Makes a range; `None` where it would be empty, turned round, or not aligned to 4 KiB,
    /// the smallest page there is.
    pub fn new(start: Vaddr, end: Vaddr) -> Option<Self> {
        const MISALIGNED: u64 = (1 << 12) - 1;
        (start < end && (start.0 | end.0) & MISALIGNED == 0).then_some(Self { start, end })
    }

    /// Makes the range of `count` pages from `start` on; `None` where it would be empty or
    /// reach past the end of the address space.
    pub fn from_pages(start: Vaddr, count: PageCount, page_size: PageSize) -> Option<Self> {
        Self::new(start, start.checked_add(count.bytes(page_size))?)
    }

    /// Returns the first address.
    pub fn start(self) -> Vaddr {
        self.start
    }

    /// Returns the first address behind the range.
    pub fn end(self) -> Vaddr {
        self.end
    }

    /// Returns the length in bytes.
    pub fn len(self) -> ByteLen {
        ByteLen(self.end.0 - self.start.0)
    }

    /// Returns the length in pages.
    pub fn pages(self, page_size: PageSize) -> PageCount {
        PageCount(self.len().0 >> page_size.shift())
    }

    /// Tells whether `address` lies inside.
    pub fn contains(self, address: Vaddr) -> bool {
        self.start <= address && address < self.end
    }

    /// Tells whether all of `other` lies inside.
    pub fn covers(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// Returns the part that two ranges share, if any.
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::new(self.start.max(other.start), self.end.min(other.end))
    }

    /// Cuts the range into pieces of at most `len` bytes, in order.
    ///
    /// # Panics
    ///
    /// Panics if `len` is zero or no multiple of 4 KiB.
    pub fn chunks(self, len: ByteLen) -> impl Iterator<Item = Self> {
        assert!(
            len.0 > 0 && len.0.is_multiple_of(1 << 12),
            "pieces are whole pages"
        );
        let mut at = self.start;
        std::iter::from_fn(move || {
            let end = at
                .checked_add(len)
                .map_or(self.end, |end| end.min(self.end));
            let piece = Self::new(at, end)?;
            at = end;
            Some(piece)
        })
    }
}

impl fmt::Debug for PageRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.start, self.end)
    }
}

impl fmt::Display for PageRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.start, self.end)
    }
}

impl From<PageRange> for (Vaddr, Vaddr) {
    fn from(range: PageRange) -> Self {
        (range.start, range.end)
    }
}

impl TryFrom<(Vaddr, Vaddr)> for PageRange {
    type Error = String;

    fn try_from((start, end): (Vaddr, Vaddr)) -> Result<Self, Self::Error> {
        Self::new(start, end).ok_or_else(|| format!("{start}..{end} is no range of pages"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> PageRange {
        PageRange::new(Vaddr(start), Vaddr(end)).unwrap()
    }

    #[test]
    fn refuses_empty_reversed_and_misaligned() {
        for (start, end) in [(0, 0), (0x2000, 0x1000), (0x1001, 0x2000), (0x1000, 0x2001)] {
            assert_eq!(PageRange::new(Vaddr(start), Vaddr(end)), None);
        }
    }

    #[test]
    fn chunks_cover_the_range_once() {
        let pieces: Vec<_> = range(0x1000, 0x6000).chunks(ByteLen(0x2000)).collect();
        assert_eq!(
            pieces,
            [
                range(0x1000, 0x3000),
                range(0x3000, 0x5000),
                range(0x5000, 0x6000)
            ]
        );
    }

    #[test]
    fn intersection_is_the_shared_part() {
        assert_eq!(
            range(0x1000, 0x4000).intersection(range(0x3000, 0x9000)),
            Some(range(0x3000, 0x4000))
        );
        assert_eq!(
            range(0x1000, 0x3000).intersection(range(0x3000, 0x4000)),
            None
        );
    }
}
