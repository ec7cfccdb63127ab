//! `MADV_HWPOISON` and `MADV_SOFT_OFFLINE` (`madvise_inject_error`).

use crate::folio::FolioFlags;
use crate::gup::{self, Foll};
use crate::machine::{Machine, Progress, Tid};
use crate::stop::Stop;
use crate::uapi::madv;

impl Machine {
    /// Takes each page of a range out of use, as if its memory had broken or were about to.
    pub(super) fn inject_error(
        &mut self,
        tid: Tid,
        start: u64,
        end: u64,
        advice: i32,
    ) -> Result<(), Stop> {
        // What was done before the call had to wait for a page is not done again.
        let mut at = self.resumed_at(tid)?.unwrap_or(start);
        while at < end {
            let (world, process) = self.halves(tid)?;
            let got = gup::Fast::default().page(world, &mut process.mm, tid, at, Foll::empty());
            let pfn = match got {
                Ok(pfn) => pfn,
                Err(Stop::Blocked(wait)) => {
                    self.task_mut(tid)?.progress = Some(Progress::Walk { at });
                    return Err(Stop::Blocked(wait));
                }
                Err(stop) => return Err(stop),
            };
            world.frames.get(pfn, 1);
            let folio = world.frames.folio(pfn);
            at += folio.pages() << world.page_shift();
            let hugetlb = folio.flags.contains(FolioFlags::HUGETLB);
            match (advice == madv::SOFT_OFFLINE, hugetlb) {
                (true, _) => self.soft_offline(pfn)?,
                (false, false) => self.memory_failure(tid, pfn)?,
                (false, true) => self.memory_failure_hugetlb(tid, pfn)?,
            }
        }
        Ok(())
    }
}
