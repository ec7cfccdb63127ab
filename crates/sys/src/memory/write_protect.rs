//! Tracking writes by asynchronous write protection: a userfaultfd of the target's, which only
//! we hold.

use std::os::fd::{AsFd, OwnedFd};

use space::{Errno, PageRange};

use crate::raw::userfaultfd;
use crate::uapi::userfaultfd::{
    UFFD_API, UFFD_FEATURE_WP_ASYNC, UFFD_FEATURE_WP_HUGETLBFS_SHMEM, UFFDIO_REGISTER_MODE_WP,
    UffdioApi, UffdioRange, UffdioRegister, UffdioWriteprotect,
};

/// A userfaultfd in asynchronous write protection mode. Dropping it leaves the process as it
/// would be without.
#[derive(Debug)]
pub(crate) struct WriteProtect {
    fd: OwnedFd,
}

impl WriteProtect {
    /// Makes the handshake on a new userfaultfd.
    pub(crate) fn new(fd: OwnedFd) -> Result<Self, Errno> {
        let mut api = UffdioApi {
            api: UFFD_API,
            features: UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
            ioctls: 0,
        };
        userfaultfd::api(fd.as_fd(), &mut api)?;
        Ok(Self { fd })
    }

    /// Registers a range, which is a whole mapping.
    pub(crate) fn register(&self, range: PageRange) -> Result<(), Errno> {
        let mut register = UffdioRegister {
            range: UffdioRange {
                start: range.start().0,
                len: range.len().0,
            },
            mode: UFFDIO_REGISTER_MODE_WP,
            ioctls: 0,
        };
        userfaultfd::register(self.fd.as_fd(), &mut register)
    }

    /// Takes all protection off a range that is registered.
    ///
    /// A mapping that lost its registration (`mremap` can join it with another) keeps the marks
    /// in its page tables, also on pages that can be written again. Registered anew, such a page
    /// would look unwritten for ever.
    pub(crate) fn clear(&self, range: PageRange) -> Result<(), Errno> {
        let mut protect = UffdioWriteprotect {
            range: UffdioRange {
                start: range.start().0,
                len: range.len().0,
            },
            mode: 0,
        };
        loop {
            match userfaultfd::write_protect(self.fd.as_fd(), &mut protect) {
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                done => return done,
            }
        }
    }
}
