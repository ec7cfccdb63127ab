//! `MADV_POPULATE_READ` and `MADV_POPULATE_WRITE` (`madvise_populate`, `faultin_page_range`).

use space::Errno;

use crate::fault::FaultStop;
use crate::gup::{self, Foll};
use crate::machine::{Machine, Mm, Progress, Tid, World};
use crate::stop::Stop;
use crate::uapi::madv;

impl Machine {
    pub(super) fn populate(
        &mut self,
        tid: Tid,
        start: u64,
        end: u64,
        advice: i32,
    ) -> Result<(), Stop> {
        let foll = if advice == madv::POPULATE_WRITE {
            Foll::WRITE
        } else {
            Foll::empty()
        };
        let mut at = self.resumed_at(tid)?.unwrap_or(start);
        let (world, process) = self.halves(tid)?;
        let filled = fill(world, &mut process.mm, tid, (&mut at, end), foll);
        if let Err(Stop::Blocked(_)) = filled {
            // What is gone again by the time that the page is there is not filled anew.
            self.task_mut(tid)?.progress = Some(Progress::Walk { at });
        }
        filled
    }
}

/// `faultin_page_range` for each mapping from `at` on.
fn fill(
    world: &mut World,
    mm: &mut Mm,
    tid: Tid,
    (at, end): (&mut u64, u64),
    foll: Foll,
) -> Result<(), Stop> {
    let page_size = world.page_size();
    while *at < end {
        let vma = mm.vmas.lookup(*at).ok_or(Errno::ENOMEM)?;
        gup::check_vma_flags(vma, foll).map_err(|_| Errno::EINVAL)?;
        let upto = vma.end.min(end);
        while *at < upto {
            gup::get_page(world, mm, tid, *at, foll).map_err(|stop| match stop {
                FaultStop::Hwpoison { .. } => Errno::EHWPOISON.into(),
                other => other.errno(),
            })?;
            *at += page_size;
        }
    }
    Ok(())
}
