//! What differs between architectures: register layout, the way calls are made and restarted,
//! and the frame that `rt_sigreturn` reads.

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::{
    CALL_GADGET, CALL_LEN, Registers, SIGRETURN_GADGETS, call, frame, register_notes, waiting_call,
};

#[cfg(not(target_arch = "x86_64"))]
compile_error!("Onionskin runs on x86_64; other architectures need a module here");

/// The kernel's own answers of an interrupted call (`include/linux/errno.h`): never seen by user
/// space, but by tracers.
pub(crate) mod restart {
    /// Restarted unless a handler without `SA_RESTART` runs.
    pub(crate) const ERESTARTSYS: i64 = -512;
    /// Restarted always.
    pub(crate) const ERESTARTNOINTR: i64 = -513;
    /// Restarted unless a handler runs.
    pub(crate) const ERESTARTNOHAND: i64 = -514;
    /// Restarted through `restart_syscall`, with the time that is left.
    pub(crate) const ERESTART_RESTARTBLOCK: i64 = -516;
}

/// A call that a stopped task was waiting in, which the kernel answers with `EINTR` although no
/// handler runs (`signal(7)`, "Interruption of system calls and library functions by stop
/// signals").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WaitingCall {
    /// How long the call may wait.
    pub(crate) timeout: Timeout,
    /// What it returns when its time is over.
    pub(crate) timed_out: i64,
}

/// Where the timeout of a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timeout {
    /// It waits for ever.
    Never,
    /// In milliseconds.
    Millis(u64),
    /// In a `struct timespec` at this address.
    Timespec(space::Vaddr),
    /// In the `struct io_uring_getevents_arg` at this address.
    UringArg(space::Vaddr),
}
