//! How an interrupted call goes on (`do_signal` in `arch/arm64/kernel/signal.c`).
//!
//! The kernel decides about it *before* a tracer sees the stop: it sets the registers back to just
//! before the call, and forgets that there was one. What it keeps to itself is which error the
//! call ended with: by that it takes the restart back if a handler is to run, or has the call go
//! on by `restart_syscall`, as long as the program counter still is where it was set.
//!
//! So a task that was diverted is brought through such a decision once more ([`reentry`]). And a
//! call that ended with `EINTR` is made again from its entry on, with its first argument, whose
//! register holds the error: the kernel keeps it, and shows it to who asks for the call that a
//! task is in.

use space::{Errno, Vaddr};

use super::super::restart::{ERESTART_RESTARTBLOCK, ERESTARTNOHAND, ERESTARTSYS};
use super::{CALL_LEN, NUMBER, PC, Registers, SP, SVC, call};
use crate::arch::restart::EINTR;
use crate::arch::{Reentry, Timeout, WaitingCall, halves, int};
use crate::raw::{memory, ptrace};
use crate::task::{read_general, write_general};
use crate::uapi::aarch64::NT_ARM_SYSTEM_CALL;

/// The kernel decides about a restart before a tracer sees the stop.
pub(crate) const DECIDES_BEFORE_STOP: bool = true;

const IO_GETEVENTS: u64 = 4;
const PSELECT6: u64 = 72;
const PPOLL: u64 = 73;
const FUTEX: u64 = 98;
const NANOSLEEP: u64 = 101;
const CLOCK_NANOSLEEP: u64 = 115;
const RT_SIGSUSPEND: u64 = 133;
const RT_SIGTIMEDWAIT: u64 = 137;
const IO_PGETEVENTS: u64 = 292;

const TIMER_ABSTIME: u64 = 1;
const FUTEX_COMMAND: u64 = 0x7f;
const FUTEX_WAIT: u64 = 0;

/// No call.
const NONE: i32 = -1;

impl Registers {
    /// The number of a call, as the kernel takes it.
    fn number(&self) -> u64 {
        halves::low(self.0[NUMBER])
    }

    /// The call that the task is about to make again, as filters see it: the address of its
    /// instruction, its number and arguments.
    pub(crate) fn call(&self) -> (Vaddr, u64, [u64; 6]) {
        let [a, b, c, d, e, f, ..] = self.0;
        (self.program_counter(), self.number(), [a, b, c, d, e, f])
    }

    /// Tells whether bits can be carried along with the call that the task is in: where its first
    /// argument is a descriptor, of which the kernel takes the low half. The call's result comes in
    /// their place. (Above the call's number they would stay for the next call of a loop.)
    pub(crate) fn can_carry(&self) -> bool {
        const OTHERS: [u64; 6] = [
            IO_GETEVENTS,
            FUTEX,
            NANOSLEEP,
            CLOCK_NANOSLEEP,
            RT_SIGTIMEDWAIT,
            IO_PGETEVENTS,
        ];
        !OTHERS.contains(&self.number())
    }

    /// Has bits carried along with the call.
    pub(crate) fn carry(&mut self, bits: u32) {
        self.0[0] = halves::with_high(self.0[0], bits);
    }

    /// Returns the bits that are carried along.
    pub(crate) fn carried(&self) -> u32 {
        if self.can_carry() {
            halves::high(self.0[0])
        } else {
            0
        }
    }

    /// Tells whether the task waits in a call that only `restart_syscall` can go on with.
    pub(crate) fn needs_restart_block(&self, tid: u32) -> bool {
        self.error() == Some(ERESTART_RESTARTBLOCK) && self.is_interrupted(tid)
    }

