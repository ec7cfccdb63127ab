//! The registers of stopped tasks.

use std::time::Duration;

use space::{Errno, RegisterSet, TaskState};

use super::interrupted::as_if_undisturbed;
use super::{Halt, Task, proc};
use crate::arch::{Registers, register_notes};
use crate::raw::ptrace::{self, SIGINFO_SIZE};

/// `NT_PRSTATUS`: the general registers.
const NT_PRSTATUS: u32 = 1;
/// More than any register set has today (AMX makes 11 KiB).
const REGSET_MAX: usize = 64 << 10;
/// As much as most have: memory that need not be got from the system in a freeze.
const REGSET_USUAL: usize = 4 << 10;

/// Reads a stopped task's general registers.
pub(crate) fn read_general(tid: u32) -> Result<Registers, Errno> {
    let mut bytes = [0; Registers::BYTES];
    let len = ptrace::get_regset(tid, NT_PRSTATUS, &mut bytes)?;
    // A shorter set is that of a 32-bit task.
    if len == bytes.len() {
        Ok(Registers::from_bytes(&bytes))
    } else {
        Err(Errno::EINVAL)
    }
}

/// Writes a stopped task's general registers.
pub(crate) fn write_general(tid: u32, registers: &Registers) -> Result<(), Errno> {
    ptrace::set_regset(tid, NT_PRSTATUS, &registers.to_bytes())
}

/// Reads one register set of a stopped task.
pub(crate) fn read_set(tid: u32, note: u32) -> Result<Vec<u8>, Errno> {
    let mut few = [0; REGSET_USUAL];
    let len = ptrace::get_regset(tid, note, &mut few)?;
    if len < few.len() {
        return Ok(few[..len].to_vec());
    }
    // There may be more than that.
    let mut bytes = vec![0; REGSET_MAX];
    let len = ptrace::get_regset(tid, note, &mut bytes)?;
    bytes.truncate(len);
    Ok(bytes)
}

/// Reads what ptrace knows of a stopped task. Its name and times come by [`describe`], when it
/// runs again.
pub(crate) fn task_state(task: Task) -> Result<TaskState, Errno> {
    let tid = task.tid;
    let mut registers = vec![RegisterSet {
        note: NT_PRSTATUS,
        bytes: as_if_undisturbed(tid, read_general(tid)?)
            .to_bytes()
            .to_vec(),
    }];
    for &note in register_notes() {
        match read_set(tid, note) {
            Ok(bytes) => registers.push(RegisterSet { note, bytes }),
            Err(Errno::ESRCH) => return Err(Errno::ESRCH),
            // This processor or kernel has no such set.
            Err(_) => {}
        }
    }
    let (signal, siginfo) = match task.halt {
        Halt::Trap => (0, Vec::new()),
        Halt::Signal(signal) => (signal, ptrace::siginfo(tid)?.to_vec()),
    };
    Ok(TaskState {
        tid,
        name: String::new(),
        signal,
        signals_pending: pending(tid)?,
        signals_blocked: ptrace::signal_mask(tid)?,
        siginfo,
        user_time: Duration::ZERO,
        system_time: Duration::ZERO,
        registers,
    })
}

/// Fills in what `/proc` tells of a task and nobody needs to the instant: its name and times.
pub(crate) fn describe(state: &mut TaskState) {
    // A task that ended since keeps the empty name.
    if let Ok(stat) = proc::stat(state.tid) {
        state.user_time = stat.user_time();
        state.system_time = stat.system_time();
        state.name = stat.name;
    }
}

/// The set of signals that wait for the task alone.
fn pending(tid: u32) -> Result<u64, Errno> {
    let mut infos = [[0; SIGINFO_SIZE]; 64];
    let count = ptrace::pending(tid, &mut infos)?;
    let number = |info: &[u8; SIGINFO_SIZE]| {
        let [a, b, c, d, ..] = *info;
        i32::from_ne_bytes([a, b, c, d])
    };
    Ok(infos[..count]
        .iter()
        .filter_map(|info| u32::try_from(number(info)).ok())
        .filter(|number| (1..=64).contains(number))
        .fold(0, |set, number| set | 1 << (number - 1)))
}
