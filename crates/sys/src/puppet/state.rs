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
        Some('S' | 'D') => sleeping(&wait_channel(pid, tid)),
        Some('Z' | 'X') | None => Doing::Gone,
        Some(_) => Doing::Runs,
    };
    let times = rest.split(' ').skip(TIMES.start).take(TIMES.len());
    let used = times.filter_map(|time| time.parse::<u64>().ok()).sum();
    (doing, used)
}

/// What a thread that sleeps in this function of the kernel is doing.
fn sleeping(place: &str) -> Doing {
    /// Where the kernel waits for its own work on all processors, which comes to an end, and takes
    /// long where they are busy: `lru_add_drain_all`, for one.
    const OWN_WORK: [&str; 3] = ["flush_work", "wait_rcu_gp", "synchronize_rcu"];
    // All functions in which the kernel waits for a userfaultfd have it in their names.
    if place.contains("userfault") {
        Doing::Waits
    } else if OWN_WORK.iter().any(|work| place.contains(work)) {
        Doing::Runs
    } else {
        Doing::Sleeps
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
    fn what_the_kernel_does_itself_is_no_sleep() {
        assert_eq!(sleeping("handle_userfault"), Doing::Waits);
        assert_eq!(sleeping("__flush_work"), Doing::Runs);
        assert_eq!(sleeping("rwsem_down_write_slowpath"), Doing::Sleeps);
        assert_eq!(sleeping(""), Doing::Sleeps);
    }
}
