//! The checks that all calls on ranges begin with (`validate_range`).

use space::Errno;

use super::{Context, UffdId};
use crate::machine::{Descriptor, Fd, Machine, Tid, World};

/// `validate_unaligned_range`: whole pages between the lowest and the highest address.
///
/// # Errors
///
/// `EINVAL`.
pub(super) fn check_unaligned(world: &World, start: u64, len: u64) -> Result<(), Errno> {
    let task_size = world.profile.arch.task_size();
    let bad = world.offset_in_page(len) != 0
        || len == 0
        || start < world.profile.mmap_min_addr
        || start >= task_size
        || len > task_size - start;
    if bad { Err(Errno::EINVAL) } else { Ok(()) }
}

/// `validate_range`: as [`check_unaligned`], from a page boundary on.
///
/// # Errors
///
/// `EINVAL`.
pub(super) fn check(world: &World, start: u64, len: u64) -> Result<(), Errno> {
    if world.offset_in_page(start) != 0 {
        return Err(Errno::EINVAL);
    }
    check_unaligned(world, start, len)
}

impl Machine {
    /// The userfaultfd of a descriptor.
    ///
    /// # Errors
    ///
    /// `EBADF` without a descriptor, `ENOTTY` where it is something else.
    pub(super) fn uffd_of(&self, tid: Tid, fd: Fd) -> Result<UffdId, Errno> {
        match self.process(self.pid_of(tid)?)?.descriptor(fd)? {
            Descriptor::Uffd(uffd) => Ok(uffd),
            _ => Err(Errno::ENOTTY),
        }
    }

    /// As [`uffd_of`](Self::uffd_of), ready for calls (`userfaultfd_is_initialized`).
    ///
    /// # Errors
    ///
    /// `EINVAL` before `UFFDIO_API`.
    pub(super) fn uffd_ready(&self, tid: Tid, fd: Fd) -> Result<UffdId, Errno> {
        let uffd = self.uffd_of(tid, fd)?;
        if self.context(uffd).features.is_none() {
            return Err(Errno::EINVAL);
        }
        Ok(uffd)
    }

    /// The context of a userfaultfd that has a descriptor.
    pub(super) fn context(&self, uffd: UffdId) -> &Context {
        self.world
            .uffds
            .find(uffd)
            .expect("a descriptor holds a context")
    }

    /// As [`context`](Self::context), to be changed.
    pub(super) fn context_mut(&mut self, uffd: UffdId) -> &mut Context {
        self.world
            .uffds
            .find_mut(uffd)
            .expect("a descriptor holds a context")
    }

    /// `mmap_changing`.
    pub(super) fn is_changing(&self, uffd: UffdId) -> bool {
        self.context(uffd).changing > 0
    }
}
