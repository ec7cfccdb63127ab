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

/// Looks at a thread, and at how much time of a processor it has used, in hundredths of a second.
pub(super) fn doing(pid: u32, tid: u32) -> (Doing, u64) {
    /// Behind the state: the times in the program and in the kernel (`proc_pid_stat(5)`).
    const TIMES: std::ops::Range<usize> = 11..13;
    let stat = fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).unwrap_or_default();
    // The name before the state may hold anything but ends with the last parenthesis.
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let doing = match rest.chars().next() {
        Some('S' | 'D') if waits_for_userfaultfd(pid, tid) => Doing::Waits,
        Some('S' | 'D') => Doing::Sleeps,
        Some('Z' | 'X') | None => Doing::Gone,
        Some(_) => Doing::Runs,
    };
    let times = rest.split(' ').skip(TIMES.start).take(TIMES.len());
    let used = times.filter_map(|time| time.parse::<u64>().ok()).sum();
    (doing, used)
}

/// All functions in which the kernel waits for a userfaultfd have it in their names.
fn waits_for_userfaultfd(pid: u32, tid: u32) -> bool {
    let place = fs::read_to_string(format!("/proc/{pid}/task/{tid}/wchan"));
    place.is_ok_and(|place| place.contains("userfault"))
}
