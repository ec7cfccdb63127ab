//! A fault in memory of hugetlbfs (`hugetlb_fault`, `hugetlb_no_page`, `hugetlb_wp`).

use space::Errno;

use super::{Fault, FaultStop, uffd};
use crate::entry::{Bits, Entry, Marker, Present};
use crate::file::hugetlb::orphan::Orphan;
use crate::file::hugetlb::{self, hgm, reserve};
use crate::folio::{FrameFlags, Pfn};
use crate::profile::CowPolicy;
use crate::table::Slot;
use crate::vma::VmaFlags;

pub(super) fn fault(fault: &mut Fault<'_>) -> Result<(), FaultStop> {
    let shift = fault.vma.page_shift;
    let addr = huge_address(fault);
    let slot = hugetlb::slot(fault.world, fault.mm, &fault.vma, addr);
    fault.found = fault.mm.tables.entry(slot);
    if let Entry::Table(_) = fault.found {
        return piece(fault);
    }
    let mut present = match fault.found {
        Entry::Marker(marker) if marker.contains(Marker::POISONED) => {
            return Err(FaultStop::Hwpoison { shift });
        }
        Entry::None | Entry::Marker(_) => return no_page(fault, slot),
        Entry::Hwpoison(_) => return Err(FaultStop::Hwpoison { shift }),
        Entry::Present(present) => present,
        Entry::Swap { .. } | Entry::Migration { .. } | Entry::Table(_) => {
            unreachable!("huge pages are neither swapped nor left on their way")
        }
    };
    let writable = present.has(Bits::WRITE);
    let protected = fault.vma.has(VmaFlags::UFFD_WP) && present.has(Bits::UFFD_WP);
    if protected && fault.is_write() && !writable {
        if !uffd::is_wp_async(fault) {
            return uffd::handle(fault, VmaFlags::UFFD_WP);
        }
        present = present.with(Bits::UFFD_WP, false);
        fault.mm.tables.set_present(slot, present);
    }
    if (fault.is_write() || fault.is_unshare()) && !writable {
        return write_protected(fault, slot, present);
    }
    if fault.is_write() {
        present = present.with(Bits::DIRTY, true);
    }
    let present = present.with(Bits::YOUNG, true);
    fault.mm.tables.set_present(slot, present);
    Ok(())
}

/// A fault at an address of a huge page that is mapped by pieces (HGM).
fn piece(fault: &mut Fault<'_>) -> Result<(), FaultStop> {
    let shift = fault.world.page_shift();
    let (slot, found) = fault.mm.tables.lookup(fault.address);
    let mut present = match found {
        Entry::Marker(marker) if marker.contains(Marker::POISONED) => {
            return Err(FaultStop::Hwpoison { shift });
        }
        Entry::Hwpoison(_) => return Err(FaultStop::Hwpoison { shift }),
        Entry::Present(present) => present,
        _ => {
            if fault.vma.has(VmaFlags::UFFD_MINOR) {
                return uffd::handle(fault, VmaFlags::UFFD_MINOR);
            }
            let protected = matches!(found, Entry::Marker(_));
            let addr = fault.page_address();
            return hgm::map_piece(fault.world, fault.mm, &fault.vma, addr, protected).map_err(
                |errno| match errno {
                    Errno::EIO => FaultStop::Hwpoison { shift },
                    _ => FaultStop::Bus,
                },
            );
        }
    };
    if fault.is_write() && !present.has(Bits::WRITE) {
        if fault.vma.has(VmaFlags::UFFD_WP) && present.has(Bits::UFFD_WP) {
            if !uffd::is_wp_async(fault) {
                return uffd::handle(fault, VmaFlags::UFFD_WP);
            }
            present = present.with(Bits::UFFD_WP, false);
        }
        set_writable(fault, slot, present);
        return Ok(());
    }
    let dirty = present.has(Bits::DIRTY) || fault.is_write();
    let present = present.with(Bits::YOUNG, true).with(Bits::DIRTY, dirty);
    fault.mm.tables.set_present(slot, present);
    Ok(())
}

/// The address of the huge page.
fn huge_address(fault: &Fault<'_>) -> u64 {
    fault.address & !((1 << fault.vma.page_shift) - 1)
}

