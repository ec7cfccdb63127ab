//! Tasks under ptrace: stopping all that share an address space, reading their registers, letting
//! them go again.
//!
//! A task is seized only for the time of a stop and let go at its end: a task that stays traced
//! would stop for each of its signals, and wait for us if we were slow.

mod again;
mod interrupted;
mod mark;
pub(crate) mod proc;
mod registers;
mod sharers;
mod stop;
mod tracer;
mod waiters;
mod waits;

#[cfg(test)]
mod tests;

pub(crate) use interrupted::Interrupted;
pub(crate) use registers::{describe, read_general, read_set, task_state, write_general};
pub(crate) use sharers::Sharers;
pub use sharers::SharingError;
pub use stop::StopError;
pub(crate) use stop::{Stopped, wait_stop};
pub(crate) use tracer::Tracer;

/// `PTRACE_EVENT_STOP`: an interrupt, a group stop, or a new task.
pub(crate) const EVENT_STOP: i32 = 128;
/// A stop at the entry to or the exit from a call, with `PTRACE_O_TRACESYSGOOD`.
pub(crate) const CALL_STOP: (i32, i32) = (libc::SIGTRAP | 0x80, 0);

/// A task that stands still under our ptrace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    /// The process that it belongs to.
    pub(crate) pid: u32,
    /// Its own id.
    pub(crate) tid: u32,
    /// Why it stands still.
    pub(crate) halt: Halt,
    /// Whether it goes on in a call that any signal ends, also one that is ignored.
    pub(crate) waits: bool,
}

/// Why a task stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Halt {
    /// It was asked to, or stops with its whole process for job control.
    Trap,
    /// It was about to take this signal, which it gets when it goes on.
    Signal(i32),
}
