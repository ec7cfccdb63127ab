//! How mappings of a huge page by pieces might be counted: what was argued about, side by side.
//!
//! [`Machine::hgm_counts`] says what a design would count in the state that there is, and what follows
//! from it for whoever reads the counts.

use crate::entry::Entry;
use crate::file::{FileId, hugetlb};
use crate::machine::{Fd, Machine, Tid};
use crate::profile::HgmCounting;

/// The counts of one huge page under a design, and what they lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HgmCounts {
    /// References, the file's own included.
    pub references: u64,
    /// What `page_mapcount` says of the page.
    pub mapcount: u64,
    /// `smaps` takes it for shared (`page_mapcount` of 2 or more), and `MPOL_MF_MOVE` leaves it where it
    /// is.
    pub looks_shared: bool,
    /// How many counts change when the page is collapsed.
    pub collapse_work: u64,
    /// The pages that describe its pieces may be given back (HVO): no piece has a count of its own.
    pub saves_vmemmap: bool,
}

impl Machine {
    /// What a design counts for the huge page of a file at a page offset, as one of its pieces shows it.
    /// `None` where there is no page.
    pub fn hgm_counts(
        &self,
        tid: Tid,
        fd: Fd,
        index: u64,
        counting: HgmCounting,
    ) -> Option<HgmCounts> {
        let process = self.process(self.pid_of(tid).ok()?).ok()?;
        let crate::machine::Descriptor::File { file, .. } = process.descriptor(fd).ok()? else {
            return None;
        };
        let shift = self
            .world
            .files
            .get(file)
            .page_shift(self.world.page_shift());
        let pieces = 1_u64 << (shift - self.world.page_shift());
        let first = index & !(pieces - 1);
        self.world.files.get(file).page(first)?;
        let (whole, small, here, split) = self.entries_of(file, first, index, pieces);
        let all = whole + small;
        let (references, mapcount, collapse_work, saves_vmemmap) = match counting {
            HgmCounting::PerEntry => (1 + all, whole + split, small, true),
            HgmCounting::TotalReferences => (1 + all, all, small, true),
            HgmCounting::ThpLike => (1 + all, whole + here, 2 * small, false),
            HgmCounting::OneLogical => (1 + whole + split, whole + split, 0, true),
        };
        Some(HgmCounts {
            references,
            mapcount,
            looks_shared: mapcount > 1,
            collapse_work,
            saves_vmemmap,
        })
    }

    /// Huge entries, small ones, small ones of one piece, and huge pages in pieces that map a page.
    fn entries_of(
        &self,
        file: FileId,
        first: u64,
        index: u64,
        pieces: u64,
    ) -> (u64, u64, u64, u64) {
        let world = &self.world;
        let page_shift = world.page_shift();
        let (mut whole, mut small, mut here, mut split) = (0, 0, 0, 0);
        for pid in self.pids() {
            let Ok(process) = self.process(pid) else {
                continue;
            };
            for vma in process.mm.vmas.iter() {
                let behind = vma.pgoff + (vma.bytes() >> page_shift);
                if vma.file != Some(file) || first < vma.pgoff || first >= behind {
                    continue;
                }
                let start = vma.start + ((first - vma.pgoff) << page_shift);
                let place = hugetlb::find(world, &process.mm, &vma.view(), start);
                match place.map(|place| process.mm.tables.entry(place)) {
                    Some(Entry::Present(_)) => whole += 1,
                    Some(Entry::Table(_)) => {
                        let before = small;
                        for page in 0..pieces {
                            let at = start + (page << page_shift);
                            if let Entry::Present(_) = process.mm.tables.lookup(at).1 {
                                small += 1;
                                here += u64::from(first + page == index);
                            }
                        }
                        split += u64::from(small > before);
                    }
                    _ => {}
                }
            }
        }
        (whole, small, here, split)
    }
}
