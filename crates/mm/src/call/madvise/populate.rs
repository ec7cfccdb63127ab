//! `MADV_POPULATE_READ` and `MADV_POPULATE_WRITE` (`madvise_populate`, `faultin_page_range`).

use space::Errno;

use crate::fault::FaultStop;
use crate::gup::{self, Foll};
use crate::machine::{Machine, Tid};
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
        let (world, process) = self.halves(tid)?;
        let mm = &mut process.mm;
        let foll = if advice == madv::POPULATE_WRITE {
            Foll::WRITE
        } else {
            Foll::empty()
        };
        let page_size = world.page_size();
        let mut at = start;
        while at < end {
            let vma = mm.vmas.lookup(at).ok_or(Errno::ENOMEM)?;
            gup::check_vma_flags(vma, foll).map_err(|_| Errno::EINVAL)?;
            let upto = vma.end.min(end);
            while at < upto {
                gup::get_page(world, mm, tid, at, foll).map_err(|stop| match stop {
                    FaultStop::Hwpoison { .. } => Errno::EHWPOISON.into(),
                    other => other.errno(),
                })?;
                at += page_size;
            }
        }
        Ok(())
    }
}
