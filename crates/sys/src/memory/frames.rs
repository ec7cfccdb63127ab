//! Which frames of memory lie behind addresses: samples, to notice page tables that were moved.

use crate::uapi::pagemap::{PM_FILE, PM_FRAME, PM_MMAP_EXCLUSIVE, PM_PRESENT, PM_SOFT_DIRTY};

/// Samples of each page table: one may be gone the next time.
const SAMPLES: usize = 4;

/// Pages and the frames behind them, by ascending numbers of pages.
#[derive(Debug, Default)]
pub(super) struct Frames(Vec<(u64, u64)>);

impl Frames {
    /// Takes samples of the pages from number `first` on, which lie behind all known ones.
    pub(super) fn keep(&mut self, first: u64, entries: &[[u8; 8]]) {
        let present = (first..)
            .zip(entries)
            .filter_map(|(page, entry)| Some((page, private_frame(*entry)?)));
        // The first ones there are, and one from the end.
        let mut samples = present.clone().take(SAMPLES - 1);
        self.0.extend(samples.by_ref());
        self.0
            .extend(present.last().filter(|last| self.0.last() != Some(last)));
    }

    /// Tells whether the pages from number `first` on may have been moved there: none of the
    /// samples is where it was. Where there were none, any page may have been. A page proves nothing
    /// if it is shared (the page of zeros may lie in both tables), or if it was written (it may be
    /// a new one, in a frame that was given back).
    pub(super) fn may_have_moved(&self, first: u64, entries: &[[u8; 8]]) -> bool {
        let from = self.0.partition_point(|&(page, _)| page < first);
        let until = first + entries.len() as u64;
        let mut samples = self.0[from..].iter().take_while(|&&(page, _)| page < until);
        !samples.any(|&(page, known)| {
            let index = usize::try_from(page - first).expect("a page of the slice");
            let proves = PM_MMAP_EXCLUSIVE | PM_SOFT_DIRTY;
            private_frame(entries[index]) == Some(known)
                && u64::from_ne_bytes(entries[index]) & proves == PM_MMAP_EXCLUSIVE
        })
    }
}

/// The frame behind a page that is there; 0 where frames may not be seen.
pub(super) fn frame(entry: [u8; 8]) -> Option<u64> {
    let entry = u64::from_ne_bytes(entry);
    (entry & PM_PRESENT != 0).then_some(entry & PM_FRAME)
}

/// The frame behind a page, if it is no file's: such a one may lie in two tables. Pages may be shared
/// with a forked child when samples are taken.
fn private_frame(entry: [u8; 8]) -> Option<u64> {
    frame(entry).filter(|_| u64::from_ne_bytes(entry) & PM_FILE == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(frames: &[u64]) -> Vec<[u8; 8]> {
        let entry = |&frame| match frame {
            0 => 0,
            frame => PM_PRESENT | PM_MMAP_EXCLUSIVE | frame,
        };
        frames.iter().map(entry).map(u64::to_ne_bytes).collect()
    }

    #[test]
    fn a_frame_that_may_lie_behind_other_pages_is_no_proof() {
        let mut frames = Frames::default();
        let zeros = (PM_PRESENT | 1).to_ne_bytes();
        let file = (PM_PRESENT | PM_FILE | PM_MMAP_EXCLUSIVE | 2).to_ne_bytes();
        let own = |frame: u64| (PM_PRESENT | PM_MMAP_EXCLUSIVE | frame).to_ne_bytes();
        // What is shared with a child when samples are taken may be the process's own again.
        for page in [own(7), (PM_PRESENT | 7).to_ne_bytes()] {
            frames.0.clear();
            frames.keep(0, &[zeros, file, page]);
            assert!(frames.may_have_moved(0, &[zeros, file, own(8)]));
            assert!(!frames.may_have_moved(0, &[zeros, file, own(7)]));
        }
    }

    #[test]
    fn a_written_page_is_no_proof() {
        let mut frames = Frames::default();
        frames.keep(0, &entries(&[7]));
        let written = PM_PRESENT | PM_MMAP_EXCLUSIVE | PM_SOFT_DIRTY | 7;
        assert!(frames.may_have_moved(0, &[written.to_ne_bytes()]));
    }

    #[test]
    fn a_table_is_known_by_any_of_its_samples() {
        let mut frames = Frames::default();
        frames.keep(100, &entries(&[0, 7, 8, 9, 10, 0, 11, 0]));
        frames.keep(108, &entries(&[0, 0]));
        assert_eq!(frames.0, [(101, 7), (102, 8), (103, 9), (106, 11)]);
        for (now, moved) in [
            ([0, 7, 8, 9, 10, 0, 11, 0], false),
            ([0, 0, 0, 0, 0, 0, 11, 0], false),
            ([5, 8, 7, 6, 10, 0, 12, 0], true),
            ([0, 0, 0, 0, 0, 0, 0, 0], true),
        ] {
            assert_eq!(frames.may_have_moved(100, &entries(&now)), moved, "{now:?}");
        }
        assert!(
            frames.may_have_moved(108, &entries(&[7, 8])),
            "nothing was known"
        );
    }

    #[test]
    fn a_single_page_is_one_sample() {
        let mut frames = Frames::default();
        frames.keep(5, &entries(&[3]));
        assert_eq!(frames.0, [(5, 3)]);
        assert!(!frames.may_have_moved(5, &entries(&[3])));
        assert!(frames.may_have_moved(5, &entries(&[4])));
    }
}
