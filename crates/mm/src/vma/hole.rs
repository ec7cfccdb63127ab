//! The search for addresses that nobody uses.
//!
//! Which of several free ranges a kernel takes is its own affair, and random besides; so a caller
//! that compares with a kernel says which one that took, and this is used where nobody says.
//!
//! Linux reference: 6.18, `mm/mmap.c` (`generic_get_unmapped_area_topdown`).

use super::VmaMap;

/// The highest free range of `len` bytes in `low..high`, aligned to `align`.
pub(crate) fn topdown(vmas: &VmaMap, len: u64, align: u64, low: u64, high: u64) -> Option<u64> {
    let mut end = high;
    let index = vmas.find_index(high);
    let from = if vmas.get(index).is_some_and(|vma| vma.start < high) {
        index + 1
    } else {
        index
    };
    for vma in vmas.list[..from].iter().rev() {
        if let Some(start) = fits(vma.end.max(low), end, len, align) {
            return Some(start);
        }
        end = end.min(vma.start);
        if end <= low {
            return None;
        }
    }
    fits(low, end, len, align)
}

fn fits(low: u64, end: u64, len: u64, align: u64) -> Option<u64> {
    let start = end.checked_sub(len)? & !(align - 1);
    (start >= low).then_some(start)
}
