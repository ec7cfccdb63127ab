//! Broken memory: `memory_failure` takes a page from all who map it, `soft_offline_page` gives them
//! another one in its place.
//!
//! The frame is never used again: the reference that the finder of the error took is kept for ever.
//!
//! Linux reference: 6.18, `mm/memory-failure.c`.

use space::Errno;

use crate::entry::{Bits, Entry, SwapBits};
use crate::fault::page_prot;
use crate::file::Cached;
use crate::file::hugetlb::hgm;
use crate::folio::{FolioFlags, FrameFlags, Owner, Pfn};
use crate::machine::{Machine, Mm, Tid, World};
use crate::profile::Kernel;
use crate::rmap;
use crate::stop::Signal;
use crate::thp;

impl Machine {
    /// `memory_failure` of a page that is no huge one of a pool. The caller has a reference of it.
    ///
    /// # Errors
    ///
    /// `EBUSY` for pages that nobody can be made to give up, `EHWPOISON` where the page is broken
    /// already, or a part of a huge page that can't be split.
    pub(crate) fn memory_failure(&mut self, tid: Tid, pfn: Pfn) -> Result<(), Errno> {
        if is_broken(&self.world, pfn) {
            return Err(self.already_broken(tid, pfn));
        }
        mark_broken(&mut self.world, pfn);
        if self.world.frames.folio(pfn).order > 0 && !self.split_everywhere(pfn) {
            // kill_procs_now
            self.signal_owner(tid, pfn)?;
            self.world.frames.put(pfn, 1);
            return Err(Errno::EHWPOISON);
        }
        if self.world.frames.folio(pfn).owner == Owner::Kernel {
            return Err(Errno::EBUSY);
        }
        let seen_at = self.address_of(tid, pfn)?;
        let (world, processes) = self.all();
        for process in processes {
            unmap(world, &mut process.mm, pfn);
        }
        let folio = world.frames.folio(pfn);
        let dirty = folio.flags.contains(FolioFlags::DIRTY);
        if folio.flags.contains(FolioFlags::SWAPCACHE) {
            if dirty {
                // me_swapcache_dirty: who comes back for it finds out.
                world.frames.folio_mut(pfn).flags -= FolioFlags::DIRTY;
            } else {
                crate::swap::forget(world, pfn);
            }
        }
        if let (true, Some(addr)) = (dirty, seen_at) {
            self.send_broken(tid, addr, self.world.page_shift())?;
        }
        Ok(())
    }

    /// `try_memory_failure_hugetlb`. The caller has a reference of the page.
    ///
    /// # Errors
    ///
    /// `EHWPOISON` where a part of the huge page is broken already; `EBUSY` where somebody else
    /// has a reference, or the pool can't spare the page.
    pub(crate) fn memory_failure_hugetlb(&mut self, tid: Tid, pfn: Pfn) -> Result<(), Errno> {
        let first = self.world.frames.folio(pfn).first;
        let pages = self.world.frames.folio(pfn).pages();
        if (0..pages).any(|page| is_broken(&self.world, first.plus(page))) {
            return Err(self.already_broken(tid, pfn));
        }
        mark_broken(&mut self.world, pfn);
        let seen_at = self.address_of(tid, first)?;
        let (world, processes) = self.all();
        for process in processes {
            for mapped in rmap::mappings(world, &process.mm, first) {
                if mapped.present.has(Bits::DIRTY) {
                    world.frames.folio_mut(first).flags |= FolioFlags::DIRTY;
                }
                if hgm::is_on(&mapped.vma) {
                    // Only the broken piece is lost.
                    if mapped.slot.level > 0 {
                        let (mm, vma) = (&mut process.mm, &mapped.vma);
                        hgm::split(world, mm, vma, mapped.addr, mapped.slot);
                    }
                    continue;
                }
                process.mm.tables.set(mapped.slot, Entry::Hwpoison(pfn));
                world.frames.remove_rmap_entire(first);
                world.frames.put(first, 1);
            }
            unmap(world, &mut process.mm, pfn);
        }
        let folio = world.frames.folio(first);
        let (dirty, references, order) = (
            folio.flags.contains(FolioFlags::DIRTY),
            folio.refcount,
            folio.order,
        );
        let shift = world.page_shift() + u32::from(order);
        let result = if folio.is_anon() {
            // The healthy pages go back to other memory, if the pool can spare the huge one.
            world.frames.put(first, 1);
            if references == 1 && world.frames.pools.dissolve(order) {
                Ok(())
            } else {
                Err(Errno::EBUSY)
            }
        } else if references > 1 + folio.cache_references() + folio.mapcount {
            Err(Errno::EBUSY)
        } else {
            // The file keeps it, so that nobody reads zeros in its place.
            Ok(())
        };
        if let (true, Some(addr)) = (dirty, seen_at) {
            self.send_broken(tid, addr, shift)?;
        }
        result
    }

