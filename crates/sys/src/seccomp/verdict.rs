//! What a list of filters says of a call.

use space::Errno;

use super::filter::Filter;
use super::foreseen::Foreseen;
use super::interpret::{self, ALLOW};

/// What a filter sees of a call: `struct seccomp_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeccompData {
    /// The number of the system call.
    pub nr: u32,
    /// The calling convention, an `AUDIT_ARCH_*`; see [`NATIVE_ARCH`](Self::NATIVE_ARCH).
    pub arch: u32,
    /// The address behind the instruction that makes the call.
    pub instruction_pointer: u64,
    /// The six arguments.
    pub args: [u64; 6],
}

impl SeccompData {
    /// The `AUDIT_ARCH_*` of calls that a program of this machine's own kind makes.
    #[cfg(target_arch = "x86_64")]
    pub const NATIVE_ARCH: u32 = 0xc000_003e;
    /// The `AUDIT_ARCH_*` of calls that a program of this machine's own kind makes.
    #[cfg(target_arch = "aarch64")]
    pub const NATIVE_ARCH: u32 = 0xc000_00b7;

    /// Returns the four bytes at an offset, as a filter loads them; `None` out of bounds or
    /// where the offset is no multiple of 4.
    pub(super) fn word(&self, offset: u32) -> Option<u32> {
        let half = |value: u64| {
            let [b0, b1, b2, b3, b4, b5, b6, b7] = value.to_ne_bytes();
            u32::from_ne_bytes(if offset.is_multiple_of(8) {
                [b0, b1, b2, b3]
            } else {
                [b4, b5, b6, b7]
            })
        };
        match offset {
            0 => Some(self.nr),
            4 => Some(self.arch),
            8 | 12 => Some(half(self.instruction_pointer)),
            16..64 if offset.is_multiple_of(4) => {
                let argument = usize::try_from((offset - 16) / 8).ok()?;
                Some(half(*self.args.get(argument)?))
            }
            _ => None,
        }
    }
}

/// What happens to a call, in the order of precedence: what comes first wins over what comes
/// after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The process ends by `SIGSYS`. Values that mean nothing to the kernel do this too.
    KillProcess,
    /// The thread ends by `SIGSYS`.
    KillThread,
    /// The call is not made and the thread gets a `SIGSYS`, with this number in `si_errno`.
    Trap(u16),
    /// The call is not made and returns this error; 0 makes it look as if it had returned 0.
    Errno(Errno),
    /// The call waits for a supervisor.
    UserNotification,
    /// The call stops for a tracer that asked for it, and without one returns `ENOSYS`.
    Trace(u16),
    /// The call is made, and logged.
    Log,
    /// The call is made.
    Allow,
}

/// The largest error number that a filter can return; more is cut down to it.
const ERRNO_MAX: u16 = 4095;

impl Verdict {
    /// Tells whether the call is made.
    pub fn lets_through(self) -> bool {
        matches!(self, Self::Allow | Self::Log)
    }

    /// Reads the value that a filter returned.
    fn from_value(value: u32) -> Self {
        let [.., high0, high1] = value.to_le_bytes();
        let [data0, data1, ..] = value.to_le_bytes();
        let data = u16::from_le_bytes([data0, data1]);
        match u16::from_le_bytes([high0, high1]) {
            0x0000 => Self::KillThread,
            0x0003 => Self::Trap(data),
            0x0005 => Self::Errno(Errno(data.min(ERRNO_MAX).into())),
            0x7fc0 => Self::UserNotification,
            0x7ff0 => Self::Trace(data),
            0x7ffc => Self::Log,
            0x7fff => Self::Allow,
            _ => Self::KillProcess,
        }
    }
}

/// Tells what the kernel would do with a call under these filters, the oldest first: the order
/// in which `PTRACE_SECCOMP_GET_FILTER` numbers them (`ptrace(2)` says the reverse).
///
/// The action of the lowest value wins, `KILL_PROCESS` being negative; of two filters with the
/// same action, the newer. Without any filter the call is made.
///
/// # Panics
///
/// Never: of a call that is known there is one verdict.
pub fn evaluate(filters: &[Filter], data: &SeccompData) -> Verdict {
    let verdicts = foresee(filters, &Foreseen::from(*data));
    *verdicts.first().expect("a filter returns something")
}

/// Tells everything that the kernel may do with a call of which not all is known, under these
/// filters, the oldest first. What is not among the answers can't happen; what is among them may be
/// more than can.
pub fn foresee(filters: &[Filter], data: &Foreseen) -> Vec<Verdict> {
    let action = |value: &u32| (value & 0xffff_0000).cast_signed();
    let mildest = |values: &[u32]| values.iter().map(action).max();
    let winners = filters
        .iter()
        .rev()
        .fold(vec![ALLOW], |mut winners, older| {
            let mut values = interpret::run(older, data);
            let (above, from) = (mildest(&winners), mildest(&values));
            // Each wins if the other filters' answer may be one that it wins over.
            values.retain(|value| Some(action(value)) < above);
            winners.retain(|winner| Some(action(winner)) <= from);
            winners.extend(values);
            winners.sort_unstable();
            winners.dedup();
            winners
        });
    let mut verdicts: Vec<Verdict> = winners.into_iter().map(Verdict::from_value).collect();
    verdicts.dedup();
    verdicts
}
