//! A process that made a private mapping and finds the pool empty when it has to copy a page takes
//! the page from its children, who get SIGBUS from then on.
//!
//! The fault has only its own process at hand. It notes here what the others have to give up, and
//! they do so before anybody looks.
//!
//! Linux reference: 6.18, `mm/hugetlb.c` (`unmap_ref_private`).

use crate::entry::Entry;
use crate::file::FileId;
use crate::folio::Pfn;
use crate::machine::{Machine, Pid};
use crate::vma::VmaFlags;
use crate::zap::Zap;

/// A page that only one process keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Orphan {
    pub(crate) keeper: Pid,
    pub(crate) file: FileId,
    /// The page offset in the file, in base pages.
    pub(crate) index: u64,
    pub(crate) pfn: Pfn,
}

/// What is still to be given up.
pub(crate) type Orphans = Vec<Orphan>;

impl Machine {
    /// `unmap_ref_private`, for all that faults have left to do.
    #[inline]
    pub(crate) fn take_orphans(&mut self) {
        if !self.world.orphans.is_empty() {
            for orphan in std::mem::take(&mut self.world.orphans) {
                self.take_orphan(orphan);
            }
        }
    }

    fn take_orphan(&mut self, orphan: Orphan) {
        let (world, processes) = self.all();
        let page_shift = world.page_shift();
        for process in processes {
            let mm = &mut process.mm;
            if mm.pid == orphan.keeper {
                continue;
            }
            for at in 0..mm.vmas.len() {
                let vma = mm.vmas.at(at);
                let maps = vma.file == Some(orphan.file)
                    && !vma.has(VmaFlags::MAYSHARE)
                    && vma.reserve.is_none()
                    && vma.pgoff <= orphan.index
                    && orphan.index < vma.pgoff + (vma.bytes() >> page_shift);
                if !maps {
                    continue;
                }
                let view = vma.view();
                let addr = view.start + ((orphan.index - view.pgoff) << page_shift);
                let (_, entry) = mm.tables.lookup(addr);
                if matches!(entry, Entry::Present(present) if present.pfn == orphan.pfn) {
                    mm.vmas.at_mut(at).reserve_lost = true;
                    let end = addr + (1 << view.page_shift);
                    super::unmap_range(world, mm, &view, addr, end, Zap::DISCARD);
                }
            }
        }
    }
}
