//! `MADV_DONTNEED` and `MADV_DONTNEED_LOCKED` (`madvise_dontneed_free`,
//! `madvise_dontneed_single_vma`).

use space::Errno;

use super::Part;
use crate::machine::Machine;
use crate::stop::Stop;
use crate::uapi::madv;
use crate::vma::VmaFlags;
use crate::zap::{Zap, zap_range};

impl Machine {
    pub(super) fn dontneed(&mut self, part: &Part) -> Result<(), Stop> {
        let Some(end) = discardable(part)? else {
            return Ok(());
        };
        self.uffd_remove(part.tid, part.start, end)?;
        let (world, process) = self.halves(part.tid)?;
        zap_range(
            world,
            &mut process.mm,
            &part.vma,
            part.start,
            end,
            Zap::DISCARD,
        );
        Ok(())
    }
}

/// `madvise_dontneed_free_valid_vma`: the end of what can be dropped, `None` for nothing.
pub(super) fn discardable(part: &Part) -> Result<Option<u64>, Errno> {
    if !part.vma.is_hugetlb() {
        let locked = part.vma.has(VmaFlags::LOCKED) && part.advice != madv::DONTNEED_LOCKED;
        return if locked {
            Err(Errno::EINVAL)
        } else {
            Ok(Some(part.end))
        };
    }
    if part.advice != madv::DONTNEED && part.advice != madv::DONTNEED_LOCKED {
        return Err(Errno::EINVAL);
    }
    let mask = (1_u64 << part.vma.page_shift) - 1;
    if part.start & mask != 0 {
        return Err(Errno::EINVAL);
    }
    let end = part.end & !mask;
    Ok((end != part.start).then_some(end))
}
