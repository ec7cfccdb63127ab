//! When waits began that can't carry that along ([`Mark`](super::mark::Mark)), as far as we know.
//!
//! Only a session that stays attached knows it, and it has to tell a wait from one that came after
//! it. It takes a wait for the same if all registers are, and if the task went to sleep only as often
//! as one wait does. So one that began anew just while the task was let go, because what it waited
//! for had come in the freeze, is taken for the one before: it may end early by as much as that one
//! had lasted. That is rare, and better than a wait that never ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::{Task, proc};
use crate::arch::Registers;

/// What is known of the waits of a process's tasks, by the task.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    known: BTreeMap<u32, Wait>,
    /// Whether there was any since this was last asked for.
    any: bool,
}

/// A wait that was made to begin anew.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    call: Registers,
    began: Instant,
    /// How often the task had gone to sleep when it was let go; `None` where that is not known.
    sleeps: Option<u64>,
    /// Whether that was asked for since it stopped.
    noted: bool,
}

impl Wait {
    /// Goes to sleep in the call, and in the next stop.
    const SLEEPS: u64 = 2;

    /// A wait that begins now, in `call`.
    pub(super) fn begins(call: &Registers) -> Self {
        Self {
            call: *call,
            began: Instant::now(),
            sleeps: None,
            noted: false,
        }
    }

    /// Tells whether a task that has just stopped in `call` is in this wait still.
    pub(super) fn lasts(&self, tid: u32, call: &Registers) -> bool {
        let since = || proc::waits(tid)?.checked_sub(self.sleeps?);
        self.call == *call && since().is_some_and(|sleeps| sleeps <= Self::SLEEPS)
    }

    /// Returns how long it has lasted.
    pub(super) fn age(self) -> Duration {
        self.began.elapsed()
    }
}

impl Waits {
    /// Takes out what is known of the wait of a task that has just stopped.
    pub(super) fn take(&mut self, tid: u32) -> Option<Wait> {
        self.known.remove(&tid)
    }

    /// Remembers what a task that stands still waits in.
    pub(super) fn remember(&mut self, tid: u32, wait: Wait) {
        self.any = true;
        self.known.insert(
            tid,
            Wait {
                noted: false,
                ..wait
            },
        );
    }

    /// Takes note of how often tasks that stand still have slept, for `most` of those for which that was
    /// not done yet. Tells whether there are more.
    pub(super) fn note(&mut self, tasks: &[Task], most: usize) -> bool {
        if self.known.is_empty() {
            return false;
        }
        let mut asked = 0;
        for task in tasks {
            let wait = self.known.get_mut(&task.tid).filter(|wait| !wait.noted);
            let Some(wait) = wait else { continue };
            if asked == most {
                return true;
            }
            asked += 1;
            wait.sleeps = proc::waits(task.tid);
            wait.noted = true;
        }
        false
    }

    /// Takes note that a task which stands still ran meanwhile, for us, and is in its wait again.
    pub(crate) fn ran(&mut self, tid: u32) {
        if let Some(wait) = self.known.get_mut(&tid) {
            wait.noted = false;
        }
    }

    /// Forgets tasks that have ended: those beside the ones that were let go just now, if any.
    pub(super) fn forget_ended(&mut self, tasks: &[Task]) {
        if self.known.len() > tasks.len() {
            let left: BTreeSet<u32> = tasks.iter().map(|task| task.tid).collect();
            self.known
                .retain(|tid, _| left.contains(tid) || proc::stat(*tid).is_ok());
        }
    }

    /// Tells whether any wait had to be remembered since the last time.
    pub(crate) fn take_any(&mut self) -> bool {
        std::mem::take(&mut self.any)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Halt;
    use super::*;

    fn task(tid: u32) -> Task {
        Task {
            pid: tid,
            tid,
            halt: Halt::Trap,
            waits: true,
        }
    }

    #[test]
    fn what_is_noted_once_is_asked_for_again_only_of_who_ran() {
        let tid = std::process::id();
        // There is none of the second id.
        let tasks = [task(tid), task(u32::MAX >> 2)];
        let mut waits = Waits::default();
        assert!(!waits.note(&tasks, 0));
        let call = Registers::from_bytes(&[0; Registers::BYTES]);
        for task in tasks {
            waits.remember(task.tid, Wait::begins(&call));
        }
        assert!(waits.note(&tasks, 0));
        assert!(waits.note(&tasks, 1));
        assert!(!waits.note(&tasks, 1));
        assert!(!waits.note(&tasks, 0), "also of who is gone");
        waits.ran(tid);
        assert!(waits.note(&tasks, 0));
        waits.forget_ended(&[]);
        assert_eq!(waits.known.keys().copied().collect::<Vec<_>>(), [tid]);
        assert!(waits.take(tid).unwrap().sleeps.is_some());
    }
}
