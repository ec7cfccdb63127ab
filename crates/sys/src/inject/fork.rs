//! A duplicate of the memory, made by the process itself.

use std::time::Duration;

use space::{Errno, Vaddr};

use super::call::{Caller, InjectError};
use crate::arch::{call, frame};
use crate::procfs::{self, Process, RunState};
use crate::raw::process;
use crate::raw::ptrace;
use crate::raw::wait;
use crate::task::{proc, wait_stop};

/// `PTRACE_EVENT_CLONE`, which a child with another exit signal than `SIGCHLD` is announced by.
const EVENT_CLONE: i32 = 3;
/// The flags of the call: `CLONE_PARENT_SETTID`, the parent's memory gets the child's id;
/// `CLONE_FILES` and `CLONE_FS`, so that a file that the parent closes is closed, and no pipe,
/// connection or lock stays for as long as the child does. In the lowest byte, the exit signal.
pub(super) const CLONE_FLAGS: u64 =
    0x0010_0000 | 0x400 | 0x200 | EXIT_SIGNAL.cast_unsigned() as u64;
/// The signal that the parent is to get at the child's end: one that there is none of, so nothing
/// is sent. It is what tells a child of ours from others of the process.
const EXIT_SIGNAL: i32 = 229;
/// What `clone` says to its tracer when a signal is pending.
const ERESTARTNOINTR: i32 = -513;
/// `__WALL`: children of any kind.
pub(super) const WALL: u64 = 0x4000_0000;
/// `__WALL` and `WNOHANG`.
pub(super) const WALL_NOHANG: u64 = WALL | 1;

/// A stopped duplicate. It dies with the thread that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Child {
    /// Its id for us.
    pub(crate) pid: u32,
    /// Its id for its parent.
    pub(crate) pid_inside: i64,
}

/// Makes the caller's task fork.
///
/// The child's exit signal does not exist, so its parent hears nothing of it, and it starts on a stack
/// whose only way leads to `exit_group`: were it ever let go, it could do nothing else. Should we
/// die before the parent's registers are back, the parent waits for that child on its way back.
///
/// Where it fails after the child's birth, `born` has the child: it is of no use, and has to be
/// ended and taken note of.
///
/// # Errors
///
/// [`InjectError::Failed`] with what `clone` said.
pub(crate) fn fork(
    caller: &mut Caller<'_>,
    born: &mut Option<Child>,
) -> Result<Child, InjectError> {
    caller.set_options(libc::PTRACE_O_TRACECLONE)?;
    let frames = caller.frames;
    let whom = Vaddr(frames.wait.0 + frame::FIRST_ARGUMENT);
    caller.enter(
        frames.wait,
        call::CLONE,
        [CLONE_FLAGS, frames.exit.0, whom.0, 0, 0, 0],
    )?;
    let mut pid = None;
    if let (_, EVENT_CLONE) = caller.step()? {
        let id = ptrace::event_message(caller.task.tid)?;
        let id = u32::try_from(id).map_err(|_| Errno::EIO)?;
        // Asked while it can't be gone: later its id may be another's.
        *born = id_inside(id).map(|pid_inside| Child {
            pid: id,
            pid_inside,
        });
        await_child(id, caller)?;
        pid = Some(id);
        caller.step()?;
    }
    let answer = crate::task::read_general(caller.task.tid)?.result();
    match (pid, i32::try_from(answer)) {
        (Some(pid), Ok(inside)) if inside > 0 => Ok(Child {
            pid,
            pid_inside: inside.into(),
        }),
        // A stop signal was pending; the call would be made again by itself.
        (_, Ok(ERESTARTNOINTR)) => Err(InjectError::Failed(Errno::EAGAIN)),
        (_, Ok(errno)) if errno < 0 => Err(InjectError::Failed(Errno(-errno))),
        _ => Err(InjectError::Failed(Errno::EIO)),
    }
}

/// Waits until the child stands still, and binds its life to this thread's.
fn await_child(pid: u32, caller: &Caller<'_>) -> Result<(), InjectError> {
    match wait_stop(pid, caller.patience())? {
        Some(_) => Ok(ptrace::set_options(pid, libc::PTRACE_O_EXITKILL)?),
        // It was killed; the task that made it was not.
        None => Err(InjectError::Failed(Errno::ECHILD)),
    }
}

/// Finds ended children that a tool left behind which was killed.
pub(crate) fn left_behind(pid: u32) -> Vec<Child> {
    let processes = procfs::processes().unwrap_or_default();
    let ours = processes.into_iter().filter(|&other| {
        proc::stat(other).is_ok_and(|stat| {
            let has_ended = stat.state == RunState::Zombie;
            stat.parent == pid && stat.exit_signal == EXIT_SIGNAL && has_ended
        })
    });
    ours.filter_map(|pid| {
        let pid_inside = id_inside(pid)?;
        Some(Child { pid, pid_inside })
    })
    .collect()
}

/// Returns the id that a process has in its own pid namespace, which is its parent's as well.
fn id_inside(pid: u32) -> Option<i64> {
    let status = Process::open(pid).ok()?.status().ok()?;
    status.namespace_tasks.last().map(|&id| i64::from(id))
}

/// Ends the child, on the thread that made it; its parent has to take note of it behind this.
pub(crate) fn end(child: Child) -> Result<(), Errno> {
    process::kill(child.pid)?;
    wait::reap(child.pid)
}

/// As [`end`], and waits for no longer than `limit`: whoever holds the parent stands still for it.
pub(crate) fn end_within(child: Child, limit: Duration) -> Result<(), Errno> {
    process::kill(child.pid)?;
    wait::reap_within(child.pid, limit)
}

/// Has the parent take note of the child's end, so that no zombie stays.
pub(crate) fn reap(caller: &mut Caller<'_>, child: Child) -> Result<(), InjectError> {
    // The end is on its way to the parent when our own wait returns.
    const TRIES: u32 = 1000;
    let pid = child.pid_inside.cast_unsigned();
    for _ in 0..TRIES {
        match caller.call(call::WAIT4, [pid, 0, WALL_NOHANG, 0, 0, 0])? {
            0 => std::thread::sleep(Duration::from_micros(50)),
            answer if answer == child.pid_inside => return Ok(()),
            // Somebody in the process waited for it already.
            answer if answer == -i64::from(Errno::ECHILD.0) => return Ok(()),
            answer => {
                let errno = i32::try_from(answer).ok().filter(|&errno| errno < 0);
                return Err(errno.map_or(Errno::EIO, |errno| Errno(-errno)).into());
            }
        }
    }
    Err(InjectError::Failed(Errno::ETIMEDOUT))
}
