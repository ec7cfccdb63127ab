//! A marker where a page is wanted (`handle_pte_marker`).

use super::{Fault, FaultStop, do_pte_missing};
use crate::entry::{Entry, Marker};
use crate::table::Slot;
use crate::vma::VmaFlags;

pub(super) fn handle(fault: &mut Fault<'_>, slot: Slot, marker: Marker) -> Result<(), FaultStop> {
    if marker.contains(Marker::POISONED) {
        return Err(FaultStop::Hwpoison {
            shift: fault.world.page_shift(),
        });
    }
    if marker.contains(Marker::GUARD) {
        return Err(FaultStop::Segv);
    }
    if !fault.vma.has(VmaFlags::UFFD_WP) {
        // A leftover of a registration that is no more.
        fault.mm.tables.set(slot, Entry::None);
        return Ok(());
    }
    do_pte_missing(fault)
}
