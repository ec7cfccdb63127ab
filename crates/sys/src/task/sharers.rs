//! The processes that share one address space: nearly always one, but `clone(CLONE_VM)` and
//! `vfork` make more.

use std::collections::BTreeSet;

use super::{Task, proc};
use crate::raw::process::same_memory;

/// The processes that share the memory of one.
#[derive(Clone, Debug)]
pub(crate) struct Sharers {
    processes: Vec<u32>,
    /// A task that has the memory, to compare with.
    memory_task: u32,
    /// The id that the system gave last when the processes were looked through.
    last_id: Option<u32>,
}

impl Sharers {
    /// Looks through all processes for those that share the memory of `leader`.
    pub(crate) fn find(leader: u32, memory_task: u32) -> Self {
        let last_id = proc::last_id();
        let others = proc::processes()
            .into_iter()
            .filter(|&pid| pid != leader && same_memory(memory_task, pid) == Ok(true));
        Self {
            processes: std::iter::once(leader).chain(others).collect(),
            memory_task,
            last_id,
        }
    }

    /// The process that was asked for.
    pub(crate) fn leader(&self) -> u32 {
        self.processes[0]
    }

    /// All processes that share the memory, the one that was asked for first.
    pub(crate) fn processes(&self) -> impl Iterator<Item = u32> {
        self.processes.iter().copied()
    }

    /// Looks for sharers that the stopped tasks made since the last look, and tells whether
    /// there are any. Only they can have made one, so once this finds none there is none.
    pub(crate) fn find_new(&mut self, stopped: &[Task]) -> bool {
        let last_id = proc::last_id();
        if last_id.is_some() && last_id == self.last_id {
            return false;
        }
        let children: BTreeSet<u32> = stopped
            .iter()
            .flat_map(|task| proc::children(task.pid, task.tid))
            .collect();
        let known = self.processes.len();
        for pid in children {
            if !self.processes.contains(&pid) && same_memory(self.memory_task, pid) == Ok(true) {
                self.processes.push(pid);
            }
        }
        self.last_id = last_id;
        self.processes.len() > known
    }
}