    /// `soft_offline_page`: puts another page in the place of this one. The caller has a reference.
    ///
    /// # Errors
    ///
    /// `EIO` for pages that can't be moved, `EBUSY` for those that somebody else has a reference
    /// of, or that are a part of a huge page that can't be split.
    pub(crate) fn soft_offline(&mut self, pfn: Pfn) -> Result<(), Errno> {
        let folio = self.world.frames.folio(pfn);
        let hugetlb = folio.flags.contains(FolioFlags::HUGETLB);
        let (order, owner) = (folio.order, folio.owner);
        if is_broken(&self.world, pfn) {
            self.world.frames.put(pfn, 1);
            return Ok(());
        }
        if owner == Owner::Kernel {
            self.world.frames.put(pfn, 1);
            return Err(Errno::EIO);
        }
        if !hugetlb && order > 0 && !self.split_everywhere(pfn) {
            self.world.frames.put(pfn, 1);
            return Err(Errno::EBUSY);
        }
        let first = self.world.frames.folio(pfn).first;
        if !self.migrate(first) {
            self.world.frames.put(pfn, 1);
            return Err(Errno::EBUSY);
        }
        mark_broken(&mut self.world, pfn);
        if !hugetlb {
            return Ok(());
        }
        // The page that came in its place was one of the pool's if there was a free one; then the
        // old one comes back to the pool, and leaves it if that can be.
        let pool = self.world.frames.pools.of(order);
        if !pool.take(false) {
            self.world.frames.folio_mut(first).flags -= FolioFlags::HUGETLB;
            self.world.frames.put(first, 1);
            return Ok(());
        }
        self.world.frames.put(first, 1);
        if self.world.frames.pools.dissolve(order) {
            Ok(())
        } else {
            Err(Errno::EBUSY)
        }
    }

    /// `migrate_pages` of one folio, of which the caller has a reference: its bytes, mappings and
    /// place in a file go to a new one. Tells whether that could be done.
    fn migrate(&mut self, first: Pfn) -> bool {
        let (world, processes) = self.all();
        let folio = world.frames.folio(first).clone();
        let cached = matches!(folio.owner, Owner::File { .. });
        let cache = if cached { folio.cache_references() } else { 0 };
        let swap = u32::from(folio.flags.contains(FolioFlags::SWAPCACHE));
        if folio.refcount != folio.mapcount + cache + swap + 1 {
            return false;
        }
        let new = world.frames.alloc(folio.order, folio.owner);
        world.frames.folio_mut(new).flags = folio.flags;
        for page in 0..folio.pages() {
            world.frames.copy(first.plus(page), new.plus(page));
        }
        for process in processes {
            for mapped in rmap::mappings(world, &process.mm, first) {
                remap(world, &mut process.mm, &mapped, new);
            }
        }
        if let Owner::File { file, index } = folio.owner {
            let pages = &mut world.files.get_mut(file).pages;
            for page in 0..u64::from(cache) {
                pages.insert(index + page, Cached::Page(new.plus(page)));
            }
            world.frames.get(new, cache);
            world.frames.put(first, cache);
        }
        if swap > 0 {
            crate::swap::replace(world, first, new);
        }
        world.frames.folio_mut(first).owner = Owner::Kernel;
        // The new page was the caller's while nobody had it yet.
        world.frames.put(new, 1);
        true
    }

    /// `split_huge_page` of the folio around a page of which the caller has a reference: all who map
    /// it do so page by page from then on. Tells whether that could be done.
    pub(crate) fn split_everywhere(&mut self, pfn: Pfn) -> bool {
        let (world, processes) = self.all();
        let folio = world.frames.folio(pfn);
        let first = folio.first;
        let cached = matches!(folio.owner, Owner::File { .. });
        let pages = folio.pages();
        let cache = if cached { folio.cache_references() } else { 0 };
        if folio.owner == Owner::Kernel || folio.refcount != folio.mapcount + cache + 1 {
            return false;
        }
        for process in processes {
            for mapped in rmap::mappings(world, &process.mm, first) {
                if mapped.slot.level > 0 {
                    thp::split(world, &mut process.mm, mapped.slot);
                }
            }
            // Pages of files are not mapped again behind the split.
            for page in (0..pages).filter(|_| cached) {
                thp::unmap_small(world, &mut process.mm, first.plus(page));
            }
        }
        thp::split_mapped(world, pfn);
        true
    }

