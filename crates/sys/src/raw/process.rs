//! Process descriptors and comparison.
#![expect(unsafe_code, reason = "system calls")]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use space::Errno;

use super::check;

/// `pidfd_getfd`: a duplicate of descriptor `fd` of the process behind `pidfd`.
pub(crate) fn pidfd_getfd(pidfd: BorrowedFd<'_>, fd: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: `pidfd` is open; the call takes numbers only.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) })?;
    let fd = RawFd::try_from(fd).expect("descriptors fit");
    // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `pidfd_open(PIDFD_THREAD)`: a descriptor of one task (Linux 6.9).
pub(crate) fn task_pidfd(tid: u32) -> Result<OwnedFd, Errno> {
    const PIDFD_THREAD: libc::c_int = libc::O_EXCL;
    // SAFETY: the call takes numbers only.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, tid, PIDFD_THREAD) })?;
    let fd = RawFd::try_from(fd).expect("descriptors fit");
    // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `kcmp(KCMP_VM)`: tells whether two processes share their memory.
pub(crate) fn same_memory(one: u32, other: u32) -> Result<bool, Errno> {
    const KCMP_VM: libc::c_long = 1;
    // SAFETY: the call takes numbers only.
    check(unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_VM, 0, 0) })
        .map(|order| order == 0)
}

/// Sends SIGSTOP to a process to which somebody else sent it before.
pub(crate) fn stop(pid: u32) -> Result<(), Errno> {
    // SAFETY: the call takes numbers only.
    check(unsafe { libc::kill(pid.cast_signed(), libc::SIGSTOP) }.into()).map(drop)
}

/// Sends SIGKILL to a process that we made.
pub(crate) fn kill(pid: u32) -> Result<(), Errno> {
    // SAFETY: the call takes numbers only.
    check(unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) }.into()).map(drop)
}