    /// The error by which the call with these registers ends when it is interrupted; `None` where
    /// they are of no call.
    fn error(&self) -> Option<i64> {
        const FUTEX_WAIT_BITSET: u64 = 9;
        let [_, second, _, fourth, ..] = self.0;
        match self.number() {
            NANOSLEEP | call::RESTART_SYSCALL => Some(ERESTART_RESTARTBLOCK),
            CLOCK_NANOSLEEP if second & TIMER_ABSTIME == 0 => Some(ERESTART_RESTARTBLOCK),
            FUTEX
                if [FUTEX_WAIT, FUTEX_WAIT_BITSET].contains(&(second & FUTEX_COMMAND))
                    && fourth != 0 =>
            {
                Some(ERESTART_RESTARTBLOCK)
            }
            CLOCK_NANOSLEEP | PPOLL | PSELECT6 | RT_SIGSUSPEND => Some(ERESTARTNOHAND),
            _ if ended_by_stop(self).is_some() => Some(ERESTARTNOHAND),
            number => i32::try_from(number).is_ok().then_some(ERESTARTSYS),
        }
    }

    /// Tells whether the task stands before a call that was interrupted, and not before one that
    /// it never made. (Where it made the same call before, with the same first argument, the two
    /// look alike: that is for the one instruction that makes the call.)
    fn is_interrupted(&self, tid: u32) -> bool {
        has_call_at(tid, self.program_counter()) && first_argument(tid) == Some(self.0[0])
    }
}

/// Tells how a task that is diverted comes back into the call that it was interrupted in, if it
/// was in one.
pub(crate) fn reentry(tid: u32, registers: &Registers) -> Option<Reentry> {
    let error = registers.error()?;
    registers.is_interrupted(tid).then(|| Reentry {
        number: registers.number(),
        first_argument: registers.0[0],
        interrupted: registers.interrupted_by(error),
    })
}

/// Tells what a task that was interrupted with `EINTR` waits for, where it may go on waiting.
pub(crate) fn waiting_call(tid: u32, registers: &Registers) -> Option<WaitingCall> {
    if registers.result() != EINTR {
        return None;
    }
    let mut again = *registers;
    again.0[PC] -= CALL_LEN;
    if ended_by_stop(&again).or(of_socket(&again)).is_none()
        || !has_call_at(tid, again.program_counter())
        || returned_from_handler(tid, registers)
    {
        return None;
    }
    again.0[0] = first_argument(tid)?;
    let (timeout, timed_out) = ended_by_stop(&again).or(of_socket(&again))?;
    Some(WaitingCall {
        timeout,
        timed_out,
        again,
        over: *registers,
    })
}

/// Tells what a task waits for that would go on by `restart_syscall`, and is to make its call anew
/// instead; `None` where it has no end of its own, or an absolute one.
pub(crate) fn blocked_call(registers: &Registers) -> Option<WaitingCall> {
    const ETIMEDOUT: i64 = -110;
    let [first, second, third, fourth, ..] = registers.0;
    let (timeout, timed_out) = match registers.number() {
        NANOSLEEP => (Timeout::timespec(first), 0),
        CLOCK_NANOSLEEP if second & TIMER_ABSTIME == 0 => (Timeout::timespec(third), 0),
        FUTEX if second & FUTEX_COMMAND == FUTEX_WAIT => (Timeout::timespec(fourth), ETIMEDOUT),
        _ => return None,
    };
    Some(WaitingCall {
        timeout,
        timed_out,
        again: *registers,
        over: registers.interrupted_by(timed_out),
    })
}

/// Every kernel takes the low half of a descriptor.
pub(crate) fn calls_can_carry() -> bool {
    true
}

/// Tells whether a task is in a call that any signal ends, or about to make it again.
pub(crate) fn waits(tid: u32, registers: &Registers) -> bool {
    let back = if registers.result() == EINTR {
        CALL_LEN
    } else {
        0
    };
    ended_by_stop(registers).or(of_socket(registers)).is_some()
        && has_call_at(tid, Vaddr(registers.0[PC].saturating_sub(back)))
}

/// Tells whether a call may be one that any signal ends, by its number.
pub(crate) fn may_wait(number: u64) -> bool {
    let mut registers = Registers::from_bytes(&[0; Registers::BYTES]);
    registers.0[NUMBER] = number;
    ended_by_stop(&registers)
        .or(of_socket(&registers))
        .is_some()
}

/// Tells whether a task is in a call that carries along when its wait began: its result takes the
/// place of that.
pub(crate) fn may_be_marked(tid: u32, registers: &Registers) -> bool {
    waits(tid, registers)
}

