//! What a stop asks `/proc` for: only what it needs, and little of it.

use std::path::Path;

use space::Errno;

use crate::procfs::{self, Process, ProcfsError, RunState, Stat};

/// Lists the tasks of a process.
pub(crate) fn tasks(pid: u32) -> Result<Vec<u32>, ProcfsError> {
    Process::open(pid)?.tasks()
}

/// Returns the process that a task belongs to.
pub(crate) fn process_of(tid: u32) -> Option<u32> {
    let status = Process::open(tid).and_then(|task| task.status());
    status.ok().map(|status| status.process)
}

/// Reads a task's `stat`.
pub(crate) fn stat(tid: u32) -> Result<Stat, ProcfsError> {
    Process::open(tid)?.stat()
}

/// Returns the number of the call that a task sleeps in; `None` where it runs, or that is not known.
pub(crate) fn call_of(tid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{tid}/syscall")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// Returns where in the kernel a task waits, where that is told.
pub(crate) fn wchan(tid: u32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{tid}/wchan")).ok()?;
    (!name.is_empty() && name != "0").then_some(name)
}

/// Tells whether any task of a process waits where nothing interrupts it.
pub(crate) fn waits_uninterruptibly(pid: u32) -> bool {
    let tids = tasks(pid).unwrap_or_default();
    tids.into_iter()
        .any(|tid| stat(tid).is_ok_and(|stat| stat.state == RunState::Uninterruptible))
}

/// Returns the task that traces `tid`, or 0.
pub(crate) fn tracer(tid: u32) -> u32 {
    let status = Process::open(tid).and_then(|task| task.status());
    status.map_or(0, |status| status.tracer)
}

/// Returns the id of the calling thread, in our pid namespace.
pub(crate) fn own_thread() -> u32 {
    rustix::thread::gettid()
        .as_raw_nonzero()
        .get()
        .cast_unsigned()
}

/// Tells whether `tid` is a thread of ours.
pub(crate) fn is_own_thread(tid: u32) -> bool {
    tid != 0 && Path::new(&format!("/proc/self/task/{tid}")).exists()
}

/// Returns the id that the system gave last, in our pid namespace.
pub(crate) fn last_id() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().last()?.parse().ok()
}

/// Tells whether the calls of a task are filtered.
pub(crate) fn seccomp_mode(tid: u32) -> Result<procfs::SeccompMode, Errno> {
    let status = Process::open(tid).and_then(|task| task.status());
    status
        .map(|status| status.seccomp)
        .map_err(|error| error.errno())
}

/// Tells whether a signal passes a task by: it is ignored, as the process wishes or as is usual for
/// it. False where that is not known.
pub(crate) fn ignores(tid: u32, signal: i32) -> bool {
    const USUALLY: [i32; 4] = [libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH];
    let status = Process::open(tid).and_then(|task| task.status());
    status.is_ok_and(|status| {
        let is_in = |set: u64| set >> (signal - 1) & 1 != 0;
        let signals = status.signals;
        is_in(signals.ignored) || USUALLY.contains(&signal) && !is_in(signals.caught)
    })
}

/// Tells whether a signal would run a handler of the task; false where that is not known.
pub(crate) fn catches(tid: u32, signal: i32) -> bool {
    let status = Process::open(tid).and_then(|task| task.status());
    status.is_ok_and(|status| status.signals.caught >> (signal - 1) & 1 != 0)
}

/// Returns how often a task has gone to sleep.
pub(crate) fn waits(tid: u32) -> Option<u64> {
    let status = Process::open(tid).and_then(|task| task.status());
    status.ok().map(|status| status.waits)
}

/// Tells whether calls of any task of a process are filtered; true where that is not known.
pub(crate) fn is_filtered(pid: u32) -> bool {
    let Ok(tids) = tasks(pid) else { return true };
    tids.iter().any(|&tid| {
        // A task that is gone needs no care.
        seccomp_mode(tid).is_ok_and(|mode| mode != procfs::SeccompMode::Off)
    })
}
