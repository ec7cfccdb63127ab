//! Whether all pinned memory is accounted for.

use space::{ByteLen, PageRange, PageSize};

/// Returns how much of the memory that `VmPin` counts is not explained by `known` buffers.
///
/// The kernel counts the pages of each buffer, but a huge page only once and in whole, however
/// little of it a buffer covers: such a buffer explains up to one huge page more at each end, if
/// `huge` says that it lies in memory of that page size.
pub fn unaccounted_pins(
    pinned: ByteLen,
    known: &[PageRange],
    huge: impl Fn(PageRange) -> Option<PageSize>,
) -> ByteLen {
    let explained: u64 = known
        .iter()
        .map(|&range| match huge(range) {
            Some(size) => whole_pages(range, size),
            None => range.len().0,
        })
        .fold(0, u64::saturating_add);
    ByteLen(pinned.0.saturating_sub(explained))
}

/// Returns the bytes of the huge pages that `range` touches.
fn whole_pages(range: PageRange, size: PageSize) -> u64 {
    let start = range.start().align_down(size).0;
    let end = range.end().align_up(size).unwrap_or(range.end()).0;
    end - start
}

#[cfg(test)]
mod tests {
    use space::Vaddr;

    use super::*;

    fn range(start: u64, end: u64) -> PageRange {
        PageRange::new(Vaddr(start), Vaddr(end)).unwrap()
    }

    #[test]
    fn what_no_buffer_explains() {
        let known = [range(0x1000, 0x3000), range(0x8000, 0x9000)];
        for (pinned, left) in [(0, 0), (0x2000, 0), (0x3000, 0), (0x4000, 0x1000)] {
            assert_eq!(
                unaccounted_pins(ByteLen(pinned), &known, |_| None),
                ByteLen(left)
            );
        }
    }

    #[test]
    fn a_huge_page_is_counted_whole() {
        let known = [range(0x20_1000, 0x20_2000)];
        let huge = |_| PageSize::new(2 << 20);
        assert_eq!(unaccounted_pins(ByteLen(2 << 20), &known, huge), ByteLen(0));
        assert_eq!(
            unaccounted_pins(ByteLen(4 << 20), &known, huge),
            ByteLen(2 << 20)
        );
    }
}
