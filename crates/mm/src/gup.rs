//! Accesses of the kernel to a process's memory for a system call.
//!
//! There are two ways: as if the program did it (`copy_to_user`, [`copy_in`] and [`copy_out`]),
//! and by taking references of the pages first (`get_user_pages`, [`get_page`]).
//!
//! Linux reference: 6.18, `mm/gup.c` (`__get_user_pages`, `faultin_page`, `check_vma_flags`,
//! `gup_must_unshare`, `faultin_page_range`).

use bitflags::bitflags;
use space::Errno;

use crate::access::{Kind, frame_of, reach_by_kernel, within_page};
use crate::entry::{Bits, Entry, Present};
use crate::fault::{self, FaultFlags, cow};
use crate::folio::{Pfn, ZERO_PFN};
use crate::machine::{Mm, Tid, World};
use crate::profile::CowPolicy;
use crate::stop::{Stop, Trap};
use crate::vma::{Vma, VmaFlags};

bitflags! {
    /// `FOLL_*`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Foll: u8 {
        /// The page will be written.
        const WRITE = 1;
        /// The reference is a pin: the page must stay that of the process.
        const PIN = 1 << 1;
        /// The pin is held for long.
        const LONGTERM = 1 << 2;
        /// Even where the mapping does not allow it (`mlock` of `PROT_NONE`, ptrace).
        const FORCE = 1 << 3;
        /// The mappings stay locked (no `FOLL_UNLOCKABLE`): a fault that would have to sleep fails.
        const LOCKED = 1 << 4;
    }
}

impl From<Trap> for Stop {
    fn from(trap: Trap) -> Self {
        match trap {
            Trap::Signal { .. } => Errno::EFAULT.into(),
            Trap::NoThread => Errno::ESRCH.into(),
            Trap::Blocked(wait) => Self::Blocked(wait),
        }
    }
}

/// `copy_from_user`: reads a program's memory on its behalf.
///
/// # Errors
///
/// `EFAULT` where the program itself would get a signal.
pub(crate) fn copy_in(
    world: &mut World,
    mm: &mut Mm,
    tid: Tid,
    addr: u64,
    buf: &mut [u8],
) -> Result<(), Stop> {
    let mut done = 0;
    while done < buf.len() {
        let at = addr.wrapping_add(u64::try_from(done).expect("a length fits"));
        let pfn = reach_by_kernel(world, mm, tid, at, Kind::Load)?;
        let (offset, len) = within_page(world, at, buf.len() - done);
        let content = &world.frames.frame(pfn).content;
        content.read(offset, &mut buf[done..done + len]);
        done += len;
    }
    Ok(())
}

/// `copy_to_user`: copies `len` bytes of a frame to a program's memory on its behalf.
///
/// # Errors
///
/// The number of bytes that were written before, and `EFAULT` where the program itself would get
/// a signal.
pub(crate) fn copy_out(
    world: &mut World,
    mm: &mut Mm,
    tid: Tid,
    addr: u64,
    (from, start, len): (Pfn, usize, usize),
) -> Result<(), (usize, Stop)> {
    let mut done = 0;
    while done < len {
        let at = addr.wrapping_add(u64::try_from(done).expect("a length fits"));
        let pfn =
            reach_by_kernel(world, mm, tid, at, Kind::Store).map_err(|trap| (done, trap.into()))?;
        let (offset, count) = within_page(world, at, len - done);
        let frames = &mut world.frames;
        frames.copy_bytes((from, start + done), (pfn, offset), count);
        done += count;
    }
    Ok(())
}

/// `check_vma_flags`: whether a mapping allows it.
///
/// # Errors
///
/// `EFAULT` where it does not.
pub(crate) fn check_vma_flags(vma: &Vma, foll: Foll) -> Result<(), Errno> {
    if foll.contains(Foll::WRITE) {
        if !vma.has(VmaFlags::WRITE)
            && (!foll.contains(Foll::FORCE) || vma.is_hugetlb() || !vma.is_cow())
        {
            return Err(Errno::EFAULT);
        }
    } else if !vma.has(VmaFlags::READ)
        && (!foll.contains(Foll::FORCE) || !vma.has(VmaFlags::MAYREAD))
    {
        return Err(Errno::EFAULT);
    }
    // arch_vma_access_permitted
    if vma.has(VmaFlags::EXEC_ONLY) {
        return Err(Errno::EFAULT);
    }
    Ok(())
}

