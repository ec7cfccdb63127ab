//! `MADV_COLLAPSE` of memory that is a file's (`hpage_collapse_scan_file`, `collapse_file`,
//! `collapse_pte_mapped_thp`).
//!
//! Two steps: the page cache gets one huge page in the place of many, which takes the old ones out
//! of all page tables; then the caller maps the new one by a huge entry.

use space::Errno;

use super::collapse::Refusal;
use crate::entry::{Bits, Entry};
use crate::file::{Cached, FileId, drop_cached, shmem};
use crate::folio::{FolioFlags, Owner, Pfn};
use crate::machine::{Machine, Mm, Pid, World};
use crate::table::{PMD, Slot};
use crate::thp;
use crate::vma::{View, VmaFlags};

impl Machine {
    /// Makes one huge page of what the file has behind `addr`, and maps it there.
    pub(super) fn collapse_file(
        &mut self,
        pid: Pid,
        vma: &View,
        file: FileId,
        addr: u64,
    ) -> Result<(), Refusal> {
        let first = vma.index_of(addr, self.world.page_shift());
        let order = thp::order(&self.world);
        let cached = self.world.files.get(file).page(first);
        let is_huge = cached.is_some_and(|pfn| {
            let folio = self.world.frames.folio(pfn);
            folio.order == order && folio.first == pfn
        });
        if !is_huge {
            scan(&self.world, file, first)?;
            self.unmap_pages(file, first);
            self.check_missing(file, first)?;
            replace(&mut self.world, file, first);
            self.retract_tables(file, first);
        }
        let (world, process) = self.halves_of(pid).map_err(Refusal::Ends)?;
        map_huge(world, &mut process.mm, vma, file, addr)
    }

    /// Takes the pages of one huge page to be out of all page tables.
    fn unmap_pages(&mut self, file: FileId, first: u64) {
        let pages = 1_u64 << thp::order(&self.world);
        let cached: Vec<Pfn> = (first..first + pages)
            .filter_map(|index| self.world.files.get(file).page(index))
            .collect();
        let (world, processes) = self.all();
        for process in processes {
            for &pfn in &cached {
                thp::unmap_small(world, &mut process.mm, pfn);
            }
        }
    }

    /// Where a page is missing and somebody wants to hear of it, none may come silently.
    fn check_missing(&mut self, file: FileId, first: u64) -> Result<(), Refusal> {
        let pages = 1_u64 << thp::order(&self.world);
        let there = self.world.files.get(file).pages.range(first..first + pages);
        if u64::try_from(there.count()) == Ok(pages) {
            return Ok(());
        }
        let page_shift = self.world.page_shift();
        let (_, mut processes) = self.all();
        // The kernel looks one page too far.
        let is_armed = processes.any(|process| {
            process.mm.vmas.iter().any(|vma| {
                let behind = vma.pgoff + (vma.bytes() >> page_shift);
                let meets = vma.pgoff <= first + pages && first < behind;
                vma.file == Some(file) && meets && vma.has(VmaFlags::UFFD_MISSING)
            })
        });
        if is_armed {
            Err(Refusal::Ends(Errno::EBUSY))
        } else {
            Ok(())
        }
    }

    /// `retract_page_tables`: whoever can map the huge page as a whole gets rid of the table.
    fn retract_tables(&mut self, file: FileId, first: u64) {
        let size = self.world.profile.geometry().pmd_size();
        let page_shift = self.world.page_shift();
        let (_, processes) = self.all();
        for process in processes {
            let mm = &mut process.mm;
            let starts: Vec<u64> = mm
                .vmas
                .iter()
                .filter(|vma| vma.file == Some(file) && vma.anon_vma.is_none())
                .filter(|vma| {
                    !vma.flags
                        .intersects(VmaFlags::UFFD_WP | VmaFlags::MAYBE_GUARD)
                })
                .filter(|vma| vma.pgoff <= first)
                .map(|vma| (vma.start + ((first - vma.pgoff) << page_shift), vma.end))
                .filter(|&(addr, end)| addr & (size - 1) == 0 && addr + size <= end)
                .map(|(addr, _)| addr)
                .collect();
            for addr in starts {
                drop_table(mm, addr);
            }
        }
    }
}

