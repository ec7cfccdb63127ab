//! What a task of ours is doing, as procfs shows it.

use std::fs;

/// Whether a thread runs or sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// It runs, or will as soon as there is a processor.
    Runs,
    /// It sleeps in the kernel: perhaps for a moment only.
    Sleeps,
    /// It sleeps in the kernel for a reason that passes by itself: for work on other processors, for
    /// a device.
    Pauses,
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
        Some('S' | 'D') => sleeping(&wait_channel(pid, tid)),
        Some('Z' | 'X') | None => Doing::Gone,
        Some(_) => Doing::Runs,
    };
    let times = rest.split(' ').skip(TIMES.start).take(TIMES.len());
    let used = times.filter_map(|time| time.parse::<u64>().ok()).sum();
    (doing, used)
}

/// What a thread does that sleeps in this function of the kernel. All in which a userfaultfd is waited
/// for have it in their names, and those that wait for locks which another thread keeps while it
/// sleeps have theirs.
fn sleeping(place: &str) -> Doing {
    const LOCKS: [&str; 3] = ["rwsem", "mutex", "pipe"];
    match place {
        place if place.contains("userfault") => Doing::Waits,
        "" | "0" => Doing::Sleeps,
        place if LOCKS.iter().any(|lock| place.contains(lock)) => Doing::Sleeps,
        _ => Doing::Pauses,
    }
}

/// The function of the kernel that a thread sleeps in, if it may be known.
fn wait_channel(pid: u32, tid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/task/{tid}/wchan")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_told_from_a_lock() {
        assert_eq!(sleeping("handle_userfault"), Doing::Waits);
        assert_eq!(sleeping("__flush_work"), Doing::Pauses);
        assert_eq!(sleeping("rwsem_down_write_slowpath"), Doing::Sleeps);
        assert_eq!(sleeping(""), Doing::Sleeps);
    }
}