/// The calls that any stop ends: how long each waits, and what it returns when that is over.
fn ended_by_stop(registers: &Registers) -> Option<(Timeout, i64)> {
    const EAGAIN: i64 = -11;
    const ETIME: i64 = -62;
    const IORING_ENTER_EXT_ARG: u64 = 8;
    let [_, _, third, fourth, fifth, ..] = registers.0;
    Some(match registers.number() {
        22 => (Timeout::millis(fourth), 0),    // epoll_pwait
        441 => (Timeout::timespec(fourth), 0), // epoll_pwait2
        RT_SIGTIMEDWAIT => (Timeout::timespec(third), EAGAIN),
        193 => (Timeout::Never, 0),                 // semop
        192 => (Timeout::timespec(fourth), EAGAIN), // semtimedop
        IO_GETEVENTS | IO_PGETEVENTS => (Timeout::timespec(fifth), 0),
        426 if fourth & IORING_ENTER_EXT_ARG != 0 => (Timeout::UringArg(Vaddr(fifth)), ETIME),
        426 => (Timeout::Never, 0), // io_uring_enter
        _ => return None,
    })
}

/// The calls that a stop ends where the socket has a timeout: their first argument, for most. (One
/// that has none makes the kernel restart the call by itself; it is not asked for that where a
/// task is diverted, so that there a handler with `SA_RESTART` may restart a call of the others.)
fn of_socket(registers: &Registers) -> Option<(Timeout, i64)> {
    const EAGAIN: i64 = -11;
    const EINPROGRESS: i64 = -115;
    let fd = int(registers.0[0]);
    Some(match registers.number() {
        // read, readv, accept, recvfrom, recvmsg, accept4, recvmmsg, preadv2
        63 | 65 | 202 | 207 | 212 | 242 | 243 | 286 => (Timeout::Receive(fd), EAGAIN),
        // write, writev, sendfile, sendto, sendmsg, sendmmsg, pwritev2
        64 | 66 | 71 | 206 | 211 | 269 | 287 => (Timeout::Send(fd), EAGAIN),
        76 => (Timeout::Splice(fd, int(registers.0[2])), EAGAIN), // splice
        203 => (Timeout::Connect(fd), EINPROGRESS),               // connect
        _ => return None,
    })
}

/// Tells whether there is a `svc #0` at an address.
fn has_call_at(tid: u32, address: Vaddr) -> bool {
    let mut instruction = [0; SVC.len()];
    memory::read_at(tid, address, &mut instruction) == Ok(SVC.len()) && instruction == SVC
}

/// Returns the first argument of the last call that a stopped task made.
fn first_argument(tid: u32) -> Option<u64> {
    // It is told of a call that the task is in, so that is what it must look like for a moment.
    const ANY: i32 = 0;
    set_call(tid, ANY).ok()?;
    let text = std::fs::read_to_string(format!("/proc/{tid}/syscall"));
    set_call(tid, NONE).ok()?;
    first_of(&text.ok()?)
}

/// Reads a call's number, its six arguments, stack pointer and program counter; there is less of
/// it outside of a call.
fn first_of(text: &str) -> Option<u64> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [_, first, _, _, _, _, _, _, _] = fields[..] else {
        return None;
    };
    u64::from_str_radix(first.strip_prefix("0x")?, 16).ok()
}

/// Sets the number of the call that a stopped task is in.
fn set_call(tid: u32, number: i32) -> Result<(), Errno> {
    ptrace::set_regset(tid, NT_ARM_SYSTEM_CALL, &number.to_le_bytes())
}

/// Tells whether the registers may have been set by a signal handler's return, by its frame: what
/// lies below the stack pointer still holds them. Then it is a handler that ended the call, and
/// whoever made it is to learn of that.
fn returned_from_handler(tid: u32, registers: &Registers) -> bool {
    /// Longer than a frame with the largest vectors in use.
    const DEPTH: u64 = 32 << 10;
    /// Read at a time: part of any page.
    const PIECE: u64 = 2 << 10;
    let wanted = &registers.to_bytes()[..(PC + 1) * 8];
    let mut end = registers.0[SP];
    let bottom = end.saturating_sub(DEPTH);
    let mut below = Vec::new();
    while end > bottom {
        let start = (end - 1) & !(PIECE - 1);
        let mut piece = vec![0; usize::try_from(end - start).expect("a short piece")];
        if memory::read_at(tid, Vaddr(start), &mut piece) != Ok(piece.len()) {
            break;
        }
        below.splice(..0, piece);
        end = start;
    }
    below
        .chunks_exact(8)
        .enumerate()
        .any(|(word, first)| first == &wanted[..8] && below[word * 8..].starts_with(wanted))
}