/// `follow_page_mask` and `faultin_page` by turns: makes the page of an address present so that
/// `foll` holds, and returns its frame. The mapping was checked.
///
/// # Errors
///
/// `EFAULT` where the fault ends in a signal, `ENOMEM`, or that the thread sleeps.
pub(crate) fn get_page(
    world: &mut World,
    mm: &mut Mm,
    tid: Tid,
    addr: u64,
    foll: Foll,
) -> Result<Pfn, fault::FaultStop> {
    loop {
        let mut flags = FaultFlags::KERNEL;
        flags.set(FaultFlags::WRITE, foll.contains(Foll::WRITE));
        flags.set(FaultFlags::LOCKED, foll.contains(Foll::LOCKED));
        let (slot, entry) = mm.tables.lookup(addr);
        if let Entry::Present(present) = entry {
            let vma = mm.vmas.lookup(addr).expect("the mapping was checked");
            let hidden = present.has(Bits::PROT_NONE) && vma.is_accessible();
            let writes = foll.contains(Foll::WRITE) && !present.has(Bits::WRITE);
            let pfn = frame_of(world, mm, present, addr, slot.level);
            if !hidden && !writes {
                if !must_unshare(world, vma, present, pfn, foll) {
                    let bits = if foll.contains(Foll::WRITE) {
                        Bits::YOUNG | Bits::DIRTY
                    } else {
                        Bits::YOUNG
                    };
                    mm.tables.set_present(slot, present.with(bits, true));
                    return Ok(pfn);
                }
                flags |= FaultFlags::UNSHARE;
            } else if writes && foll.contains(Foll::FORCE) && !vma.has(VmaFlags::WRITE) {
                // can_follow_write_pte: a private copy may be written although the mapping
                // does not say so.
                let anon = pfn != ZERO_PFN && world.frames.folio(pfn).is_anon();
                if anon && world.frames.is_exclusive(pfn) {
                    return Ok(pfn);
                }
            }
        }
        fault::handle_mm_fault(world, mm, tid, addr, flags)?;
    }
}

/// `__get_user_pages` for one page: checks the mapping, too.
///
/// # Errors
///
/// `EFAULT`, `ENOMEM`, or that the thread sleeps.
pub(crate) fn get_user_page(
    world: &mut World,
    mm: &mut Mm,
    tid: Tid,
    addr: u64,
    foll: Foll,
) -> Result<Pfn, Stop> {
    let vma = mm.vmas.lookup(addr).ok_or(Errno::EFAULT)?;
    check_vma_flags(vma, foll)?;
    get_page(world, mm, tid, addr, foll).map_err(fault::FaultStop::errno)
}

/// `get_user_pages_fast`, page after page: of those that are there already, what the entry allows is
/// not asked of the mapping again, so that a page which may only be written can be read, too. From the
/// first one on that is not there, all are looked up in the mappings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fast {
    is_over: bool,
}

impl Fast {
    /// The frame of the next page.
    ///
    /// # Errors
    ///
    /// As [`get_user_page`].
    pub(crate) fn page(
        &mut self,
        world: &mut World,
        mm: &mut Mm,
        tid: Tid,
        addr: u64,
        foll: Foll,
    ) -> Result<Pfn, Stop> {
        if !self.is_over {
            if let Some(pfn) = page_that_is_there(world, mm, addr, foll) {
                return Ok(pfn);
            }
            self.is_over = true;
        }
        get_user_page(world, mm, tid, addr, foll)
    }
}

/// `gup_fast_pte_range` for one page.
fn page_that_is_there(world: &World, mm: &Mm, addr: u64, foll: Foll) -> Option<Pfn> {
    let (slot, entry) = mm.tables.lookup(addr);
    let (Entry::Present(present), Some(vma)) = (entry, mm.vmas.lookup(addr)) else {
        return None;
    };
    let hidden = Bits::PROT_NONE | Bits::SPECIAL | Bits::EXEC_ONLY;
    let hidden = present.bits.intersects(hidden);
    let allowed = !foll.contains(Foll::WRITE) || present.has(Bits::WRITE);
    let pfn = frame_of(world, mm, present, addr, slot.level);
    let shared = must_unshare(world, vma, present, pfn, foll);
    (!hidden && allowed && !shared).then_some(pfn)
}

/// `gup_must_unshare`.
fn must_unshare(world: &World, vma: &Vma, present: Present, pfn: Pfn, foll: Foll) -> bool {
    match world.profile.cow {
        CowPolicy::AnonExclusive => {}
        CowPolicy::Mapcount | CowPolicy::Refcount | CowPolicy::LinusStrict => return false,
        CowPolicy::EarlyBreak | CowPolicy::AndreaAccurate => {
            // should_force_cow_break: whoever takes a reference gets a page of its own.
            let shared = !present.has(Bits::WRITE) && !cow::may_reuse(world, present);
            return vma.is_cow() && shared;
        }
    }
    if foll.contains(Foll::WRITE) || !foll.contains(Foll::PIN) {
        return false;
    }
    let anon = !present.has(Bits::SPECIAL) && world.frames.folio(pfn).is_anon();
    if !anon {
        return foll.contains(Foll::LONGTERM) && vma.is_cow();
    }
    !world.frames.is_exclusive(pfn)
}
