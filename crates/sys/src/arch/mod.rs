//! What differs between architectures: register layout, the way calls are made and restarted,
//! and the frame that `rt_sigreturn` reads.
//!
//! Each has a module with the same names:
//!
//! | name | what |
//! |---|---|
//! | [`Registers`] | the general registers, and what they say of a call |
//! | `call` | numbers of the calls that are injected |
//! | [`CALL_GADGETS`], [`SIGRETURN_GADGETS`], [`CALL_LEN`] | instructions that calls run through |
//! | [`Extended`] | registers beside the general ones, as far as an injection must save them |
//! | `frame` | signal frames |
//! | [`register_notes`] | the register sets that belong in a snapshot |
//! | [`can_divert`] | whether a task may be sent through other code at all |
//! | [`waiting_call`], [`waits`], [`may_wait`] | a call that a stop ended with `EINTR` |
//! | [`blocked_call`] | a call that would go on by `restart_syscall` |
//! | [`calls_can_carry`], [`may_be_marked`] | whether a call can carry along when its wait began, and may do so |
//! | [`begin_anew`], [`reentry`], [`DECIDES_BEFORE_STOP`] | how an interrupted call goes on |

use space::Vaddr;

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
use aarch64 as native;
#[cfg(target_arch = "x86_64")]
use x86_64 as native;

pub(crate) use native::{
    CALL_GADGETS, CALL_LEN, DECIDES_BEFORE_STOP, Extended, INSTRUCTION_ALIGN, Registers,
    SIGRETURN_GADGETS, begin_anew, blocked_call, call, calls_can_carry, can_divert, frame,
    may_be_marked, may_wait, reentry, register_notes, waiting_call, waits,
};

#[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
compile_error!("Onionskin runs on x86_64 and arm64; other architectures need a module here");

/// The kernel's own answers of an interrupted call (`include/linux/errno.h`): never seen by user
/// space, but by tracers.
pub(crate) mod restart {
    /// What user space sees where nothing restarts it.
    pub(crate) const EINTR: i64 = -4;
    /// Restarted unless a handler without `SA_RESTART` runs.
    pub(crate) const ERESTARTSYS: i64 = -512;
    /// Restarted always.
    #[cfg(target_arch = "x86_64")]
    pub(crate) const ERESTARTNOINTR: i64 = -513;
    /// Restarted unless a handler runs.
    pub(crate) const ERESTARTNOHAND: i64 = -514;
    /// Restarted through `restart_syscall`, with the time that is left.
    pub(crate) const ERESTART_RESTARTBLOCK: i64 = -516;
}

/// Where the process has the instructions that an injected call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gadgets {
    /// Makes a call and returns, see [`CALL_GADGETS`].
    pub(crate) call: Vaddr,
    /// Calls `rt_sigreturn`, see [`SIGRETURN_GADGETS`].
    pub(crate) sigreturn: Vaddr,
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
    /// The registers with which the task makes the call again.
    pub(crate) again: Registers,
    /// The registers behind the call, but for its result.
    pub(crate) over: Registers,
}

/// How a task that was diverted from an interrupted call comes to where the kernel decides about
/// its restart, on an architecture where that is before the stop ([`DECIDES_BEFORE_STOP`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reentry {
    /// The call, which is entered but not carried out.
    pub(crate) number: u64,
    /// Its first argument.
    pub(crate) first_argument: u64,
    /// The registers to set at its entry: as if it had just been interrupted.
    pub(crate) interrupted: Registers,
}

/// Where the timeout of a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timeout {
    /// It waits for ever.
    Never,
    /// In milliseconds.
    Millis(u64),
    /// In a `struct timespec` at this address.
    Timespec(Vaddr),
    /// In the `struct io_uring_getevents_arg` at this address.
    UringArg(Vaddr),
    /// As `SO_RCVTIMEO` of this descriptor's socket says.
    Receive(i32),
    /// As `SO_SNDTIMEO` of this descriptor's socket says.
    Send(i32),
    /// As the first says where it is a socket with a timeout for receiving, else as the second does
    /// for sending.
    Splice(i32, i32),
    /// As `SO_SNDTIMEO` says, for a connection to be made.
    Connect(i32),
}

impl Timeout {
    /// Reads an argument in milliseconds, of which the kernel takes the low half as a signed
    /// number, and waits for ever below zero.
    fn millis(argument: u64) -> Self {
        u64::try_from(int(argument)).map_or(Self::Never, Self::Millis)
    }

    /// Reads an argument that is the address of a `struct timespec`, or zero to wait for ever.
    fn timespec(argument: u64) -> Self {
        match argument {
            0 => Self::Never,
            address => Self::Timespec(Vaddr(address)),
        }
    }
}

/// A register of which the kernel takes the low half.
mod halves {
    const LOW: u64 = 0xffff_ffff;

    pub(super) fn low(register: u64) -> u64 {
        register & LOW
    }

    pub(super) fn high(register: u64) -> u32 {
        u32::try_from(register >> 32).expect("half of it")
    }

    pub(super) fn with_high(register: u64, high: u32) -> u64 {
        u64::from(high) << 32 | low(register)
    }
}

/// Returns what the kernel takes of an argument that is an `int`.
fn int(argument: u64) -> i32 {
    u32::try_from(argument & 0xffff_ffff)
        .expect("masked")
        .cast_signed()
}