    /// `kill_accessing_process` for a page that was broken before; gives the caller's reference
    /// back.
    fn already_broken(&mut self, tid: Tid, pfn: Pfn) -> Errno {
        let told = self.signal_owner(tid, pfn);
        self.world.frames.put(pfn, 1);
        match told {
            Ok(true) => Errno::EHWPOISON,
            _ => Errno::EFAULT,
        }
    }

    /// Tells a thread that a page which its process maps is broken; tells whether it maps it.
    fn signal_owner(&mut self, tid: Tid, pfn: Pfn) -> Result<bool, Errno> {
        let shift = self.world.page_shift() + u32::from(self.world.frames.folio(pfn).order);
        match self.address_of(tid, pfn)? {
            Some(addr) => self.send_broken(tid, addr, shift).map(|()| true),
            None => Ok(false),
        }
    }

    /// Where a thread's process maps a page.
    fn address_of(&mut self, tid: Tid, pfn: Pfn) -> Result<Option<u64>, Errno> {
        let (world, process) = self.halves(tid)?;
        let mapped = rmap::mappings(world, &process.mm, pfn);
        Ok(mapped.first().map(|mapped| mapped.addr))
    }

    /// `kill_proc`: the thread that found the error gets SIGBUS when its call is done.
    fn send_broken(&mut self, tid: Tid, addr: u64, shift: u32) -> Result<(), Errno> {
        if self.world.profile.kernel < Kernel::V6_12 {
            return Ok(());
        }
        let signal = Signal::BusMceerrAr { lsb: shift };
        self.task_mut(tid)?.pending.get_or_insert((signal, addr));
        Ok(())
    }

    /// The signal that a thread's last call sent to it, with its address: injecting an error does.
    pub fn take_signal(&mut self, tid: Tid) -> Option<(Signal, u64)> {
        self.task_mut(tid).ok()?.pending.take()
    }
}

pub(crate) fn is_broken(world: &World, pfn: Pfn) -> bool {
    let flags = world.frames.frame(pfn).flags;
    flags.contains(FrameFlags::HWPOISON)
}

fn mark_broken(world: &mut World, pfn: Pfn) {
    world.frames.frame_mut(pfn).flags |= FrameFlags::HWPOISON;
}

/// `unmap_poisoned_folio`: entries say that the page is broken; those of a page that is in the swap
/// cache, where it is on the swap device.
fn unmap(world: &mut World, mm: &mut Mm, pfn: Pfn) {
    for mapped in rmap::mappings(world, mm, pfn) {
        let present = mapped.present;
        if present.has(Bits::DIRTY) {
            world.frames.folio_mut(pfn).flags |= FolioFlags::DIRTY;
        }
        let left = match crate::swap::slot_of(world, pfn) {
            Some(slot) => {
                world.swap.get(slot);
                let mut bits = SwapBits::empty();
                bits.set(SwapBits::SOFT_DIRTY, present.has(Bits::SOFT_DIRTY));
                bits.set(SwapBits::UFFD_WP, present.has(Bits::UFFD_WP));
                bits.set(SwapBits::EXCLUSIVE, world.frames.is_exclusive(pfn));
                Entry::Swap { slot, bits }
            }
            None => Entry::Hwpoison(pfn),
        };
        mm.tables.set(mapped.slot, left);
        world.frames.remove_rmap(pfn);
        world.frames.put(pfn, 1);
    }
    world.frames.set_exclusive(pfn, false);
}

/// `try_to_migrate_one` and `remove_migration_pte` in one: an entry maps the new page as it did the
/// old one.
fn remap(world: &mut World, mm: &mut Mm, mapped: &rmap::Mapped, new: Pfn) {
    let kept =
        Bits::WRITE | Bits::YOUNG | Bits::DIRTY | Bits::SOFT_DIRTY | Bits::UFFD_WP | Bits::HUGE;
    let old = mapped.present;
    let mut moved = old;
    moved.pfn = new;
    moved.bits = (old.bits & kept) | page_prot(world, &mapped.vma);
    if old.has(Bits::UFFD_WP) {
        moved = moved.mkuffd_wp();
    }
    let exclusive = world.frames.is_exclusive(old.pfn);
    mm.tables.set_present(mapped.slot, moved);
    world.frames.get(new, 1);
    if old.has(Bits::HUGE) {
        world.frames.add_rmap_entire(new);
        world.frames.remove_rmap_entire(old.pfn);
    } else {
        world.frames.add_rmap(new);
        world.frames.remove_rmap(old.pfn);
    }
    world.frames.set_exclusive(new, exclusive);
    world.frames.set_exclusive(old.pfn, false);
    world.frames.put(old.pfn, 1);
}
