//! Which tasks share one table of descriptors.

use crate::procfs::{Process, ProcfsError, RunState};
use crate::raw::process::{Compared, same};

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
