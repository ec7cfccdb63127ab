//! ioctls of a userfaultfd.
#![expect(unsafe_code, reason = "system calls")]

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use space::Errno;

use super::check;
use super::process::descriptor;
use crate::uapi::userfaultfd::{
    UFFDIO_API, UFFDIO_REGISTER, UFFDIO_WRITEPROTECT, UffdioApi, UffdioRegister, UffdioWriteprotect,
};

/// `userfaultfd(2)` with `flags` beside close-on-exec and non-blocking.
pub(crate) fn userfaultfd(flags: u64) -> Result<OwnedFd, Errno> {
    let flags = flags | u64::from((libc::O_CLOEXEC | libc::O_NONBLOCK).unsigned_abs());
    // SAFETY: 1. the call takes a number only. 2. only asynchronous write protection is ever asked
    // of it, which delivers nothing and so can leave no task waiting.
    descriptor(unsafe { libc::syscall(libc::SYS_userfaultfd, flags) })
}

/// `UFFDIO_API`: the handshake, once for a descriptor.
pub(crate) fn api(fd: BorrowedFd<'_>, api: &mut UffdioApi) -> Result<(), Errno> {
    // SAFETY: 1. `fd` is open. 2. the kernel reads and writes a `uffdio_api`, which `api` is.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), UFFDIO_API, api) }.into()).map(drop)
}

/// `UFFDIO_REGISTER`.
pub(crate) fn register(fd: BorrowedFd<'_>, register: &mut UffdioRegister) -> Result<(), Errno> {
    // SAFETY: 1. `fd` is open. 2. the kernel reads and writes a `uffdio_register`. 3. only write
    // protection in asynchronous mode is ever asked for, which delivers nothing and so can leave
    // no task waiting.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), UFFDIO_REGISTER, register) }.into()).map(drop)
}

/// `UFFDIO_WRITEPROTECT`.
pub(crate) fn write_protect(
    fd: BorrowedFd<'_>,
    protect: &mut UffdioWriteprotect,
) -> Result<(), Errno> {
    // SAFETY: 1. `fd` is open. 2. the kernel reads a `uffdio_writeprotect`, which `protect` is.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), UFFDIO_WRITEPROTECT, protect) }.into()).map(drop)
}
