//! `mprotect`.
//!
//! Linux reference: 6.18, `mm/mprotect.c` (`do_mprotect_pkey`, `mprotect_fixup`).

use space::Errno;

use super::mmap::prot_flags;
use crate::machine::{Machine, Mm, Tid, World};
use crate::populate::populate_locked;
use crate::protect::{Change, change_protection, tries_writable};
use crate::uapi::prot;
use crate::vma::VmaFlags;
use crate::vma::merge::Proposal;

/// Every bit that a protection may have.
const KNOWN: u64 = prot::READ | prot::WRITE | prot::EXEC | prot::SEM;

impl Machine {
    /// Changes what may be done with the memory of a range.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a range that is not aligned or unknown bits; `ENOMEM` where a part is not mapped
    /// (what lies before is changed) or too many mappings would be left; `EACCES` where the mapping
    /// may never be what is asked for.
    pub fn mprotect(&mut self, tid: Tid, start: u64, len: u64, prot: u64) -> Result<(), Errno> {
        let (world, process) = self.halves(tid)?;
        do_mprotect(world, &mut process.mm, tid, start, len, prot)
    }
}

fn do_mprotect(
    world: &mut World,
    mm: &mut Mm,
    tid: Tid,
    start: u64,
    len: u64,
    prot: u64,
) -> Result<(), Errno> {
    let grows = prot & (prot::GROWSDOWN | prot::GROWSUP);
    let prot = prot & !(prot::GROWSDOWN | prot::GROWSUP);
    if grows == prot::GROWSDOWN | prot::GROWSUP {
        return Err(Errno::EINVAL);
    }
    if world.offset_in_page(start) != 0 {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(());
    }
    let len = world.page_align(len);
    let end = start.wrapping_add(len);
    if end <= start {
        return Err(Errno::ENOMEM);
    }
    if prot & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    let first = mm.vmas.find(start).ok_or(Errno::ENOMEM)?;
    let mut start = start;
    if grows == prot::GROWSDOWN {
        if first.start >= end {
            return Err(Errno::ENOMEM);
        }
        start = first.start;
        if !first.has(VmaFlags::GROWSDOWN) {
            return Err(Errno::EINVAL);
        }
    } else {
        if first.start > start {
            return Err(Errno::ENOMEM);
        }
        // GROWSUP: no architecture here has mappings that grow up.
        if grows == prot::GROWSUP {
            return Err(Errno::EINVAL);
        }
    }
    let mut at = start;
    while at < end {
        let index = mm.vmas.find_index(at);
        let Some(vma) = mm.vmas.get(index).filter(|vma| vma.start <= at) else {
            return Err(Errno::ENOMEM);
        };
        let kept = vma.flags - VmaFlags::ACCESS - VmaFlags::EXEC_ONLY;
        let new = prot_flags(world, prot) | kept;
        let wanted = (new & VmaFlags::ACCESS).bits();
        let allowed = (new & VmaFlags::MAYACCESS).bits() >> 4;
        if wanted & !allowed != 0 {
            return Err(Errno::EACCES);
        }
        let upto = vma.end.min(end);
        fixup(world, mm, tid, index, at..upto, new)?;
        at = upto;
    }
    Ok(())
}

/// `mprotect_fixup`: changes a part of one mapping.
fn fixup(
    world: &mut World,
    mm: &mut Mm,
    tid: Tid,
    index: usize,
    range: std::ops::Range<u64>,
    mut new: VmaFlags,
) -> Result<(), Errno> {
    let page_shift = world.page_shift();
    let vma = mm.vmas.at(index);
    let old = vma.flags;
    if old.contains(VmaFlags::SEALED) {
        return Err(Errno::EPERM);
    }
    if new == old {
        return Ok(());
    }
    let counted = VmaFlags::ACCOUNT
        | VmaFlags::WRITE
        | VmaFlags::HUGETLB
        | VmaFlags::SHARED
        | VmaFlags::NORESERVE;
    if new.contains(VmaFlags::WRITE) {
        if !old.intersects(counted) {
            new |= VmaFlags::ACCOUNT;
        }
    } else if old.contains(VmaFlags::ACCOUNT) && vma.is_anonymous() && vma.anon_vma.is_none() {
        new -= VmaFlags::ACCOUNT;
    }
    let mut proposal = Proposal::of(vma, range.start, range.end, page_shift);
    proposal.flags = new;
    let index = mm.modify(world, index, &proposal)?;
    let vma = mm.vmas.at(index);
    let view = vma.view();
    let change = Change::Protection {
        try_writable: tries_writable(world, &view),
    };
    change_protection(world, mm, &view, range.start, range.end, change);
    // A locked mapping that becomes writable gets its copies now.
    let locked = old & (VmaFlags::WRITE | VmaFlags::SHARED | VmaFlags::LOCKED) == VmaFlags::LOCKED;
    if locked && new.contains(VmaFlags::WRITE) {
        populate_locked(world, mm, tid, range);
    }
    Ok(())
}
