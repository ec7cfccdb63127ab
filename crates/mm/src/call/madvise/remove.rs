//! `MADV_REMOVE`: a hole in the file (`madvise_remove`).

use std::ops::Range;

use space::Errno;

use super::Part;
use super::removal::{Hole, Removal};
use crate::lock::Lock;
use crate::machine::{Machine, Progress, Tid};
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
        let hole = Hole { file, offset, len };
        match self.uffd_remove(part.tid, part.start, part.end) {
            Ok(()) => self.punch(part.tid, part.start..part.end, hole, None),
            Err(stop) => {
                if let Some(Progress::Removal(removal)) = &mut self.task_mut(part.tid)?.progress {
                    removal.hole = Some(hole);
                    self.world.files.get_ref(file);
                }
                Err(stop)
            }
        }
    }

    /// Goes on with a hole, if that is what the walk waited with.
    pub(super) fn finish_hole(&mut self, tid: Tid, removal: Removal) -> Result<bool, Stop> {
        let Some(hole) = removal.hole else {
            return Ok(false);
        };
        if self.is_blocked(removal.wait) {
            return Err(Stop::Blocked(removal.wait));
        }
        let range = removal.start..removal.end;
        self.punch(tid, range, hole, Some(removal)).map(|()| true)
    }

    /// `vfs_fallocate`, without the lock on the mappings. What slept has a reference of the file.
    fn punch(
        &mut self,
        tid: Tid,
        range: Range<u64>,
        hole: Hole,
        slept: Option<Removal>,
    ) -> Result<(), Stop> {
        let locked = self.world.locks.check(Lock::File(hole.file), tid);
        if let Err(Stop::Blocked(wait)) = locked {
            if slept.is_none() {
                self.world.files.get_ref(hole.file);
            }
            self.task_mut(tid)?.progress = Some(Progress::Removal(Removal {
                wait,
                start: range.start,
                end: range.end,
                unmapped: slept.is_some_and(|slept| slept.unmapped),
                hole: Some(hole),
            }));
        }
        locked?;
        self.task_mut(tid)?.progress = None;
        let punched = self.punch_hole(hole.file, hole.offset, hole.len);
        if slept.is_some() {
            self.world.put_file(hole.file);
        }
        punched.map_err(Stop::Failed)
    }
}
