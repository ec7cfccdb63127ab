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
        self.known.insert(tid, wait);
    }

    /// Takes note of how often tasks have slept that are about to be let go, all or some of them. What is
    /// known of tasks that have ended is forgotten.
    pub(super) fn let_go(&mut self, tasks: &[Task]) {
        if self.known.len() > tasks.len() {
            let left: BTreeSet<u32> = tasks.iter().map(|task| task.tid).collect();
            self.known
                .retain(|tid, _| left.contains(tid) || proc::stat(*tid).is_ok());
        }
        for task in tasks {
            if let Some(wait) = self.known.get_mut(&task.tid) {
                wait.sleeps = proc::waits(task.tid);
            }
        }
    }

    /// Tells whether any wait had to be remembered since the last time.
    pub(crate) fn take_any(&mut self) -> bool {
        std::mem::take(&mut self.any)
    }
}
