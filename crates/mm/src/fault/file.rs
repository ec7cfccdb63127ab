//! A page of a file that is not there (`do_read_fault`, `do_cow_fault`, `do_shared_fault`).

use super::{Fault, FaultStop, anon, mkdirty, uffd};
use crate::entry::{Bits, Entry, Present};
use crate::file::{FileId, shmem};
use crate::folio::{FolioFlags, FrameFlags, Pfn};
use crate::profile::Kernel;
use crate::thp;
use crate::vma::VmaFlags;

pub(super) fn fault(fault: &mut Fault<'_>, file: FileId) -> Result<(), FaultStop> {
    if !fault.is_write() {
        if fault_around(fault, file) {
            return Ok(());
        }
        let pfn = find_page(fault, file)?;
        map_folio(fault, pfn);
        return Ok(());
    }
    if !fault.vma.has(VmaFlags::SHARED) {
        return cow_fault(fault, file);
    }
    let pfn = find_page(fault, file)?;
    fault.world.frames.folio_mut(pfn).flags |= FolioFlags::DIRTY;
    map_folio(fault, pfn);
    Ok(())
}

/// `finish_fault` for a page of the file: where it is one of a huge page, all that fits is mapped.
fn map_folio(fault: &mut Fault<'_>, pfn: Pfn) {
    let write = fault.is_write();
    let folio = fault.world.frames.folio(pfn);
    let (first, pages) = (folio.first, folio.pages());
    if pages > 1 {
        let (world, mm) = (&mut *fault.world, &mut *fault.mm);
        if thp::map_file(world, mm, &fault.vma, fault.address, pfn, write) {
            return;
        }
    }
    let page = fault.page_address();
    let before = u64::from(pfn.0 - first.0);
    let around = (pages > 1)
        .then(|| whole_folio(fault, page, before, pages))
        .flatten();
    let Some(start) = around else {
        map_small(fault, pfn, page, write);
        return;
    };
    for at in 0..pages {
        let addr = start + (at << fault.world.page_shift());
        map_small(fault, first.plus(at), addr, write);
    }
}

/// Where a folio of several pages starts, if all of it can be mapped page by page.
fn whole_folio(fault: &Fault<'_>, page: u64, before: u64, pages: u64) -> Option<u64> {
    let page_shift = fault.world.page_shift();
    let armed = fault.vma.flags.intersects(VmaFlags::UFFD);
    if armed || fault.world.profile.kernel < Kernel::V6_12 {
        return None;
    }
    let geometry = fault.mm.tables.geometry();
    let start = page.checked_sub(before << page_shift)?;
    let end = start + (pages << page_shift);
    let table = geometry.pmd_size();
    let fits = start >= fault.vma.start && end <= fault.vma.end;
    let in_table = start & !(table - 1) == (end - 1) & !(table - 1);
    let is_empty = |addr| matches!(fault.mm.tables.lookup(addr).1, Entry::None);
    let empty = (0..pages).all(|at| is_empty(start + (at << page_shift)));
    (fits && in_table && empty).then_some(start)
}

/// `set_pte_range` for one page, with its counts.
fn map_small(fault: &mut Fault<'_>, pfn: Pfn, addr: u64, write: bool) {
    if write {
        map_write(fault, pfn, addr);
        fault.world.frames.get(pfn, 1);
        fault.world.frames.add_rmap(pfn);
    } else {
        map_read(fault, pfn, addr);
    }
}

/// `do_cow_fault`: a private page of its own, with what the file has.
fn cow_fault(fault: &mut Fault<'_>, file: FileId) -> Result<(), FaultStop> {
    fault.anon_prepare();
    let from = find_page(fault, file)?;
    let pfn = anon::new_page(fault);
    fault.world.frames.copy(from, pfn);
    map_write(fault, pfn, fault.page_address());
    Ok(())
}

/// `shmem_fault` and the check of `__do_fault`: the page of the file.
fn find_page(fault: &mut Fault<'_>, file: FileId) -> Result<Pfn, FaultStop> {
    let index = fault.index();
    let there = {
        let file = fault.world.files.get(file);
        let beyond = file.size.div_ceil(fault.world.page_size());
        if index >= beyond {
            return Err(FaultStop::Bus);
        }
        file.pages.contains_key(&index)
    };
    if there && fault.vma.has(VmaFlags::UFFD_MINOR) {
        uffd::handle(fault, VmaFlags::UFFD_MINOR)?;
    }
    if !there && fault.vma.has(VmaFlags::UFFD_MISSING) {
        uffd::handle(fault, VmaFlags::UFFD_MISSING)?;
    }
    let pfn = shmem::get_or_make(fault.world, file, index);
    if fault
        .world
        .frames
        .frame(pfn)
        .flags
        .contains(FrameFlags::HWPOISON)
    {
        return Err(FaultStop::Hwpoison {
            shift: fault.world.page_shift(),
        });
    }
    Ok(pfn)
}

