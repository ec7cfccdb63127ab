//! `madvise`: one file for each kind of advice that does more than set a flag.
//!
//! Linux reference: 6.18, `mm/madvise.c` (`do_madvise`, `madvise_walk_vmas`,
//! `madvise_vma_behavior`).

mod collapse;
mod collapse_file;
mod dontneed;
mod flags;
mod free;
mod guard;
mod hwpoison;
mod pageout;
mod populate;
mod removal;
mod remove;
mod split;

pub(crate) use removal::Removal;

use space::Errno;

use crate::file::hugetlb::hgm;
use crate::machine::{Machine, Mm, Progress, Tid, World};
use crate::stop::Stop;
use crate::uapi::madv;
use crate::vma::View;

/// One mapping's part of the range.
pub(crate) struct Part {
    pub(crate) tid: Tid,
    pub(crate) vma: View,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) advice: i32,
}

impl Machine {
    /// Tells the kernel what is going to happen to a range, or has it do something.
    ///
    /// # Errors
    ///
    /// `EINVAL` for unknown advice, a start that is not aligned, or a mapping that the advice is
    /// not for; `ENOMEM` where a part is not mapped, after the rest is done; others by kind of
    /// advice. With `EVENT_REMOVE` the thread may sleep until the event was read.
    pub fn madvise(&mut self, tid: Tid, start: u64, len: u64, advice: i32) -> Result<(), Stop> {
        let (world, _) = self.halves(tid)?;
        if !known(world, advice) {
            return Err(Errno::EINVAL.into());
        }
        // madvise_should_skip, is_valid_madvise
        if world.offset_in_page(start) != 0 {
            return Err(Errno::EINVAL.into());
        }
        let aligned = world.page_align(len);
        if len != 0 && aligned == 0 {
            return Err(Errno::EINVAL.into());
        }
        let end = start.wrapping_add(aligned);
        if end < start {
            return Err(Errno::EINVAL.into());
        }
        if end == start {
            return Ok(());
        }
        if advice == madv::HWPOISON || advice == madv::SOFT_OFFLINE {
            return self.inject_error(tid, start, start + len, advice);
        }
        match advice {
            madv::POPULATE_READ | madv::POPULATE_WRITE => self.populate(tid, start, end, advice),
            _ => self.walk(tid, start, end, advice),
        }
    }

    /// `madvise_walk_vmas`: one mapping after the other. What is not mapped is an error, but only
    /// when the rest is done.
    fn walk(&mut self, tid: Tid, start: u64, end: u64, advice: i32) -> Result<(), Stop> {
        // A call that waited goes on where it stood.
        let resumed = self.removal(tid);
        let mut at = resumed.map_or(start, |removal| removal.start);
        let mut unmapped = resumed.is_some_and(|removal| removal.unmapped);
        if let Some(removal) = resumed
            && self.finish_hole(tid, removal)?
        {
            at = removal.end;
        }
        while at < end {
            let resumed = self.removal(tid).filter(|removal| removal.start == at);
            let (_, process) = self.halves(tid)?;
            let found = process.mm.vmas.find(at);
            let Some(vma) = found.filter(|vma| resumed.is_none() || vma.start <= at) else {
                self.task_mut(tid)?.progress = None;
                return Err(Errno::ENOMEM.into());
            };
            if at < vma.start {
                unmapped = true;
                at = vma.start;
                if at >= end {
                    break;
                }
            }
            let upto = vma.end.min(resumed.map_or(end, |removal| removal.end));
            let part = Part {
                tid,
                vma: vma.view(),
                start: at,
                end: upto,
                advice,
            };
            self.advise_or_wait(&part, unmapped)?;
            at = upto;
        }
        if unmapped {
            Err(Errno::ENOMEM.into())
        } else {
            Ok(())
        }
    }

    /// Does one mapping's part. A walk that has to wait remembers what it found so far.
    fn advise_or_wait(&mut self, part: &Part, unmapped: bool) -> Result<(), Stop> {
        let advised = self.advise(part);
        let progress = &mut self.task_mut(part.tid)?.progress;
        if let Some(Progress::Removal(removal)) = progress {
            match advised {
                Err(Stop::Blocked(_)) => removal.unmapped = unmapped,
                _ => *progress = None,
            }
        }
        advised
    }

    /// `madvise_vma_behavior`.
    fn advise(&mut self, part: &Part) -> Result<(), Stop> {
        match part.advice {
            madv::DONTNEED | madv::DONTNEED_LOCKED => self.dontneed(part),
            madv::FREE => self.lazyfree(part),
            madv::REMOVE => self.remove(part),
            madv::COLLAPSE if hgm::is_on(&part.vma) => self.with_mm(part, split::collapse),
            madv::SPLIT => self.with_mm(part, split::split),
            madv::COLLAPSE => self.collapse(part),
            madv::WILLNEED => Ok(()),
            madv::COLD | madv::PAGEOUT => self.pageout(part),
            madv::GUARD_INSTALL => self.with_mm(part, guard::install),
            madv::GUARD_REMOVE => self.with_mm(part, guard::remove),
            _ => self.with_mm(part, flags::set),
        }
    }

    /// Where a call goes on that had to wait for a page.
    fn resumed_at(&mut self, tid: Tid) -> Result<Option<u64>, Errno> {
        let progress = &mut self.task_mut(tid)?.progress;
        Ok(match *progress {
            Some(Progress::Walk { at }) => {
                *progress = None;
                Some(at)
            }
            _ => None,
        })
    }

    fn with_mm(
        &mut self,
        part: &Part,
        work: fn(&mut World, &mut Mm, &Part) -> Result<(), Errno>,
    ) -> Result<(), Stop> {
        let (world, process) = self.halves(part.tid)?;
        work(world, &mut process.mm, part).map_err(Stop::Failed)
    }
}

/// `madvise_behavior_valid`.
fn known(world: &World, advice: i32) -> bool {
    use crate::profile::Kernel;
    match advice {
        madv::NORMAL..=madv::DONTNEED | madv::FREE..=madv::COLLAPSE => true,
        madv::HWPOISON | madv::SOFT_OFFLINE => world.profile.memory_failure,
        madv::SPLIT => world.profile.hgm.is_some(),
        madv::GUARD_INSTALL | madv::GUARD_REMOVE => world.profile.kernel >= Kernel::V6_18,
        _ => false,
    }
}
