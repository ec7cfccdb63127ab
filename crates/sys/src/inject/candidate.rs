//! Which of the stopped tasks makes the call.

use space::{Errno, Vaddr};

use crate::arch::Registers;
use crate::raw::{memory, ptrace};
use crate::task::{Halt, Stopped, Task, read_general};

/// The shadow stack's register set; there is none where there is no such stack.
const NT_X86_SHSTK: u32 = 0x204;

/// Picks a task of process `pid` to make a call, and returns it with its registers.
///
/// It must stand in a trap (not before a signal), outside of a restartable sequence, and have its
/// calls not dispatched to itself. A task that needs no restart block comes before one that does,
/// and the first task before the others, since it surely has the process's own descriptors.
pub(crate) fn pick(pid: u32, stopped: &Stopped) -> Option<(Task, Registers)> {
    stopped
        .tasks
        .iter()
        .filter(|task| task.pid == pid && task.halt == Halt::Trap)
        .filter_map(|&task| Some((task, read_general(task.tid).ok()?)))
        .filter(|(task, registers)| can_be_diverted(*task, registers))
        .min_by_key(|(task, registers)| (registers.needs_restart_block(), task.tid != task.pid))
}

fn can_be_diverted(task: Task, registers: &Registers) -> bool {
    // A kernel that does not know the question has no dispatch either.
    let dispatches = ptrace::dispatches_calls(task.tid).unwrap_or(false);
    // A return address that no call pushed ends a task that has a shadow stack.
    let shadowed = ptrace::get_regset(task.tid, NT_X86_SHSTK, &mut [0; 8]).is_ok();
    !dispatches && !shadowed && (registers.in_call().is_some() || !in_restartable_sequence(task))
}

/// Tells whether the task may be within a restartable sequence: leaving it for a call would make
/// the kernel forget to abort it.
fn in_restartable_sequence(task: Task) -> bool {
    const CRITICAL_SECTION: u64 = 8;
    let rseq = match ptrace::rseq(task.tid) {
        Ok(rseq) => rseq,
        // A kernel that can't tell (before 5.13) but may have sequences: be careful.
        Err(errno) => return errno != Errno::ESRCH,
    };
    if rseq.pointer == 0 {
        return false;
    }
    let mut section = [0; 8];
    match memory::read_at(
        task.tid,
        Vaddr(rseq.pointer + CRITICAL_SECTION),
        &mut section,
    ) {
        Ok(8) => u64::from_ne_bytes(section) != 0,
        _ => true,
    }
}