/// `set_pte_range` for a read: maps a page of the file at `addr`.
fn map_read(fault: &mut Fault<'_>, pfn: Pfn, addr: u64) {
    let mut entry = Present {
        pfn,
        bits: fault.page_prot() | Bits::YOUNG,
    };
    let dirty = fault
        .world
        .frames
        .folio(pfn)
        .flags
        .contains(FolioFlags::DIRTY);
    if entry.has(Bits::WRITE) && dirty {
        entry = mkdirty(fault.world, entry);
    }
    if addr == fault.page_address() && fault.found_uffd_marker() {
        entry = entry.mkuffd_wp();
    }
    let slot = fault
        .mm
        .tables
        .alloc_to(addr, 0)
        .expect("tables are for small pages here");
    fault.mm.tables.set_present(slot, entry);
    fault.world.frames.get(pfn, 1);
    fault.world.frames.add_rmap(pfn);
}

/// `set_pte_range` for a write; references and counts are the caller's.
fn map_write(fault: &mut Fault<'_>, pfn: Pfn, addr: u64) {
    let entry = Present {
        pfn,
        bits: fault.page_prot() | Bits::YOUNG,
    };
    let mut entry = fault.mkwrite(entry);
    if fault.found_uffd_marker() {
        entry = entry.mkuffd_wp();
    }
    let slot = fault
        .mm
        .tables
        .alloc_to(addr, 0)
        .expect("tables are for small pages here");
    fault.mm.tables.set_present(slot, entry);
}

/// `do_fault_around`: maps what the page cache has around the page; tells whether that was among
/// it.
fn fault_around(fault: &mut Fault<'_>, file: FileId) -> bool {
    let around = fault.world.profile.fault_around_pages;
    if around <= 1
        || fault
            .vma
            .flags
            .intersects(VmaFlags::UFFD_WP | VmaFlags::UFFD_MINOR)
    {
        return false;
    }
    let page_shift = fault.world.page_shift();
    let page = fault.page_address();
    let geometry = fault.mm.tables.geometry();
    let entries = u64::try_from(geometry.entries()).expect("few entries");
    let at = u64::try_from(geometry.index(page, 0)).expect("few entries");
    let before = (page - fault.vma.start) >> page_shift;
    let behind = (fault.vma.end - page) >> page_shift;
    let from = (at & !(around - 1)).max(at - at.min(before));
    let to = (from + around).min(entries).min(at + behind);
    let first = page - ((at - from) << page_shift);
    let first_index = fault.vma.index_of(first, page_shift);
    let size = fault
        .world
        .files
        .get(file)
        .size
        .div_ceil(fault.world.page_size());
    let last_index = (first_index + (to - from)).min(size);
    if first_index >= last_index {
        return false;
    }
    let cached: Vec<(u64, Pfn)> = fault
        .world
        .files
        .get(file)
        .pages
        .range(first_index..last_index)
        .filter_map(|(&index, cached)| match cached {
            crate::file::Cached::Page(pfn) => Some((index, *pfn)),
            crate::file::Cached::Swap(_) => None,
        })
        .collect();
    // filemap_map_pmd
    if let Some(&(_, pfn)) = cached.first()
        && fault.world.frames.folio(pfn).order > 0
    {
        let (world, mm) = (&mut *fault.world, &mut *fault.mm);
        if thp::map_file(world, mm, &fault.vma, page, pfn, false) {
            return true;
        }
    }
    let mut mapped = false;
    for (index, pfn) in cached {
        let addr = first + ((index - first_index) << page_shift);
        let empty = matches!(fault.mm.tables.lookup(addr).1, Entry::None);
        let broken = fault
            .world
            .frames
            .frame(pfn)
            .flags
            .contains(FrameFlags::HWPOISON);
        let uptodate = fault
            .world
            .frames
            .folio(pfn)
            .flags
            .contains(FolioFlags::UPTODATE);
        if empty && !broken && uptodate {
            map_read(fault, pfn, addr);
            mapped |= addr == page;
        }
    }
    mapped
}
