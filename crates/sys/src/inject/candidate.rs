//! Which of the stopped tasks makes the call.

use space::{Errno, Vaddr};

use crate::arch::{Registers, can_divert};
use crate::raw::{memory, ptrace};
use crate::task::{Halt, Stopped, Task, read_general};

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
        .min_by_key(|(task, registers)| {
            let needs_block = registers.needs_restart_block(task.tid);
            (needs_block, task.tid != task.pid)
        })
}

fn can_be_diverted(task: Task, registers: &Registers) -> bool {
    // A kernel that does not know the question has no dispatch either.
    let dispatches = ptrace::dispatches_calls(task.tid).unwrap_or(false);
    !dispatches
        && can_divert(task.tid)
        && !in_restartable_sequence(task.tid, registers.program_counter())
}

/// Tells whether the task may be within a restartable sequence: leaving it for a call would make
/// the kernel forget to abort it.
fn in_restartable_sequence(tid: u32, at: Vaddr) -> bool {
    /// Where `struct rseq` has the address of the section's description.
    const SECTION: u64 = 8;
    let rseq = match ptrace::rseq(tid) {
        Ok(rseq) => rseq,
        // A kernel that can't tell (before 5.13) but may have sequences: be careful.
        Err(errno) => return errno != Errno::ESRCH,
    };
    if rseq.pointer == 0 {
        return false;
    }
    let mut section = [0; 8];
    if memory::read_at(tid, Vaddr(rseq.pointer + SECTION), &mut section) != Ok(section.len()) {
        return true;
    }
    match u64::from_ne_bytes(section) {
        0 => false,
        // A program may leave it set behind the section.
        section => covers(tid, Vaddr(section), at).unwrap_or(true),
    }
}

/// Tells whether the section that a `struct rseq_cs` describes has an address in it; `None` where
/// that can't be read.
fn covers(tid: u32, section: Vaddr, at: Vaddr) -> Option<bool> {
    // Version and flags, the section's start and length, where it goes on when aborted.
    let mut bytes = [0; 32];
    let read = memory::read_at(tid, section, &mut bytes).ok()?;
    let [_, start, len, _] = bytes.as_chunks::<8>().0 else {
        return None;
    };
    let (start, len) = (u64::from_ne_bytes(*start), u64::from_ne_bytes(*len));
    (read == bytes.len()).then(|| at.0.wrapping_sub(start) < len)
}