/// `hugetlb_no_page`.
fn no_page(fault: &mut Fault<'_>, slot: Slot) -> Result<(), FaultStop> {
    let addr = huge_address(fault);
    let shift = fault.vma.page_shift;
    let page_shift = fault.world.page_shift();
    let at = fault.mm.vmas.find_index(addr);
    if fault.mm.vmas.at(at).reserve_lost {
        return Err(FaultStop::Bus);
    }
    let file = fault.vma.file.expect("hugetlb has a file");
    let index = fault.vma.index_of(addr, page_shift);
    let cached = fault.world.files.get(file).page(index);
    let shared = fault.vma.has(VmaFlags::MAYSHARE);
    let pfn = match cached {
        Some(pfn) => {
            if is_broken(fault, pfn) {
                return Err(FaultStop::Hwpoison { shift });
            }
            if fault.vma.has(VmaFlags::UFFD_MINOR) {
                return uffd::handle(fault, VmaFlags::UFFD_MINOR);
            }
            fault.world.frames.get(pfn, 1);
            fault.world.frames.add_rmap_entire(pfn);
            pfn
        }
        None => {
            let size = fault.world.files.get(file).size;
            if index << page_shift >= size >> shift << shift {
                return Err(FaultStop::Bus);
            }
            if fault.vma.has(VmaFlags::UFFD_MISSING) {
                return uffd::handle(fault, VmaFlags::UFFD_MISSING);
            }
            if !shared {
                fault.anon_prepare();
            }
            let pfn = reserve::alloc(fault.world, &fault.vma, addr, false).ok_or(FaultStop::Bus)?;
            if shared {
                hugetlb::add_to_cache(fault.world, file, index, pfn);
                fault.world.frames.get(pfn, 1);
                fault.world.frames.add_rmap_entire(pfn);
            } else {
                hugetlb::add_anon_rmap(fault.world, &fault.vma, addr, pfn);
            }
            pfn
        }
    };
    let write = fault.vma.has(VmaFlags::WRITE | VmaFlags::SHARED);
    let mut entry = hugetlb::make_entry(fault.world, &fault.vma, pfn, write);
    if fault.found_uffd_marker() {
        entry = entry.mkuffd_wp();
    }
    fault.mm.tables.set_present(slot, entry);
    if fault.is_write() && !fault.vma.has(VmaFlags::SHARED) {
        // The copy without a second fault.
        return write_protected(fault, slot, entry);
    }
    Ok(())
}

/// `hugetlb_wp`.
fn write_protected(fault: &mut Fault<'_>, slot: Slot, present: Present) -> Result<(), FaultStop> {
    let unshare = fault.is_unshare();
    if !unshare && present.has(Bits::UFFD_WP) {
        return Ok(());
    }
    if fault.vma.has(VmaFlags::MAYSHARE) {
        set_writable(fault, slot, present);
        return Ok(());
    }
    let old = present.pfn;
    if fault.world.frames.folio(old).is_anon() && is_alone(fault, old) {
        reuse(fault, slot, present);
        return Ok(());
    }
    let addr = huge_address(fault);
    let owns = fault.vma.reserve.is_some();
    let beside = owns && fault.world.frames.folio(old).is_anon();
    let Some(new) = reserve::alloc(fault.world, &fault.vma, addr, beside) else {
        if !beside {
            return Err(FaultStop::Bus);
        }
        // unmap_ref_private: the children give the page up, and it is this process's alone.
        let page_shift = fault.world.page_shift();
        fault.world.orphans.push(Orphan {
            keeper: fault.mm.pid,
            file: fault.vma.file.expect("hugetlb has a file"),
            index: fault.vma.index_of(addr, page_shift),
            pfn: old,
        });
        reuse(fault, slot, present);
        return Ok(());
    };
    fault.anon_prepare();
    if is_broken(fault, old) {
        reserve::restore_on_error(fault.world, &fault.vma, addr, new);
        fault.world.frames.put(new, 1);
        return Err(FaultStop::Hwpoison {
            shift: fault.vma.page_shift,
        });
    }
    hugetlb::copy_folio(fault.world, old, new);
    hugetlb::add_anon_rmap(fault.world, &fault.vma, addr, new);
    let mut entry = hugetlb::make_entry(fault.world, &fault.vma, new, !unshare);
    if present.has(Bits::UFFD_WP) {
        entry = entry.mkuffd_wp();
    }
    fault.mm.tables.set_present(slot, entry);
    fault.world.frames.remove_rmap_entire(old);
    fault.world.frames.put(old, 1);
    Ok(())
}

/// Whether nobody else has the page. Up to this day that is one mapping, whoever else holds a
/// reference, unless the policy of the profile is a stricter one.
fn is_alone(fault: &Fault<'_>, pfn: Pfn) -> bool {
    let folio = fault.world.frames.folio(pfn);
    match fault.world.profile.cow_hugetlb {
        CowPolicy::Refcount | CowPolicy::LinusStrict => folio.refcount == 1,
        _ => folio.mapcount == 1,
    }
}

fn reuse(fault: &mut Fault<'_>, slot: Slot, present: Present) {
    fault.world.frames.set_exclusive(present.pfn, true);
    if !fault.is_unshare() {
        set_writable(fault, slot, present);
    }
}

/// `set_huge_ptep_writable`.
fn set_writable(fault: &mut Fault<'_>, slot: Slot, present: Present) {
    let entry = present.with(Bits::WRITE | Bits::DIRTY, true);
    fault.mm.tables.set_present(slot, entry);
}

fn is_broken(fault: &Fault<'_>, pfn: Pfn) -> bool {
    let frames = &fault.world.frames;
    (0..frames.folio(pfn).pages()).any(|page| {
        let frame = frames.frame(pfn.plus(page));
        frame.flags.contains(FrameFlags::HWPOISON)
    })
}
