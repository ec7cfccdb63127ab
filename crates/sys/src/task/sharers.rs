//! The processes that share one address space: nearly always one, but `clone(CLONE_VM)` and
//! `vfork` make more.

use super::proc;
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

    /// Forgets processes that were found and share the memory no more, which may have executed
    /// something since, or have ended and left their id to others; returns them.
    pub(crate) fn forget_strangers(&mut self) -> Vec<u32> {
        let (leader, memory_task) = (self.leader(), self.memory_task);
        // What can't be compared any more has ended, and has no task to stop.
        self.processes
            .extract_if(.., |&mut pid| {
                pid != leader && same_memory(memory_task, pid) == Ok(false)
            })
            .collect()
    }

    /// Looks for sharers that were made since the last look, and tells whether there are any. Only
    /// tasks that share the memory can make one: once they stand still and this finds none there
    /// is none.
    pub(crate) fn find_new(&mut self) -> bool {
        /// So many ids are asked about one by one in less time than all processes are listed.
        const IDS_MAX: u32 = 1024;
        let last_id = proc::last_id();
        if last_id.is_some() && last_id == self.last_id {
            return false;
        }
        // Ids are given in order, until they begin anew: whoever came since has one of these,
        // whatever became of who made it.
        let candidates: Vec<u32> = match (self.last_id, last_id) {
            (Some(then), Some(now)) if then < now && now - then <= IDS_MAX => {
                (then + 1..=now).collect()
            }
            _ => proc::processes(),
        };
        let known = self.processes.len();
        for id in candidates {
            if same_memory(self.memory_task, id) == Ok(true)
                && let Some(process) = proc::process_of(id)
                && !self.processes.contains(&process)
            {
                self.processes.push(process);
            }
        }
        self.last_id = last_id;
        self.processes.len() > known
    }
}
