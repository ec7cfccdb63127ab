//! Filling memory at the end of a call (`mm_populate`): each mapping of the range as by loads, a private
//! writable one as by stores.
//!
//! A call that sleeps on a page lets go of the mappings, and goes on with this page in what is mapped
//! then: what came before is not filled anew, nor looked at.
//!
//! Linux reference: 6.18, `mm/gup.c` (`__mm_populate`, `populate_vma_page_range`).

use std::ops::Range;

use space::Errno;

use crate::fault::FaultStop;
use crate::gup::{self, Foll};
use crate::machine::{Machine, Mm, Progress, Tid, World};
use crate::stop::Stop;
use crate::uffd::Prepared;
use crate::vma::VmaFlags;

/// What a call fills, and how it ends then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Populate {
    /// What is left of the range.
    pub(crate) range: Range<u64>,
    /// A mapping that can't be filled is left, and the call ends well.
    pub(crate) ignores_errors: bool,
    /// What the call returns.
    pub(crate) value: u64,
    /// Events that are queued when all is filled.
    pub(crate) events: Vec<Prepared>,
}

impl Machine {
    /// Fills a range at the end of a call, then tells its events, and ends it.
    ///
    /// # Errors
    ///
    /// Those of the first page that can't be had, unless they are ignored; or that the thread sleeps.
    pub(crate) fn populate_and_end(
        &mut self,
        tid: Tid,
        mut populate: Populate,
    ) -> Result<u64, Stop> {
        let (world, process) = self.halves(tid)?;
        let filled = fill(
            world,
            &mut process.mm,
            tid,
            &mut populate.range,
            populate.ignores_errors,
        );
        let result = match filled {
            Ok(()) => Ok(populate.value),
            Err(Stop::Failed(errno)) => Err(errno),
            Err(stop @ Stop::Blocked(_)) => {
                self.task_mut(tid)?.progress = Some(Progress::Populate(Box::new(populate)));
                return Err(stop);
            }
        };
        self.send_events(tid, populate.events.into(), result)
    }

    /// Where a call that is issued again stands: `Some` with its result if all but filling was done.
    ///
    /// # Errors
    ///
    /// As [`populate_and_end`](Self::populate_and_end).
    pub(crate) fn finish_populate(&mut self, tid: Tid) -> Result<Option<u64>, Stop> {
        let is_this = |progress: &mut Progress| matches!(progress, Progress::Populate(_));
        match self.task_mut(tid)?.progress.take_if(is_this) {
            Some(Progress::Populate(populate)) => self.populate_and_end(tid, *populate).map(Some),
            _ => Ok(None),
        }
    }
}

/// `__mm_populate`.
fn fill(
    world: &mut World,
    mm: &mut Mm,
    tid: Tid,
    left: &mut Range<u64>,
    ignores_errors: bool,
) -> Result<(), Stop> {
    while let Some(vma) = mm.vmas.find(left.start) {
        left.start = left.start.max(vma.start);
        let upto = left.end.min(vma.end);
        if left.start >= upto {
            break;
        }
        match populate_vma(world, mm, tid, &mut left.start, upto, Foll::empty()) {
            Err(Stop::Failed(_)) if ignores_errors => left.start = upto,
            filled => filled?,
        }
    }
    Ok(())
}

/// Fills a part of a mapping for a call that does not let go of the mappings and ignores errors: it ends
/// where it would have to sleep.
pub(crate) fn populate_locked(world: &mut World, mm: &mut Mm, tid: Tid, range: Range<u64>) {
    let mut at = range.start;
    let filled = populate_vma(world, mm, tid, &mut at, range.end, Foll::LOCKED);
    debug_assert!(
        !matches!(filled, Err(Stop::Blocked(_))),
        "nobody sleeps with the mappings locked"
    );
}

/// `populate_vma_page_range`, from `at` on: that is left at the page that can't be had.
fn populate_vma(
    world: &mut World,
    mm: &mut Mm,
    tid: Tid,
    at: &mut u64,
    end: u64,
    mut foll: Foll,
) -> Result<(), Stop> {
    let vma = mm.vmas.lookup(*at).ok_or(Errno::EFAULT)?;
    if vma.has(VmaFlags::LOCKONFAULT) {
        *at = end;
        return Ok(());
    }
    let private_writable = vma.flags & (VmaFlags::WRITE | VmaFlags::SHARED) == VmaFlags::WRITE;
    foll.set(Foll::WRITE, private_writable);
    foll.set(Foll::FORCE, vma.is_accessible());
    gup::check_vma_flags(vma, foll)?;
    let page_size = world.page_size();
    while *at < end {
        gup::get_page(world, mm, tid, *at, foll).map_err(FaultStop::errno)?;
        *at += page_size;
    }
    Ok(())
}
