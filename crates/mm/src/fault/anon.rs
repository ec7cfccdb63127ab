//! A page of private anonymous memory that is not there (`do_anonymous_page`).

use super::{Fault, FaultStop, mkdirty, uffd};
use crate::entry::{Bits, Present};
use crate::folio::{Owner, ZERO_PFN};
use crate::vma::VmaFlags;

pub(super) fn fault(fault: &mut Fault<'_>) -> Result<(), FaultStop> {
    let slot = fault.slot();
    let prot = fault.page_prot();
    if !fault.is_write() {
        if fault.vma.has(VmaFlags::UFFD_MISSING) {
            return uffd::handle(fault, VmaFlags::UFFD_MISSING);
        }
        let mut entry = Present {
            pfn: ZERO_PFN,
            bits: prot | Bits::SPECIAL | Bits::YOUNG,
        };
        if fault.found_uffd_marker() {
            entry = entry.mkuffd_wp();
        }
        fault.mm.tables.set_present(slot, entry);
        return Ok(());
    }
    fault.anon_prepare();
    if fault.vma.has(VmaFlags::UFFD_MISSING) {
        return uffd::handle(fault, VmaFlags::UFFD_MISSING);
    }
    let pfn = new_page(fault);
    let mut entry = Present {
        pfn,
        bits: prot | Bits::YOUNG,
    };
    if fault.vma.has(VmaFlags::WRITE) {
        entry = mkdirty(fault.world, entry).with(Bits::WRITE, true);
    }
    if fault.found_uffd_marker() {
        entry = entry.mkuffd_wp();
    }
    fault.mm.tables.set_present(slot, entry);
    Ok(())
}

/// A new page of zeros that belongs to this process alone, with the mapping counted.
pub(super) fn new_page(fault: &mut Fault<'_>) -> crate::folio::Pfn {
    let owner = Owner::Anon {
        anon_vma: fault.vma.anon_vma.expect("the family was prepared"),
        index: fault.index(),
    };
    let pfn = fault.world.frames.alloc(0, owner);
    fault.world.frames.add_rmap(pfn);
    fault.world.frames.set_exclusive(pfn, true);
    pfn
}
