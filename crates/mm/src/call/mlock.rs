//! `mlock`, `mlock2`, `munlock`, `mlockall`, `munlockall`.
//!
//! Linux reference: 6.18, `mm/mlock.c` (`do_mlock`, `apply_vma_lock_flags`, `mlock_fixup`).

use std::ops::Range;

use space::Errno;

use crate::machine::{Machine, Mm, Tid, World};
use crate::populate::Populate;
use crate::stop::Stop;
use crate::uapi::mlock;
use crate::vma::VmaFlags;
use crate::vma::merge::Proposal;

impl Machine {
    /// `mlock2`; `mlock` is without flags.
    ///
    /// # Errors
    ///
    /// `EINVAL` for unknown flags, `ENOMEM` where a part is not mapped or can't be filled. The thread
    /// may sleep on a page that a userfaultfd is to bring.
    pub fn mlock(&mut self, tid: Tid, start: u64, len: u64, flags: u64) -> Result<(), Stop> {
        if flags & !mlock::ONFAULT != 0 {
            return Err(Errno::EINVAL.into());
        }
        let filled = match self.finish_populate(tid) {
            Ok(None) => {
                let range = self.lock_range(tid, start, len, flags)?;
                self.populate_and_end(tid, filling(range, false))
            }
            Ok(Some(value)) => Ok(value),
            Err(stop) => Err(stop),
        };
        match filled {
            Ok(_) => Ok(()),
            // __mlock_posix_error_return
            Err(Stop::Failed(Errno::EFAULT)) => Err(Errno::ENOMEM.into()),
            Err(Stop::Failed(Errno::ENOMEM)) => Err(Errno::EAGAIN.into()),
            Err(other) => Err(other),
        }
    }

    /// The first half of `do_mlock`: the mappings are locked. Returns what is to be filled.
    fn lock_range(
        &mut self,
        tid: Tid,
        start: u64,
        len: u64,
        flags: u64,
    ) -> Result<Range<u64>, Errno> {
        let mut lock = VmaFlags::LOCKED;
        lock.set(VmaFlags::LOCKONFAULT, flags & mlock::ONFAULT != 0);
        let (world, process) = self.halves(tid)?;
        let (start, len) = whole_pages(world, start, len);
        apply(world, &mut process.mm, start, len, lock)?;
        Ok(start..start + len)
    }

    /// `munlock`.
    ///
    /// # Errors
    ///
    /// `ENOMEM` where a part is not mapped.
    pub fn munlock(&mut self, tid: Tid, start: u64, len: u64) -> Result<(), Errno> {
        let (world, process) = self.halves(tid)?;
        let (start, len) = whole_pages(world, start, len);
        apply(world, &mut process.mm, start, len, VmaFlags::empty())
    }

    /// `mlockall`.
    ///
    /// # Errors
    ///
    /// `EINVAL` for flags that make no sense. The thread may sleep on a page that a userfaultfd is to
    /// bring.
    pub fn mlockall(&mut self, tid: Tid, flags: u64) -> Result<(), Stop> {
        let known = mlock::MCL_CURRENT | mlock::MCL_FUTURE | mlock::MCL_ONFAULT;
        if flags == 0 || flags & !known != 0 || flags == mlock::MCL_ONFAULT {
            return Err(Errno::EINVAL.into());
        }
        if self.finish_populate(tid)?.is_some() {
            return Ok(());
        }
        let (world, process) = self.halves(tid)?;
        let mut lock = VmaFlags::LOCKED;
        lock.set(VmaFlags::LOCKONFAULT, flags & mlock::MCL_ONFAULT != 0);
        process.mm.def_flags -= VmaFlags::LOCKED_MASK;
        if flags & mlock::MCL_FUTURE != 0 {
            process.mm.def_flags |= lock;
        }
        if flags & mlock::MCL_CURRENT != 0 {
            apply_all(world, &mut process.mm, lock);
            let end = world.profile.arch.task_size();
            self.populate_and_end(tid, filling(0..end, true))?;
        }
        Ok(())
    }

    /// `munlockall`.
    ///
    /// # Errors
    ///
    /// `ESRCH` where there is no such thread.
    pub fn munlockall(&mut self, tid: Tid) -> Result<(), Errno> {
        let (world, process) = self.halves(tid)?;
        process.mm.def_flags -= VmaFlags::LOCKED_MASK;
        apply_all(world, &mut process.mm, VmaFlags::empty());
        Ok(())
    }
}

fn filling(range: Range<u64>, ignores_errors: bool) -> Populate {
    Populate {
        range,
        ignores_errors,
        value: 0,
        events: Vec::new(),
    }
}

fn whole_pages(world: &World, start: u64, len: u64) -> (u64, u64) {
    let offset = world.offset_in_page(start);
    (start - offset, world.page_align(len.wrapping_add(offset)))
}

/// `apply_vma_lock_flags`.
fn apply(
    world: &mut World,
    mm: &mut Mm,
    start: u64,
    len: u64,
    lock: VmaFlags,
) -> Result<(), Errno> {
    let end = start.wrapping_add(len);
    if end < start {
        return Err(Errno::EINVAL);
    }
    let mut at = start;
    while at < end {
        let index = mm.vmas.find_index(at);
        let Some(vma) = mm.vmas.get(index).filter(|vma| vma.start <= at) else {
            return Err(Errno::ENOMEM);
        };
        let upto = vma.end.min(end);
        fixup(world, mm, index, at, upto, lock)?;
        at = upto;
    }
    Ok(())
}

fn apply_all(world: &mut World, mm: &mut Mm, lock: VmaFlags) {
    let mut at = 0;
    while let Some(vma) = mm.vmas.find(at) {
        let (start, end) = (vma.start, vma.end);
        let index = mm.vmas.find_index(start);
        // Whole mappings are never split, and joining them can't fail.
        let _ = fixup(world, mm, index, start, end, lock);
        at = end;
    }
}

/// `mlock_fixup`.
fn fixup(
    world: &mut World,
    mm: &mut Mm,
    index: usize,
    start: u64,
    end: u64,
    lock: VmaFlags,
) -> Result<(), Errno> {
    let vma = mm.vmas.at(index);
    let flags = (vma.flags - VmaFlags::LOCKED_MASK) | lock;
    let never = VmaFlags::SPECIAL | VmaFlags::HUGETLB | VmaFlags::DROPPABLE;
    if flags == vma.flags || vma.flags.intersects(never) {
        return Ok(());
    }
    let mut proposal = Proposal::of(vma, start, end, world.page_shift());
    proposal.flags = flags;
    mm.modify(world, index, &proposal)?;
    Ok(())
}
