//! Filling ranges of hugetlb mappings (`mfill_atomic_hugetlb`, `hugetlb_mfill_atomic_pte`).

use space::Errno;

use super::fill::{Source, Target, What};
use crate::entry::{Bits, Entry, Marker};
use crate::file::FileId;
use crate::file::hugetlb::{self, reserve};
use crate::folio::{FrameFlags, Pfn};
use crate::machine::{Machine, Mm, Pid, World};
use crate::stop::Stop;
use crate::table::Slot;
use crate::vma::{View, VmaFlags};

/// Where one huge page is put.
struct Place<'a> {
    vma: &'a View,
    file: FileId,
    addr: u64,
    slot: Slot,
    protection: VmaFlags,
}

impl Place<'_> {
    /// The page offset in the file, in base pages.
    fn index(&self, world: &World) -> u64 {
        self.vma.index_of(self.addr, world.page_shift())
    }

    fn is_shared(&self) -> bool {
        self.vma.has(VmaFlags::SHARED)
    }

    /// `hugetlbfs_pagecache_present`, for mappings that show the file.
    fn is_cached(&self, world: &World, index: u64) -> bool {
        self.is_shared() && world.files.get(self.file).pages.contains_key(&index)
    }
}

/// Puts one huge page; `source` is asked for each of its base pages.
pub(super) fn put(
    machine: &mut Machine,
    pid: Pid,
    vma: &View,
    target: &Target,
    addr: u64,
    done: u64,
    source: &mut impl FnMut(&mut Machine, u64) -> Result<Source, Stop>,
) -> Result<(), Stop> {
    let (world, process) = machine.halves_of(pid)?;
    let mm = &mut process.mm;
    let place = Place {
        vma,
        file: vma.file.expect("hugetlb has a file"),
        addr,
        slot: hugetlb::slot(world, mm, vma, addr),
        protection: target.protection,
    };
    let entry = mm.tables.entry(place.slot);
    let taken = !matches!(entry, Entry::None | Entry::Marker(_));
    match target.what {
        What::Cache => return put_cached(world, mm, &place, taken).map_err(Stop::Failed),
        // There is no huge page of zeros to map.
        What::Zero => return Err(Errno::EINVAL.into()),
        What::Poison if entry == Entry::None => {
            mm.tables.set(place.slot, Entry::Marker(Marker::POISONED));
            return Ok(());
        }
        What::Bytes if !taken => {}
        What::Poison | What::Bytes => return Err(Errno::EEXIST.into()),
    }
    let first = place.index(world);
    if place.is_cached(world, first) {
        return Err(Errno::EEXIST.into());
    }
    let mut pfn = reserve::alloc(world, vma, addr, false).ok_or(Errno::ENOMEM)?;
    if !source_is_there(machine, target, done, 1 << vma.page_shift)? {
        // The source has faults, which are for after the locks: into a page that is taken for the
        // time being, and then all is looked at again.
        let world = &mut machine.world;
        give_back(world, vma, addr, pfn);
        // Without a free one, a page is made that was never the pool's (`hugetlb_temporary`).
        let beside = reserve::alloc(world, vma, addr, true);
        let pages = 1_u64 << (vma.page_shift - world.page_shift());
        let page_size = world.page_size();
        let mut read = (0..pages).map(|page| source(machine, done + page * page_size).map(drop));
        let result: Result<(), Stop> = read.try_for_each(|read| read);
        drop(read);
        if let Some(beside) = beside {
            machine.world.frames.put(beside, 1);
        }
        result?;
        let (world, process) = machine.halves_of(pid)?;
        let entry = process.mm.tables.entry(place.slot);
        let taken = !matches!(entry, Entry::None | Entry::Marker(_));
        if taken || place.is_cached(world, first) {
            return Err(Errno::EEXIST.into());
        }
        pfn = reserve::alloc(world, vma, addr, false).ok_or(Errno::ENOMEM)?;
    }
    let result = copy_in(machine, pfn, done, source);
    let (world, process) = machine.halves_of(pid)?;
    let result = result.and_then(|()| {
        let size = world.files.get(place.file).size >> vma.page_shift << vma.page_shift;
        if place.is_shared() && first << world.page_shift() >= size {
            return Err(Errno::EFAULT.into());
        }
        Ok(())
    });
    if result.is_err() {
        give_back(world, vma, addr, pfn);
        return result;
    }
    if place.is_shared() {
        hugetlb::add_to_cache(world, place.file, first, pfn);
        world.frames.get(pfn, 1);
        world.frames.add_rmap_entire(pfn);
    } else {
        hugetlb::add_anon_rmap(world, vma, addr, pfn);
    }
    install(world, &mut process.mm, &place, pfn, true);
    Ok(())
}

/// Tells whether all bytes of a page's source can be read without a fault.
fn source_is_there(
    machine: &mut Machine,
    target: &Target,
    done: u64,
    len: u64,
) -> Result<bool, Errno> {
    let Some((tid, start)) = target.source else {
        return Ok(true);
    };
    let (world, process) = machine.halves(tid)?;
    let page_size = world.page_size();
    let first = (start + done) & !(page_size - 1);
    let mut at = first;
    while at < start + done + len {
        if crate::access::readable(world, &mut process.mm, at).is_none() {
            return Ok(false);
        }
        at += page_size;
    }
    Ok(true)
}

/// A page that was taken for an address is not used after all.
fn give_back(world: &mut World, vma: &View, addr: u64, pfn: Pfn) {
    reserve::restore_on_error(world, vma, addr, pfn);
    world.frames.put(pfn, 1);
}

/// `copy_folio_from_user`.
fn copy_in(
    machine: &mut Machine,
    pfn: Pfn,
    done: u64,
    source: &mut impl FnMut(&mut Machine, u64) -> Result<Source, Stop>,
) -> Result<(), Stop> {
    let page_size = machine.world.page_size();
    for page in 0..machine.world.frames.folio(pfn).pages() {
        let Source::Bytes(content) = source(machine, done + page * page_size)? else {
            return Err(Errno::EINVAL.into());
        };
        machine.world.frames.frame_mut(pfn.plus(page)).content = content;
    }
    Ok(())
}

/// `UFFDIO_CONTINUE`: maps what the file has there.
fn put_cached(world: &mut World, mm: &mut Mm, place: &Place<'_>, taken: bool) -> Result<(), Errno> {
    let index = place.index(world);
    let pfn = world
        .files
        .get(place.file)
        .page(index)
        .ok_or(Errno::EFAULT)?;
    let broken = (0..world.frames.folio(pfn).pages()).any(|page| {
        let frame = world.frames.frame(pfn.plus(page));
        frame.flags.contains(FrameFlags::HWPOISON)
    });
    if broken {
        return Err(Errno::EIO);
    }
    if taken {
        return Err(Errno::EEXIST);
    }
    world.frames.get(pfn, 1);
    world.frames.add_rmap_entire(pfn);
    install(world, mm, place, pfn, place.is_shared());
    Ok(())
}

fn install(world: &World, mm: &mut Mm, place: &Place<'_>, pfn: Pfn, write: bool) {
    let mut entry = hugetlb::make_entry(world, place.vma, pfn, write).with(Bits::DIRTY, true);
    if !place.protection.is_empty() {
        entry = entry.mkuffd_wp();
    }
    if place.protection.contains(VmaFlags::UFFD_RWP) {
        entry = entry.with(Bits::PROT_NONE, true);
    }
    mm.tables.set_present(place.slot, entry);
}
