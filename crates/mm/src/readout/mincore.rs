//! `mincore`.
//!
//! Linux reference: 6.18, `mm/mincore.c` (`mincore_pte_range`, `__mincore_unmapped_range`).

use space::Errno;

use crate::entry::Entry;
use crate::file::Cached;
use crate::folio::FolioFlags;
use crate::machine::{Machine, Mm, Tid, World};
use crate::table::PMD;
use crate::vma::Vma;

impl Machine {
    /// Which pages of a range are in memory: a byte for each, 0 or 1.
    ///
    /// # Errors
    ///
    /// `EINVAL` where the start is not aligned, `ENOMEM` where a part is not mapped.
    pub fn mincore(&self, tid: Tid, start: u64, len: u64) -> Result<Vec<u8>, Errno> {
        let world = &self.world;
        let mm = &self.process(self.pid_of(tid)?)?.mm;
        if world.offset_in_page(start) != 0 {
            return Err(Errno::EINVAL);
        }
        let task_size = world.profile.arch.task_size();
        if len > task_size || start > task_size - len {
            return Err(Errno::ENOMEM);
        }
        let pages = len.div_ceil(world.page_size());
        let mut vec = Vec::new();
        for page in 0..pages {
            let addr = start + (page << world.page_shift());
            let vma = mm.vmas.lookup(addr).ok_or(Errno::ENOMEM)?;
            vec.push(u8::from(in_memory(world, mm, vma, addr)));
        }
        Ok(vec)
    }
}

fn in_memory(world: &World, mm: &Mm, vma: &Vma, addr: u64) -> bool {
    let (slot, entry) = mm.tables.lookup(addr);
    match entry {
        Entry::Present(_) | Entry::Hwpoison(_) | Entry::Migration { .. } => true,
        // Where there is no table, the walk asks the file (`mincore_unmapped_range`).
        Entry::None if vma.is_hugetlb() && slot.level > PMD => is_cached_huge(world, vma, addr),
        Entry::None | Entry::Table(_) | Entry::Marker(_) if vma.is_hugetlb() => false,
        Entry::None | Entry::Table(_) | Entry::Marker(_) => vma.file.is_some_and(|file| {
            let index = vma.index_of(addr, world.page_shift());
            match world.files.get(file).pages.get(&index) {
                Some(Cached::Page(pfn)) => {
                    let flags = world.frames.folio(*pfn).flags;
                    flags.contains(FolioFlags::UPTODATE)
                }
                Some(Cached::Swap(slot)) => world.swap.is_cached(*slot),
                None => false,
            }
        }),
        Entry::Swap { slot, .. } => world.swap.is_cached(slot),
    }
}

/// `mincore_page` for a file of huge pages.
fn is_cached_huge(world: &World, vma: &Vma, addr: u64) -> bool {
    let huge = (1_u64 << (vma.page_shift - world.page_shift())) - 1;
    let index = vma.index_of(addr, world.page_shift()) & !huge;
    vma.file.is_some_and(|file| {
        let page = world.files.get(file).page(index);
        page.is_some_and(|pfn| {
            let flags = world.frames.folio(pfn).flags;
            flags.contains(FolioFlags::UPTODATE)
        })
    })
}
