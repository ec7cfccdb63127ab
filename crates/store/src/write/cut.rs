//! Cutting a run of pages into chunks and zeros.

use space::{PageRange, PageSize};

use crate::format::CHUNK_PAGES_MAX;

/// A part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// The first page's number.
    pub(super) start: u64,
    /// Pages of it.
    pub(super) pages: u32,
    /// Whether all bytes are zero.
    pub(super) zeros: bool,
}

/// Cuts a run at the bounds of groups of 16 pages and wherever zeros begin or end; zeros are not
/// cut at groups.
pub(super) fn cut(range: PageRange, bytes: &[u8], page_size: PageSize) -> Vec<Cut> {
    let group = u64::from(CHUNK_PAGES_MAX);
    let mut cuts: Vec<Cut> = Vec::new();
    let first = range.start().0 >> page_size.shift();
    for (page, content) in (first..).zip(bytes.chunks_exact(page_size.as_usize())) {
        let zeros = is_zero(content);
        match cuts.last_mut() {
            Some(last) if last.zeros == zeros && (zeros || !page.is_multiple_of(group)) => {
                last.pages += 1;
            }
            _ => cuts.push(Cut {
                start: page,
                pages: 1,
                zeros,
            }),
        }
    }
    cuts
}

/// Tells whether all bytes are zero. Pages that are not mostly show it in the first line.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    const LINE: usize = 128;
    bytes
        .chunks(LINE)
        .all(|line| line.iter().fold(0, |all, byte| all | byte) == 0)
}

#[cfg(test)]
mod tests {
    use space::Vaddr;

    use super::*;

    #[test]
    fn cuts_at_groups_and_at_zeros() {
        let page_size = PageSize::new(4096).unwrap();
        let mut bytes = vec![1; 24 * 4096];
        bytes[4 * 4096..6 * 4096].fill(0);
        bytes[20 * 4096..].fill(0);
        let range = PageRange::new(Vaddr(14 * 4096), Vaddr(38 * 4096)).unwrap();
        let found: Vec<_> = cut(range, &bytes, page_size)
            .into_iter()
            .map(|cut| (cut.start, cut.pages, cut.zeros))
            .collect();
        let want = [
            (14, 2, false),
            (16, 2, false),
            (18, 2, true),
            (20, 12, false),
            (32, 2, false),
            (34, 4, true),
        ];
        assert_eq!(found, want);
        bytes[24 * 4096 - 1] = 1;
        assert!(!cut(range, &bytes, page_size).last().unwrap().zeros);
    }
}