/// Has a task that is at the entry of `restart_syscall` make its interrupted call anew.
pub(crate) fn begin_anew(tid: u32, registers: &Registers) -> Result<(), Errno> {
    let number = registers.number();
    let mut now = read_general(tid)?;
    now.0[NUMBER] = number;
    write_general(tid, &now)?;
    set_call(tid, i32::try_from(number).map_err(|_| Errno::EINVAL)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The registers of a task at call `number`.
    fn at_call(number: u64, args: [u64; 6]) -> Registers {
        let mut registers = Registers([0; 34]);
        registers.0[..6].copy_from_slice(&args);
        registers.0[NUMBER] = number;
        registers.0[PC] = 0x4000;
        registers
    }

    #[test]
    fn the_error_follows_from_the_call() {
        let error = |number, args| at_call(number, args).error();
        let block = Some(ERESTART_RESTARTBLOCK);
        assert_eq!(error(NANOSLEEP, [1, 0, 0, 0, 0, 0]), block);
        assert_eq!(error(CLOCK_NANOSLEEP, [1, 0, 2, 0, 0, 0]), block);
        assert_eq!(
            error(CLOCK_NANOSLEEP, [1, 1, 2, 0, 0, 0]),
            Some(ERESTARTNOHAND)
        );
        assert_eq!(error(FUTEX, [1, 0x80, 2, 3, 0, 0]), block);
        assert_eq!(error(FUTEX, [1, 0x80, 2, 0, 0, 0]), Some(ERESTARTSYS));
        assert_eq!(error(22, [3, 0, 0, 0, 0, 0]), Some(ERESTARTNOHAND));
        assert_eq!(error(63, [3, 0, 0, 0, 0, 0]), Some(ERESTARTSYS));
        assert_eq!(error(u64::MAX, [0; 6]), None);
    }

    #[test]
    fn an_interrupted_call_lies_behind() {
        let registers = at_call(22, [3, 0, 0, 0, 0, 0]).interrupted_by(EINTR);
        assert_eq!(registers.result(), EINTR);
        assert_eq!(registers.program_counter(), Vaddr(0x4004));
    }

    #[test]
    fn timeouts_lie_where_the_calls_have_them() {
        let wait = |number, args| ended_by_stop(&at_call(number, args));
        assert_eq!(
            wait(22, [3, 0, 1, 40, 0, 8]),
            Some((Timeout::Millis(40), 0))
        );
        let forever = u64::from(u32::MAX);
        assert_eq!(
            wait(22, [3, 0, 1, forever, 0, 8]),
            Some((Timeout::Never, 0))
        );
        let at = Timeout::Timespec(Vaddr(0x100));
        assert_eq!(wait(137, [3, 0, 0x100, 8, 0, 0]), Some((at, -11)));
        assert_eq!(
            wait(426, [3, 0, 1, 8, 0x100, 24]),
            Some((Timeout::UringArg(Vaddr(0x100)), -62))
        );
        assert_eq!(wait(63, [3, 0, 0, 0, 0, 0]), None);
        let socket = |number| of_socket(&at_call(number, [3, 0, 0, 0, 0, 0]));
        assert_eq!(socket(63), Some((Timeout::Receive(3), -11)));
        assert_eq!(socket(203), Some((Timeout::Connect(3), -115)));
        assert_eq!(socket(22), None);
    }

    #[test]
    fn the_first_argument_is_read_where_there_is_one() {
        let line = "22 0x5 0x1 0x2 0x3 0x4 0x0 0xffffd000 0xffffa000\n";
        assert_eq!(first_of(line), Some(5));
        assert_eq!(first_of("-1 0xffffd000 0xffffa000\n"), None);
        assert_eq!(first_of("running\n"), None);
    }
}
