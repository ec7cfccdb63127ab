//! Huge pages of private memory (`do_huge_pmd_anonymous_page`, `wp_huge_pmd`,
//! `do_huge_pmd_wp_page`).

use super::{Fault, FaultStop, mkdirty, uffd};
use crate::entry::{Bits, Entry, Present};
use crate::folio::{FolioFlags, Owner, Pfn};
use crate::profile::{Kernel, ThpMode};
use crate::table::{PMD, Slot};
use crate::thp;
use crate::vma::{View, VmaFlags};

/// Handles a fault where there is no table of the lowest level; `None` where small pages are to
/// be used (`VM_FAULT_FALLBACK`).
pub(super) fn fault(fault: &mut Fault<'_>, found: Entry) -> Option<Result<(), FaultStop>> {
    match found {
        Entry::None => {
            let anonymous = fault.vma.is_anonymous();
            if anonymous && is_enabled(fault) && fits(fault) {
                Some(no_page(fault))
            } else {
                None
            }
        }
        Entry::Present(present) => {
            let slot = fault.mm.tables.find(fault.address, PMD)?;
            there(fault, slot, present)
        }
        _ => None,
    }
}

/// `thp_vma_allowable_order` for a fault.
fn is_enabled(fault: &Fault<'_>) -> bool {
    if fault.mm.thp_disabled || fault.vma.has(VmaFlags::NOHUGEPAGE) {
        return false;
    }
    match fault.world.profile.thp {
        ThpMode::Always => true,
        ThpMode::Madvise => fault.vma.has(VmaFlags::HUGEPAGE),
        ThpMode::Never => false,
    }
}

/// `thp_vma_suitable_order`: the huge page lies in the mapping.
fn fits(fault: &Fault<'_>) -> bool {
    is_suitable(
        &fault.vma,
        huge_address(fault),
        fault.mm.tables.geometry().pmd_size(),
    )
}

/// `thp_vma_suitable_order`: the huge page lies in the mapping, and for a file at an offset where
/// the file may have one.
pub(crate) fn is_suitable(vma: &View, addr: u64, size: u64) -> bool {
    let offset = vma.start.wrapping_sub(vma.pgoff << vma.page_shift);
    let aligned = vma.is_anonymous() || offset & (size - 1) == 0;
    aligned && addr >= vma.start && addr + size <= vma.end
}

fn huge_address(fault: &Fault<'_>) -> u64 {
    fault.address & !(fault.mm.tables.geometry().pmd_size() - 1)
}

/// `do_huge_pmd_anonymous_page`.
fn no_page(fault: &mut Fault<'_>) -> Result<(), FaultStop> {
    fault.anon_prepare();
    if fault.vma.has(VmaFlags::UFFD_MISSING) {
        return uffd::handle(fault, VmaFlags::UFFD_MISSING);
    }
    let addr = huge_address(fault);
    let slot = fault
        .mm
        .tables
        .alloc_to(addr, PMD)
        .expect("nothing larger is in the way");
    if fault.is_write() {
        map_new(fault, slot);
        return Ok(());
    }
    let pfn = thp::zero_page(fault.world);
    let bits = fault.page_prot() | Bits::HUGE | Bits::SPECIAL | Bits::YOUNG;
    fault.mm.tables.set_present(slot, Present { pfn, bits });
    Ok(())
}

/// `map_anon_folio_pmd`: a new huge page of zeros for this process alone.
fn map_new(fault: &mut Fault<'_>, slot: Slot) {
    let pfn = new_folio(fault);
    let entry = Present {
        pfn,
        bits: fault.page_prot() | Bits::HUGE | Bits::YOUNG,
    };
    let entry = fault.mkwrite(entry);
    fault.mm.tables.set_present(slot, entry);
}

fn new_folio(fault: &mut Fault<'_>) -> Pfn {
    let owner = Owner::Anon {
        anon_vma: fault.vma.anon_vma.expect("the family was prepared"),
        index: fault
            .vma
            .index_of(huge_address(fault), fault.world.page_shift()),
    };
    let order = thp::order(fault.world);
    let pfn = fault.world.frames.alloc(order, owner);
    fault.world.frames.add_rmap_entire(pfn);
    fault.world.frames.set_exclusive(pfn, true);
    pfn
}

/// A huge entry is there.
fn there(fault: &mut Fault<'_>, slot: Slot, present: Present) -> Option<Result<(), FaultStop>> {
    if present.has(Bits::PROT_NONE) {
        return Some(uffd::protnone(fault, slot, present));
    }
    if (fault.is_write() || fault.is_unshare()) && !present.has(Bits::WRITE) {
        return write_protected(fault, slot, present);
    }
    // huge_pmd_set_accessed
    let present = if fault.is_write() {
        mkdirty(fault.world, present)
    } else {
        present
    };
    let young = present.with(Bits::YOUNG, true);
    fault.mm.tables.set_present(slot, young);
    Some(Ok(()))
}

/// `wp_huge_pmd`, `do_huge_pmd_wp_page`.
fn write_protected(
    fault: &mut Fault<'_>,
    slot: Slot,
    present: Present,
) -> Option<Result<(), FaultStop>> {
    if !fault.vma.is_anonymous() {
        // Copying and protection of a file's pages are a matter of small entries.
        thp::split(fault.world, fault.mm, slot);
        return None;
    }
    let protected = fault.vma.has(VmaFlags::UFFD_WP) && present.has(Bits::UFFD_WP);
    if protected && !fault.is_unshare() {
        if uffd::is_wp_async(fault) {
            thp::split(fault.world, fault.mm, slot);
            return None;
        }
        return Some(uffd::handle(fault, VmaFlags::UFFD_WP));
    }
    if present.has(Bits::SPECIAL) {
        // do_huge_zero_wp_pmd came with 6.13.
        if fault.world.profile.kernel >= Kernel::V6_18 && fits(fault) {
            map_new(fault, slot);
            return Some(Ok(()));
        }
        thp::split(fault.world, fault.mm, slot);
        return None;
    }
    let folio = fault.world.frames.folio(present.pfn);
    let pages = u32::try_from(folio.pages()).expect("a folio is counted in 32 bits");
    let cached = folio.flags.contains(FolioFlags::SWAPCACHE);
    let alone = folio.refcount == 1 + if cached { pages } else { 0 };
    if !fault.world.frames.is_exclusive(present.pfn) && !alone {
        thp::split(fault.world, fault.mm, slot);
        return None;
    }
    fault.world.frames.set_exclusive(present.pfn, true);
    if !fault.is_unshare() {
        let entry = fault.mkwrite(present.with(Bits::YOUNG, true));
        fault.mm.tables.set_present(slot, entry);
    }
    Some(Ok(()))
}
