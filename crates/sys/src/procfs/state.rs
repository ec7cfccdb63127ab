//! A process as a whole, for a snapshot's manifest and a core's notes.

use space::{Errno, ProcessState};

use super::error::ProcfsError;
use super::process::Process;

/// Reads what is known of a process as a whole.
///
/// `memory` is the same process, or a task of it that is alive: the first thread may have ended,
/// and then knows nothing of the memory.
///
/// # Errors
///
/// Those of [`Process`]'s questions.
pub fn process_state(process: &Process, memory: &Process) -> Result<ProcessState, ProcfsError> {
    let stat = process.stat()?;
    let status = process.status()?;
    Ok(ProcessState {
        pid: process.pid(),
        parent: stat.parent,
        process_group: stat.process_group,
        session: stat.session,
        uid: status.user.real,
        gid: status.group.real,
        nice: stat.nice,
        flags: stat.flags,
        name: stat.name,
        command_line: memory.command_line()?,
        executable: executable(memory)?,
        auxv: memory.read("auxv")?,
        limits: String::from_utf8_lossy(&process.read("limits")?).into_owned(),
        machine: memory
            .program_kind()?
            .map_or(super::executable::own_machine(), |kind| kind.machine),
    })
}

/// A process may have no file: then its name is empty.
fn executable(memory: &Process) -> Result<String, ProcfsError> {
    match memory.link("exe") {
        Err(ProcfsError::Read {
            errno: Errno::ENOENT,
            ..
        }) => Ok(String::new()),
        other => other,
    }
}
