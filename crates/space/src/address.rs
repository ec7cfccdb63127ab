//! Numbers with a meaning: addresses, lengths and page sizes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A virtual address of the process that is looked at (rarely our own).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Vaddr(pub u64);

impl Vaddr {
    /// Returns the address `len` bytes further up, or `None` past the end of the address space.
    pub fn checked_add(self, len: ByteLen) -> Option<Self> {
        self.0.checked_add(len.0).map(Self)
    }

    /// Returns the start of the page that holds this address.
    pub fn align_down(self, page_size: PageSize) -> Self {
        Self(self.0 & !(page_size.bytes() - 1))
    }

    /// Returns the first page boundary at or above this address, or `None` past the end.
    pub fn align_up(self, page_size: PageSize) -> Option<Self> {
        Some(Self(self.0.checked_add(page_size.bytes() - 1)?).align_down(page_size))
    }

    /// Tells whether this address is a page boundary.
    pub fn is_aligned(self, page_size: PageSize) -> bool {
        self.0 & (page_size.bytes() - 1) == 0
    }
}

impl fmt::Debug for Vaddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for Vaddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::LowerHex for Vaddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

/// A number of bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ByteLen(pub u64);

impl ByteLen {
    /// Returns the length as an index type, to slice a buffer that holds that many bytes.
    ///
    /// # Panics
    ///
    /// Panics where the length does not fit a `usize`, which no buffer in memory can exceed.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).expect("a buffer's length fits usize")
    }
}

/// A number of base pages.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct PageCount(pub u64);

impl PageCount {
    /// Returns how many bytes these pages take.
    pub fn bytes(self, page_size: PageSize) -> ByteLen {
        ByteLen(self.0 << page_size.shift())
    }
}

/// The size of a page: a power of two, 4 KiB at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct PageSize(u32);

impl PageSize {
    /// The smallest page any supported architecture has: 4 KiB.
    const SHIFT_MIN: u32 = 12;
    /// The largest huge page that is worth a name: 16 GiB (arm64 with 64 KiB pages).
    const SHIFT_MAX: u32 = 34;

    /// Makes a page size out of a number of bytes; `None` unless it is a power of two from
    /// 4 KiB to 16 GiB.
    pub fn new(bytes: u64) -> Option<Self> {
        let shift = bytes.trailing_zeros();
        (bytes.is_power_of_two() && (Self::SHIFT_MIN..=Self::SHIFT_MAX).contains(&shift))
            .then_some(Self(shift))
    }

    /// Returns the size in bytes.
    pub fn bytes(self) -> u64 {
        1 << self.0
    }

    /// Returns the size as an index type.
    pub fn as_usize(self) -> usize {
        ByteLen(self.bytes()).as_usize()
    }

    /// Returns the base-two logarithm of the size.
    pub fn shift(self) -> u32 {
        self.0
    }
}

impl From<PageSize> for u64 {
    fn from(size: PageSize) -> Self {
        size.bytes()
    }
}

impl TryFrom<u64> for PageSize {
    type Error = String;

    fn try_from(bytes: u64) -> Result<Self, Self::Error> {
        Self::new(bytes).ok_or_else(|| format!("{bytes} is not a page size"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_are_powers_of_two_in_bounds() {
        assert_eq!(PageSize::new(4096).map(PageSize::bytes), Some(4096));
        assert_eq!(PageSize::new(65536).map(PageSize::shift), Some(16));
        for wrong in [0, 1, 2048, 4097, 12288, 1 << 35, u64::MAX] {
            assert_eq!(PageSize::new(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn alignment_knows_the_end_of_the_address_space() {
        let size = PageSize::new(16384).unwrap();
        assert_eq!(Vaddr(16383).align_down(size), Vaddr(0));
        assert_eq!(Vaddr(16383).align_up(size), Some(Vaddr(16384)));
        assert_eq!(Vaddr(u64::MAX).align_up(size), None);
    }
}
