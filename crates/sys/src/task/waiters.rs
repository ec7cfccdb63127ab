//! Who is stopped first, because any signal would end its wait.

use std::collections::BTreeSet;

use super::{Sharers, proc};
use crate::arch::may_wait;

/// Tasks that wait in calls which any signal ends, if the first task of their process does too.
///
/// Only then they are stopped before the others ([`Stopped`](super::Stopped)), and looking for them
/// is worth the time: some 20 µs for each task.
#[derive(Debug, Default)]
pub(crate) struct Waiters(BTreeSet<u32>);

impl Waiters {
    /// Looks for them. What begins to wait afterwards is not among them, and what a filter or the
    /// kernel does not let us see neither.
    pub(super) fn find(sharers: &Sharers) -> Self {
        let waits = |tid: &u32| proc::call_of(*tid).is_some_and(may_wait);
        let tasks = sharers
            .processes()
            .filter(waits)
            .flat_map(|pid| proc::tasks(pid).unwrap_or_default());
        Self(tasks.filter(waits).collect())
    }

    pub(super) fn contains(&self, tid: u32) -> bool {
        self.0.contains(&tid)
    }
}
