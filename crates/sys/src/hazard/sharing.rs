//! Which processes share one memory.

use space::Errno;
use thiserror::Error;

use crate::doctor::raw::{Compared, same};
use crate::procfs::{Process, ProcfsError, RunState, processes};

/// Why it is not known who shares a process's memory.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SharingError {
    /// The processes could not be listed.
    #[error(transparent)]
    List(#[from] ProcfsError),
    /// The kernel refused to compare (`kcmp`).
    #[error("can't compare the memory of process {pid} with others' (kcmp): {errno}")]
    Compare {
        /// The process asked about.
        pid: u32,
        /// What the kernel answered.
        errno: Errno,
    },
}

/// Returns the other processes that share the memory of process `pid` (`CLONE_VM` without
/// `CLONE_THREAD`, `vfork`), sorted.
///
/// Processes that may not be looked at are taken for strangers: whoever may trace `pid` may
/// trace those that share its memory, unless they gained privilege, which gives them memory of
/// their own.
///
/// # Errors
///
/// [`SharingError::Compare`] where `pid` itself may not be compared or is gone.
pub fn memory_sharers(pid: u32) -> Result<Vec<u32>, SharingError> {
    match same(pid, pid, Compared::Memory) {
        Ok(_) => {}
        Err(errno) => return Err(SharingError::Compare { pid, errno }),
    }
    let mut sharers = processes()?;
    sharers.retain(|&other| other != pid && same(pid, other, Compared::Memory) == Ok(true));
    Ok(sharers)
}

/// Returns the tasks of a process that hold descriptors: one for each table there is, the first
/// of which is the first living task's.
pub(super) fn descriptor_holders(process: &Process) -> Result<Vec<Process>, ProcfsError> {
    let mut holders: Vec<Process> = Vec::new();
    for tid in process.tasks()? {
        let shared = holders
            .iter()
            .any(|holder| same(holder.pid(), tid, Compared::Descriptors) == Ok(true));
        if shared {
            continue;
        }
        match open_living(process, tid) {
            Ok(Some(task)) => holders.push(task),
            Ok(None) | Err(ProcfsError::Gone { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(holders)
}

/// Opens a task, unless it is a zombie, which has no descriptors.
fn open_living(process: &Process, tid: u32) -> Result<Option<Process>, ProcfsError> {
    let task = process.task(tid)?;
    let ended = matches!(task.stat()?.state, RunState::Zombie | RunState::Dead);
    Ok((!ended).then_some(task))
}