/// Frees the table of a huge page's addresses with the markers that are left in it.
fn drop_table(mm: &mut Mm, addr: u64) {
    let Some(place) = mm.tables.find(addr, 0) else {
        return;
    };
    for index in 0..mm.tables.geometry().entries() {
        mm.tables.set(Slot { index, ..place }, Entry::None);
    }
    mm.tables.free_if_empty(addr);
}

/// `hpage_collapse_scan_file`: what is in the way.
fn scan(world: &World, file: FileId, first: u64) -> Result<(), Refusal> {
    let pages = 1_u64 << thp::order(world);
    let mut there = world.files.get(file).pages.range(first..first + pages);
    let mut empty = true;
    there.try_for_each(|(_, cached)| {
        empty = false;
        let Cached::Page(pfn) = cached else {
            return Ok(());
        };
        let folio = world.frames.folio(*pfn);
        let alone = folio.refcount == folio.mapcount + folio.cache_references();
        if alone && !crate::failure::is_broken(world, *pfn) {
            Ok(())
        } else {
            Err(Refusal::Here(Errno::EAGAIN))
        }
    })?;
    if empty {
        // SCAN_TRUNCATED
        return Err(Refusal::Ends(Errno::EINVAL));
    }
    Ok(())
}

/// The part of `collapse_file` that puts the huge page into the page cache.
fn replace(world: &mut World, file: FileId, first: u64) {
    let order = thp::order(world);
    let pages = 1_u64 << order;
    let owner = Owner::File { file, index: first };
    let huge = world.frames.alloc(order, owner);
    for page in 0..pages {
        let index = first + page;
        if world.files.get(file).pages.contains_key(&index) {
            let old = shmem::get_or_make(world, file, index);
            world.frames.copy(old, huge.plus(page));
            drop_cached(world, index, Cached::Page(old));
        }
        let cached = Cached::Page(huge.plus(page));
        world.files.get_mut(file).pages.insert(index, cached);
    }
    let folio = world.frames.folio_mut(huge);
    folio.flags |= FolioFlags::UPTODATE | FolioFlags::DIRTY;
    // The first reference of the cache is that of the allocation.
    let others = folio.cache_references() - 1;
    world.frames.get(huge, others);
}

/// `collapse_pte_mapped_thp`.
fn map_huge(
    world: &mut World,
    mm: &mut Mm,
    vma: &View,
    file: FileId,
    addr: u64,
) -> Result<(), Refusal> {
    let first = vma.index_of(addr, world.page_shift());
    let at = mm.tables.walk(addr, PMD);
    if let Entry::Present(_) = mm.tables.entry(at) {
        return Ok(());
    }
    if at.level > PMD && !world.profile.collapse_makes_tables {
        return Err(Refusal::Here(Errno::EINVAL));
    }
    if vma.has(VmaFlags::UFFD_WP) {
        return Err(Refusal::Here(Errno::EINVAL));
    }
    let Some(pfn) = world.files.get(file).page(first) else {
        return Err(Refusal::Here(Errno::EINVAL));
    };
    if let Some(place) = mm.tables.find(addr, 0) {
        clear_small(world, mm, place, pfn)?;
        mm.tables.free_if_empty(addr);
    }
    if thp::map_file(world, mm, vma, addr, pfn, false) {
        Ok(())
    } else {
        Err(Refusal::Ends(Errno::EINVAL))
    }
}

/// Takes the small entries of a huge page out, if they are all of it.
fn clear_small(world: &mut World, mm: &mut Mm, first: Slot, pfn: Pfn) -> Result<(), Refusal> {
    let entries = mm.tables.geometry().entries();
    for index in 0..entries {
        match mm.tables.entry(Slot { index, ..first }) {
            Entry::None => {}
            Entry::Present(present) => {
                let page = u64::try_from(index).expect("few entries");
                if present.has(Bits::SPECIAL) || present.pfn != pfn.plus(page) {
                    return Err(Refusal::Ends(Errno::EINVAL));
                }
            }
            _ => return Err(Refusal::Here(Errno::EINVAL)),
        }
    }
    for index in 0..entries {
        let slot = Slot { index, ..first };
        if let Entry::Present(present) = mm.tables.entry(slot) {
            mm.tables.set(slot, Entry::None);
            crate::zap::unmap_page(world, present);
        }
    }
    Ok(())
}
