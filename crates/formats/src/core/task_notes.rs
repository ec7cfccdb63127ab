//! The two structures that a core's notes have: `elf_prstatus` of a thread and `elf_prpsinfo` of
//! the process (`include/linux/elfcore.h`), as 64-bit machines lay them out.
//!
//! | `elf_prstatus` | at | `elf_prpsinfo` | at |
//! |---|---|---|---|
//! | `si_signo`, `si_code`, `si_errno` | 0 | `pr_state`, `pr_sname`, `pr_zomb`, `pr_nice` | 0 |
//! | `pr_cursig` | 12 | `pr_flag` | 8 |
//! | `pr_sigpend`, `pr_sighold` | 16 | `pr_uid`, `pr_gid` | 16 |
//! | `pr_pid`, `pr_ppid`, `pr_pgrp`, `pr_sid` | 32 | `pr_pid`, `pr_ppid`, `pr_pgrp`, `pr_sid` | 24 |
//! | user, system, children's times | 48 | `pr_fname` | 40 |
//! | `pr_reg` | 112 | `pr_psargs` | 56 |
//! | `pr_fpvalid` | behind it | (the end) | 136 |

use std::time::Duration;

use space::{ProcessState, TaskState};

use super::CoreError;
use super::arch::Arch;
use super::record::Record;

/// Note type of the general registers, in a register set and in a core.
pub(super) const NT_PRSTATUS: u32 = 1;

/// Offset of `pr_reg`, in bytes: 12 of signal information, `pr_cursig`, two words of signals,
/// four ids, and four times of two words.
const PR_REG: usize = 12 + 4 + 2 * 8 + 4 * 4 + 4 * 16;
/// Size of `pr_fname`, in bytes.
const NAME_LEN: usize = 16;
/// Size of `pr_psargs`, in bytes.
const ARGUMENTS_LEN: usize = 80;
/// Size of `elf_prpsinfo`, in bytes.
pub(super) const PRPSINFO_LEN: usize = 40 + NAME_LEN + ARGUMENTS_LEN;

const _: () = assert!(PR_REG == 112);
const _: () = assert!(prstatus_len(Arch::X86_64) == 336);
const _: () = assert!(prstatus_len(Arch::Arm64) == 392);
const _: () = assert!(PRPSINFO_LEN == 136);

/// Returns the size of `elf_prstatus`, in bytes.
pub(super) const fn prstatus_len(arch: Arch) -> usize {
    PR_REG + arch.general_registers_len() + 8
}

/// Makes the `elf_prstatus` of a thread; `has_float` tells whether a note with its floating point
/// registers follows.
pub(super) fn prstatus(
    process: &ProcessState,
    task: &TaskState,
    arch: Arch,
    has_float: bool,
) -> Result<Vec<u8>, CoreError> {
    let registers = general_registers(task, arch)?;
    let signal = u16::try_from(task.signal)
        .ok()
        .filter(|&signal| signal <= 64)
        .ok_or(CoreError::Signal {
            tid: task.tid,
            signal: task.signal,
        })?;
    let (user, system) = (time(task.user_time), time(task.system_time));
    Ok(Record::with_len(prstatus_len(arch))
        .u32([signal.into(), 0, 0])
        .u16([signal, 0])
        .u64([task.signals_pending, task.signals_blocked])
        .u32([task.tid, process.parent])
        .u32([process.process_group, process.session])
        .u64([user.0, user.1, system.0, system.1])
        .zeros(2 * 16)
        .bytes(registers)
        .u32([has_float.into(), 0])
        .finish(prstatus_len(arch)))
}

/// Makes the `elf_prpsinfo` of the process.
pub(super) fn prpsinfo(process: &ProcessState) -> Vec<u8> {
    const RUNNING: &[u8] = &[0, b'R', 0];
    let nice = i8::try_from(process.nice.clamp(-20, 19)).expect("a nice value has 8 bits");
    let arguments = arguments(&process.command_line);
    Record::with_len(PRPSINFO_LEN)
        .bytes(RUNNING)
        .bytes(&nice.to_le_bytes())
        .zeros(4)
        .u64([process.flags])
        .u32([process.uid, process.gid])
        .u32([process.pid, process.parent])
        .u32([process.process_group, process.session])
        .text(process.name.as_bytes(), NAME_LEN)
        .text(&arguments, ARGUMENTS_LEN)
        .finish(PRPSINFO_LEN)
}

/// Returns the general registers of a thread, if they have the machine's size.
fn general_registers(task: &TaskState, arch: Arch) -> Result<&[u8], CoreError> {
    let set = task.registers.iter().find(|set| set.note == NT_PRSTATUS);
    let bytes = set.map_or(&[][..], |set| &set.bytes);
    let expected = arch.general_registers_len();
    if bytes.len() == expected {
        return Ok(bytes);
    }
    Err(CoreError::Registers {
        tid: task.tid,
        found: bytes.len(),
        expected,
    })
}

/// Joins the start of the arguments, as much as the field may take.
fn arguments(command_line: &[String]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(ARGUMENTS_LEN);
    for (index, argument) in command_line.iter().enumerate() {
        if joined.len() >= ARGUMENTS_LEN {
            break;
        }
        if index > 0 {
            joined.push(b' ');
        }
        let bytes = argument.bytes().take(ARGUMENTS_LEN);
        joined.extend(bytes.map(|byte| if byte == 0 { b' ' } else { byte }));
    }
    joined
}

/// Returns a time as seconds and microseconds.
fn time(time: Duration) -> (u64, u64) {
    (time.as_secs(), time.subsec_micros().into())
}
