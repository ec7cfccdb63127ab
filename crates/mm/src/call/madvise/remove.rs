//! `MADV_REMOVE`: a hole in the file (`madvise_remove`).

use space::Errno;

use super::Part;
use crate::lock::Lock;
use crate::machine::{Machine, Progress};
use crate::stop::Stop;
use crate::vma::VmaFlags;

impl Machine {
    pub(super) fn remove(&mut self, part: &Part) -> Result<(), Stop> {
        let vma = &part.vma;
        if vma.has(VmaFlags::LOCKED) {
            return Err(Errno::EINVAL.into());
        }
        let Some(file) = vma.file else {
            return Err(Errno::EINVAL.into());
        };
        if !vma.has(VmaFlags::SHARED | VmaFlags::MAYWRITE) {
            return Err(Errno::EACCES.into());
        }
        let (world, _) = self.halves(part.tid)?;
        let page_shift = world.page_shift();
        let offset = vma.index_of(part.start, page_shift) << page_shift;
        let len = part.end - part.start;
        self.uffd_remove(part.tid, part.start, part.end)?;
        // `vfs_fallocate`, without the lock on the mappings.
        if let Err(stop) = self.world.locks.check(Lock::File(file), part.tid) {
            if let Stop::Blocked(wait) = stop {
                let start = part.start;
                self.task_mut(part.tid)?.progress = Some(Progress::Remove { wait, start });
            }
            return Err(stop);
        }
        self.punch_hole(file, offset, len).map_err(Stop::Failed)
    }
}
