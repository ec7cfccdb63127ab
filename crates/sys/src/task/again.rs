//! Having a task make an interrupted call again, where the kernel has decided about that before the
//! stop ([`DECIDES_BEFORE_STOP`](crate::arch::DECIDES_BEFORE_STOP)).
//!
//! The kernel looks at what a call returned when it is left, so the task leaves it once more: it
//! enters the call, is interrupted at once, and is given what the kernel restarts a call for
//! unless a handler runs. Then it stands in a stop as before, and all that comes next is as if the
//! call had ended so in the first place. A task whose tracer dies on the way makes the call again,
//! or sees it end with `EINTR` as after any stop.

use std::time::Duration;

use space::Errno;

use super::stop::wait_stop;
use super::{CALL_STOP, EVENT_STOP, Halt, proc, read_general, write_general};
use crate::arch::Registers;
use crate::arch::restart::{EINTR, ERESTART_RESTARTBLOCK, ERESTARTNOHAND};
use crate::raw::ptrace;

/// How long each step may take: some instructions, and a call that does not wait.
const LIMIT: Duration = Duration::from_millis(500);

/// Has a task that stands before its call make it, with what `at_entry` changes there. Where a
/// handler or a stop of the process comes first, it gets the registers `given_up`.
pub(super) fn make_again(
    tid: u32,
    given_up: &Registers,
    at_entry: impl FnOnce() -> Result<(), Errno>,
) -> Result<Halt, Errno> {
    ptrace::set_options(tid, libc::PTRACE_O_TRACESYSGOOD)?;
    let halt = match enter(tid)? {
        CALL_STOP => {
            at_entry()?;
            leave(tid)?
        }
        (_, EVENT_STOP) => {
            write_general(tid, given_up)?;
            Halt::Trap
        }
        (signal, _) => {
            // A signal without a handler ends no call.
            if proc::catches(tid, signal) {
                write_general(tid, given_up)?;
            }
            Halt::Signal(signal)
        }
    };
    ptrace::set_options(tid, 0)?;
    Ok(halt)
}

/// Lets a task go to the entry of its call, or what comes before that. One that stood before a
/// signal already when it was asked to stop makes up for that stop now.
fn enter(tid: u32) -> Result<(i32, i32), Errno> {
    loop {
        match step(tid, ptrace::syscall)? {
            (libc::SIGTRAP, EVENT_STOP) => {}
            stop => return Ok(stop),
        }
    }
}

/// Takes a task from the entry of its call to a trap behind it, with a restart under way.
fn leave(tid: u32) -> Result<Halt, Errno> {
    ptrace::interrupt(tid)?;
    if step(tid, ptrace::syscall)? != CALL_STOP {
        return Err(Errno::EIO);
    }
    let mut registers = read_general(tid)?;
    // Else the call has done its work after all.
    if [EINTR, ERESTART_RESTARTBLOCK].contains(&registers.result()) {
        registers.set_result(ERESTARTNOHAND);
        write_general(tid, &registers)?;
    }
    // The stop at the exit has taken the first one's place.
    ptrace::interrupt(tid)?;
    match step(tid, ptrace::cont)? {
        (_, EVENT_STOP) => Ok(Halt::Trap),
        (signal, _) => Ok(Halt::Signal(signal)),
    }
}

fn step(tid: u32, go: fn(u32) -> Result<(), Errno>) -> Result<(i32, i32), Errno> {
    go(tid)?;
    wait_stop(tid, LIMIT)?.ok_or(Errno::ESRCH)
}
