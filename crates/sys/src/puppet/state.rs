//! What a task of ours is doing, as procfs shows it.

use std::fs;

/// Whether a thread runs or sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// It runs, or will as soon as there is a processor.
    Runs,
    /// It sleeps in the kernel: perhaps for a moment only.
    Sleeps,
    /// It waits for somebody who handles a userfaultfd.
    Waits,
    /// It has ended.
    Gone,
}

/// Looks at a thread.
pub(super) fn doing(pid: u32, tid: u32) -> Doing {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")) else {
        return Doing::Gone;
    };
    // The name before the state may hold anything but ends with the last parenthesis.
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    match state {
        Some('S' | 'D') if waits_for_userfaultfd(pid, tid) => Doing::Waits,
        Some('S' | 'D') => Doing::Sleeps,
        Some('Z' | 'X') | None => Doing::Gone,
        Some(_) => Doing::Runs,
    }
}

/// All functions in which the kernel waits for a userfaultfd have it in their names.
fn waits_for_userfaultfd(pid: u32, tid: u32) -> bool {
    let place = fs::read_to_string(format!("/proc/{pid}/task/{tid}/wchan"));
    place.is_ok_and(|place| place.contains("userfault"))
}
