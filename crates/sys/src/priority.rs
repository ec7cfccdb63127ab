//! Work that can wait, beside a process that can't.
//!
//! Linux reference: `sched(7)`: a nice value is a thread's own, and counts among threads of the same
//! scheduling group only. Where control groups or `sched_autogroup` put us into another one than the
//! target, the groups share the processors evenly, whatever is asked for here.

/// How many steps of the nice value a thread steps back. Five leave it about a quarter of a processor
/// that another wants as well. Fewer are hardly noticed by the target; more (or `SCHED_IDLE`) would
/// stretch rounds on a busy machine until they leave more to copy in the freeze than they save, and
/// keep waiting whoever needs the target's mappings locked while they are read.
const STEPS: i32 = 5;

/// Has the calling thread, and nobody else, step back behind others that want the processor. It can't
/// be undone without privilege, so it is for threads that end when the work does.
pub fn give_way() {
    // Where a filter refuses it, the work is done all the same.
    _ = rustix::process::nice(STEPS);
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn only_the_calling_thread_gives_way() {
        let own = || getpriority_process(None).unwrap();
        let before = own();
        let theirs = std::thread::spawn(move || {
            give_way();
            own()
        });
        assert_eq!(theirs.join().unwrap(), (before + STEPS).min(19));
        assert_eq!(own(), before);
    }
}
