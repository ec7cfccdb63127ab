//! Waiting for traced tasks.
//!
//! A traced task may be a child of the program that we are part of, whose end that has to hear of.
//! So changes are only looked at here and never taken note of for good, but for ends that somebody
//! else waits for behind us ([`reap`]).
#![expect(unsafe_code, reason = "system calls")]

use std::time::{Duration, Instant};

use space::Errno;

use super::check;

/// What became of a traced task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It stopped; `signal` as `WSTOPSIG` gives it, `event` the `PTRACE_EVENT_*` or 0.
    Stopped {
        /// The stop's signal, with bit 7 for a system call stop.
        signal: i32,
        /// The event's number.
        event: i32,
    },
    /// It is gone.
    Ended,
}

/// Asks for a change of task `tid`; `None` where there is none yet. It is only looked at: a stop
/// before a signal that nobody has taken note of ends with the signal if we die, one that was
/// taken note of ends without.
pub(crate) fn poll(tid: u32) -> Result<Option<Change>, Errno> {
    let flags = libc::WSTOPPED | libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    Ok(wait(tid, flags)?.map(|seen| match seen.code {
        libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED => Change::Ended,
        _ => Change::Stopped {
            signal: seen.status & 0xff,
            event: seen.status >> 8,
        },
    }))
}

/// Takes note of the end of a task, if it has ended.
pub(crate) fn take_end(tid: u32) -> Result<(), Errno> {
    wait(tid, libc::WEXITED | libc::WNOHANG).map(drop)
}

/// Waits for the end of a task that we traced and that is no child of ours, so that its parent
/// hears of it.
pub(crate) fn reap(tid: u32) -> Result<(), Errno> {
    loop {
        match wait(tid, libc::WEXITED) {
            Ok(Some(Seen {
                code: libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED,
                ..
            })) => {
                return Ok(());
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// As [`reap`], but gives up with [`Errno::ETIMEDOUT`] after `limit`.
pub(crate) fn reap_within(tid: u32, limit: Duration) -> Result<(), Errno> {
    let begun = Instant::now();
    while poll(tid)? != Some(Change::Ended) {
        if begun.elapsed() > limit {
            return Err(Errno::ETIMEDOUT);
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    take_end(tid)
}

/// What `waitid` tells.
struct Seen {
    code: i32,
    status: i32,
}

/// `waitid`: a change that `flags` ask for.
fn wait(tid: u32, flags: i32) -> Result<Option<Seen>, Errno> {
    // SAFETY: a `siginfo_t` is plain numbers, for which zeros are valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is ours to write; the call takes numbers else.
    check(unsafe { libc::waitid(libc::P_PID, tid, &raw mut info, flags | libc::__WALL) }.into())?;
    // SAFETY: the kernel filled in the fields of a child's change, or left all zero.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as before.
    let status = unsafe { info.si_status() };
    Ok((pid != 0).then_some(Seen {
        code: info.si_code,
        status,
    }))
}
