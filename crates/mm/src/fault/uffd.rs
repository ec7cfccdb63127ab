//! Faults that are a userfaultfd's affair (`handle_userfault`).

use super::{Fault, FaultFlags, FaultStop};
use crate::entry::{Bits, Present};
use crate::stop::Wait;
use crate::table::Slot;
use crate::uapi::uffd::{Features, fault as flag};
use crate::vma::VmaFlags;

/// `handle_userfault`: queues a fault of one kind (the flag of the registration), or ends the
/// access with SIGBUS where that was asked for. `Ok` is never returned: the page is to be
/// looked at again when the thread is woken.
pub(crate) fn handle(fault: &mut Fault<'_>, reason: VmaFlags) -> Result<(), FaultStop> {
    let page = 1_u64 << crate::file::hugetlb::hgm::granularity(fault.world, &fault.vma);
    let uffd = fault.vma.uffd.ok_or(FaultStop::Bus)?;
    let context = fault.world.uffds.find_mut(uffd).ok_or(FaultStop::Bus)?;
    let by_kernel = fault.flags.contains(FaultFlags::KERNEL);
    let may_not_sleep = fault.flags.contains(FaultFlags::LOCKED);
    if context.has(Features::SIGBUS) || (by_kernel && context.user_mode_only) || may_not_sleep {
        return Err(FaultStop::Bus);
    }
    let address = if context.has(Features::EXACT_ADDRESS) {
        fault.address
    } else {
        fault.address & !(page - 1)
    };
    let mut flags = 0;
    for (set, bit) in [
        (fault.flags.contains(FaultFlags::WRITE), flag::WRITE),
        (reason == VmaFlags::UFFD_WP, flag::WP),
        (reason == VmaFlags::UFFD_MINOR, flag::MINOR),
        (reason == VmaFlags::UFFD_RWP, flag::RWP),
    ] {
        if set {
            flags |= bit;
        }
    }
    let ticket = context.queue_fault(fault.tid, address, flags);
    Err(FaultStop::Blocked(Wait { uffd, ticket }))
}

/// `userfaultfd_wp_async`: the mapping's protection is lifted by the write itself.
pub(crate) fn is_wp_async(fault: &Fault<'_>) -> bool {
    crate::uffd::is_wp_async(fault.world, &fault.vma)
}

/// An entry that is there but not accessible, in a mapping that is: RWP (7.3).
pub(super) fn protnone(
    fault: &mut Fault<'_>,
    slot: Slot,
    present: Present,
) -> Result<(), FaultStop> {
    let mut present = present;
    if fault.vma.has(VmaFlags::UFFD_RWP) && present.has(Bits::UFFD_WP) {
        if !fault.world.uffds.has(fault.vma.uffd, Features::RWP_ASYNC) {
            return handle(fault, VmaFlags::UFFD_RWP);
        }
        present = present.with(Bits::UFFD_WP, false);
    }
    let prot = fault.page_prot();
    let entry = present.with(Bits::PROT_NONE, prot.contains(Bits::PROT_NONE));
    fault.mm.tables.set_present(slot, entry);
    Ok(())
}
