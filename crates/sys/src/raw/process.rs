//! Process descriptors and comparison.
#![expect(unsafe_code, reason = "system calls")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use space::Errno;

use super::check;

/// Takes a descriptor that the kernel just made.
pub(crate) fn descriptor(answer: libc::c_long) -> Result<OwnedFd, Errno> {
    let number = RawFd::try_from(check(answer)?).expect("descriptors fit");
    // SAFETY: the callers pass on a number that the kernel just made for them alone.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// `pidfd_getfd`: a duplicate of descriptor `fd` of the process behind `pidfd`.
pub(crate) fn pidfd_getfd(pidfd: BorrowedFd<'_>, fd: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: `pidfd` is open; the call takes numbers only.
    descriptor(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) })
}

/// `pidfd_open`: a descriptor of a process, or with `PIDFD_THREAD` of one task.
fn pidfd_open(id: u32, flags: libc::c_int) -> Result<OwnedFd, Errno> {
    // SAFETY: the call takes numbers only.
    descriptor(unsafe { libc::syscall(libc::SYS_pidfd_open, id, flags) })
}

/// Returns a duplicate of descriptor `fd` of task `tid` of process `pid`.
pub(crate) fn descriptor_of(pid: u32, tid: u32, fd: RawFd) -> Result<OwnedFd, Errno> {
    const PIDFD_THREAD: libc::c_int = libc::O_EXCL;
    // A task may have descriptors of its own, and the first one may have none any more. A kernel
    // that can't open a task by itself (before 6.9) is asked for the process's.
    let task = match pidfd_open(tid, PIDFD_THREAD) {
        Err(Errno::EINVAL) => pidfd_open(pid, 0),
        task => task,
    };
    pidfd_getfd(task?.as_fd(), fd)
}

/// What of two tasks `kcmp` compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    /// Their memory.
    Memory,
    /// Their tables of descriptors.
    Descriptors,
}

/// `kcmp`: tells whether two tasks share what is asked for.
pub(crate) fn same(one: u32, other: u32, what: Compared) -> Result<bool, Errno> {
    const KCMP_VM: libc::c_long = 1;
    const KCMP_FILES: libc::c_long = 2;
    let what = match what {
        Compared::Memory => KCMP_VM,
        Compared::Descriptors => KCMP_FILES,
    };
    // SAFETY: the call takes numbers only.
    check(unsafe { libc::syscall(libc::SYS_kcmp, one, other, what, 0, 0) }).map(|order| order == 0)
}

/// `getpid`, with bits above those of the call's number.
#[cfg(target_arch = "x86_64")]
pub(crate) fn own_id(above: u32) -> Result<u64, Errno> {
    let number = libc::SYS_getpid | i64::from(above) << 32;
    // SAFETY: this is `getpid`, or no call at all.
    check(unsafe { libc::syscall(number) })
}

/// Sends SIGSTOP to a process to which somebody else sent it before.
pub(crate) fn stop(pid: u32) -> Result<(), Errno> {
    // SAFETY: the call takes numbers only.
    check(unsafe { libc::kill(pid.cast_signed(), libc::SIGSTOP) }.into()).map(drop)
}

/// Sends a signal to one task.
#[cfg(test)]
pub(crate) fn signal_task(pid: u32, tid: u32, signal: i32) -> Result<(), Errno> {
    // SAFETY: the call takes numbers only.
    check(unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) }).map(drop)
}

/// Sends SIGKILL to a process that we made.
pub(crate) fn kill(pid: u32) -> Result<(), Errno> {
    // SAFETY: the call takes numbers only.
    check(unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) }.into()).map(drop)
}
