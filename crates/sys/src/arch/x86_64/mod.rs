//! x86_64: `struct user_regs_struct`, the system call convention, restarts
//! (`arch_do_signal_or_restart` in `arch/x86/kernel/signal.c`) and signal frames.

use std::sync::OnceLock;

use space::{Errno, Vaddr};

use super::restart::{EINTR, ERESTART_RESTARTBLOCK, ERESTARTNOHAND, ERESTARTNOINTR, ERESTARTSYS};
use super::{Gadgets, Reentry, Timeout, WaitingCall, halves, int};
use crate::raw::{process, ptrace};
use crate::task::write_general;
use crate::uapi::x86_64::SigContext;

mod extended;
pub(crate) mod frame;

pub(crate) use extended::Extended;

/// The kernel looks at the registers when the stop is over: a restart is what they say.
pub(crate) const DECIDES_BEFORE_STOP: bool = false;

/// `syscall; ret`.
pub(crate) const CALL_GADGETS: &[&[u8]] = &[&[0x0f, 0x05, 0xc3]];
/// Instructions begin anywhere.
pub(crate) const INSTRUCTION_ALIGN: usize = 1;
/// Bytes of the `syscall` instruction, by which a restart goes back.
pub(crate) const CALL_LEN: u64 = 2;
/// `mov $15, %rax; syscall` and its shorter form with `%eax`: what every C library and runtime
/// has its signal handlers return to.
pub(crate) const SIGRETURN_GADGETS: &[&[u8]] = &[
    &[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05],
    &[0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05],
];

/// Numbers of the calls that are injected.
pub(crate) mod call {
    pub(crate) const CLOSE: u64 = 3;
    pub(crate) const RT_SIGRETURN: u64 = 15;
    pub(crate) const CLONE: u64 = 56;
    pub(crate) const WAIT4: u64 = 61;
    pub(crate) const RESTART_SYSCALL: u64 = 219;
    pub(crate) const EXIT_GROUP: u64 = 231;
    pub(crate) const USERFAULTFD: u64 = 323;
}

const REGISTERS: usize = 27;
const R10: usize = 7;
const R9: usize = 8;
const R8: usize = 9;
const RAX: usize = 10;
const RDX: usize = 12;
const RSI: usize = 13;
const RDI: usize = 14;
const ORIG_RAX: usize = 15;
const RIP: usize = 16;
const RSP: usize = 19;

/// The notes to ask of each task beside the general registers: `NT_PRFPREG`, `NT_X86_XSTATE`.
pub(crate) fn register_notes() -> &'static [u32] {
    &[2, 0x202]
}

/// `struct user_regs_struct`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Registers([u64; REGISTERS]);

impl Registers {
    /// Bytes of the general registers' note.
    pub(crate) const BYTES: usize = REGISTERS * 8;

    pub(crate) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let mut registers = [0; REGISTERS];
        for (register, bytes) in registers.iter_mut().zip(bytes.as_chunks().0) {
            *register = u64::from_le_bytes(*bytes);
        }
        Self(registers)
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        for (bytes, register) in bytes.as_chunks_mut().0.iter_mut().zip(self.0) {
            *bytes = register.to_le_bytes();
        }
        bytes
    }

    pub(crate) fn stack_pointer(&self) -> Vaddr {
        Vaddr(self.0[RSP])
    }

    pub(crate) fn program_counter(&self) -> Vaddr {
        Vaddr(self.0[RIP])
    }

    /// What the last call returned.
    pub(crate) fn result(&self) -> i64 {
        self.0[RAX].cast_signed()
    }

    pub(crate) fn set_result(&mut self, result: i64) {
        self.0[RAX] = result.cast_unsigned();
    }

    /// The number of the call that the task is in, if any.
    fn in_call(&self) -> Option<u64> {
        let number = halves::low(self.0[ORIG_RAX]);
        (number != u64::from(u32::MAX)).then_some(number)
    }

    /// The call that the task was interrupted in, as filters see it: the address of its
    /// instruction, its number and arguments.
    pub(crate) fn call(&self) -> (Vaddr, u64, [u64; 6]) {
        let args = [RDI, RSI, RDX, R10, R8, R9].map(|register| self.0[register]);
        let at = Vaddr(self.0[RIP].wrapping_sub(CALL_LEN));
        (at, halves::low(self.0[ORIG_RAX]), args)
    }

    /// Tells whether bits can be carried along with the call that the task is in. They are above
    /// those that the kernel takes of the call's number ([`calls_can_carry`]), which nobody sees:
    /// not filters, and not the task, since the call's result comes in their place.
    pub(crate) fn can_carry(&self) -> bool {
        true
    }

    /// Has bits carried along with the call.
    pub(crate) fn carry(&mut self, bits: u32) {
        self.0[ORIG_RAX] = halves::with_high(self.0[ORIG_RAX], bits);
    }

    /// Returns the bits that are carried along.
    pub(crate) fn carried(&self) -> u32 {
        halves::high(self.0[ORIG_RAX])
    }

    /// Tells whether the task waits in a call that only `restart_syscall` can go on with.
    pub(crate) fn needs_restart_block(&self, _tid: u32) -> bool {
        self.in_call().is_some() && self.result() == ERESTART_RESTARTBLOCK
    }

    /// The registers with which the task makes call `number`, with the stack at `stack`: behind
    /// the call it takes its return address from there. It counts as in no call, so that nothing
    /// is restarted.
    pub(crate) fn calling(
        &self,
        gadgets: Gadgets,
        stack: Vaddr,
        number: u64,
        args: [u64; 6],
    ) -> Self {
        let mut next = *self;
        for (register, value) in [RDI, RSI, RDX, R10, R8, R9].into_iter().zip(args) {
            next.0[register] = value;
        }
        next.0[RAX] = number;
        next.0[ORIG_RAX] = u64::MAX;
        next.0[RIP] = gadgets.call.0;
        next.0[RSP] = stack.0;
        next
    }

    /// The registers as the kernel would have them when it restarts an interrupted call, for a
    /// frame that brings them back without the kernel's help.
    fn restarted(&self) -> Self {
        let mut next = *self;
        if self.in_call().is_some() {
            let number = match self.result() {
                ERESTARTSYS | ERESTARTNOINTR | ERESTARTNOHAND => Some(self.0[ORIG_RAX]),
                ERESTART_RESTARTBLOCK => Some(call::RESTART_SYSCALL),
                _ => None,
            };
            if let Some(number) = number {
                next.0[RAX] = number;
                next.0[RIP] -= CALL_LEN;
            }
        }
        next
    }

    fn sigcontext(&self, fpstate: u64) -> SigContext {
        let [
            r15,
            r14,
            r13,
            r12,
            bp,
            bx,
            r11,
            r10,
            r9,
            r8,
            ax,
            cx,
            dx,
            si,
            di,
            ..,
        ] = self.0;
        let [.., ip, cs, flags, sp, ss, _, _, _, _, _, _] = self.0;
        let selector = |value: u64| u16::try_from(value & 0xffff).expect("masked");
        SigContext {
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
            di,
            si,
            bp,
            bx,
            dx,
            ax,
            cx,
            sp,
            ip,
            flags,
            cs: selector(cs),
            ss: selector(ss),
            fpstate,
            ..SigContext::default()
        }
    }
}

/// Tells whether this kernel takes the low half of a call's number, as it does since 5.14.
pub(crate) fn calls_can_carry() -> bool {
    static ARE: OnceLock<bool> = OnceLock::new();
    const ANY: u32 = 1;
    *ARE.get_or_init(|| process::own_id(ANY).is_ok())
}

/// Tells what a task that was interrupted with `EINTR` waits for, where it may go on waiting.
pub(crate) fn waiting_call(_tid: u32, registers: &Registers) -> Option<WaitingCall> {
    if registers.result() != EINTR {
        return None;
    }
    let (timeout, timed_out) = ended_by_stop(registers)?;
    Some(waiting(registers, timeout, timed_out))
}

/// Tells what a task waits for that would go on by `restart_syscall`, and is to make its call anew
/// instead; `None` where it has no end of its own, or an absolute one.
pub(crate) fn blocked_call(registers: &Registers) -> Option<WaitingCall> {
    const POLL: u64 = 7;
    const NANOSLEEP: u64 = 35;
    const FUTEX: u64 = 202;
    const FUTEX_COMMAND: u64 = 0x7f;
    const FUTEX_WAIT: u64 = 0;
    const CLOCK_NANOSLEEP: u64 = 230;
    const TIMER_ABSTIME: u64 = 1;
    const ETIMEDOUT: i64 = -110;
    let argument = |register: usize| registers.0[register];
    let second = argument(RSI);
    let (timeout, timed_out) = match registers.in_call()? {
        POLL => (Timeout::millis(argument(RDX)), 0),
        NANOSLEEP => (Timeout::timespec(argument(RDI)), 0),
        CLOCK_NANOSLEEP if second & TIMER_ABSTIME == 0 => (Timeout::timespec(argument(RDX)), 0),
        FUTEX if second & FUTEX_COMMAND == FUTEX_WAIT => {
            (Timeout::timespec(argument(R10)), ETIMEDOUT)
        }
        _ => return None,
    };
    Some(waiting(registers, timeout, timed_out))
}

fn waiting(registers: &Registers, timeout: Timeout, timed_out: i64) -> WaitingCall {
    let mut again = *registers;
    again.set_result(ERESTARTNOHAND);
    WaitingCall {
        timeout,
        timed_out,
        again,
        over: *registers,
    }
}

/// Tells whether a task is in a call that any signal ends, or about to make it again.
pub(crate) fn waits(_tid: u32, registers: &Registers) -> bool {
    [EINTR, ERESTARTNOHAND].contains(&registers.result()) && ended_by_stop(registers).is_some()
}

/// Tells whether a call may be one that any signal ends, by its number.
pub(crate) fn may_wait(number: u64) -> bool {
    let mut registers = Registers([0; REGISTERS]);
    registers.0[ORIG_RAX] = number;
    ended_by_stop(&registers).is_some()
}

/// Tells whether a task is in a call that carries along when its wait began, or has just returned from
/// it: the bits above the call's number stay where they are.
pub(crate) fn may_be_marked(_tid: u32, registers: &Registers) -> bool {
    ended_by_stop(registers).is_some() || blocked_call(registers).is_some()
}

/// The calls that a stop ends, on sockets where they have a timeout: how long each waits, and what
/// it returns when that is over.
fn ended_by_stop(registers: &Registers) -> Option<(Timeout, i64)> {
    const EAGAIN: i64 = -11;
    const ETIME: i64 = -62;
    const EINPROGRESS: i64 = -115;
    const IORING_ENTER_EXT_ARG: u64 = 8;
    let argument = |register: usize| registers.0[register];
    let timespec = |register: usize| Timeout::timespec(argument(register));
    Some(match registers.in_call()? {
        232 | 281 => (Timeout::millis(argument(R10)), 0), // epoll_wait, epoll_pwait
        441 => (timespec(R10), 0),                        // epoll_pwait2
        128 => (timespec(RDX), EAGAIN),                   // rt_sigtimedwait
        65 => (Timeout::Never, 0),                        // semop
        220 => (timespec(R10), EAGAIN),                   // semtimedop
        208 | 333 => (timespec(R8), 0),                   // io_getevents, io_pgetevents
        426 if argument(R10) & IORING_ENTER_EXT_ARG != 0 => {
            (Timeout::UringArg(Vaddr(argument(R8))), ETIME)
        }
        426 => (Timeout::Never, 0), // io_uring_enter
        // read, readv, accept, recvfrom, recvmsg, accept4, recvmmsg, preadv2
        0 | 19 | 43 | 45 | 47 | 288 | 299 | 327 => (Timeout::Receive(int(argument(RDI))), EAGAIN),
        // write, writev, sendfile, sendto, sendmsg, sendmmsg, pwritev2
        1 | 20 | 40 | 44 | 46 | 307 | 328 => (Timeout::Send(int(argument(RDI))), EAGAIN),
        // splice
        275 => (
            Timeout::Splice(int(argument(RDI)), int(argument(RDX))),
            EAGAIN,
        ),
        42 => (Timeout::Connect(int(argument(RDI))), EINPROGRESS), // connect
        _ => return None,
    })
}

/// Has a task make its interrupted call anew instead of by `restart_syscall`.
pub(crate) fn begin_anew(tid: u32, registers: &Registers) -> Result<(), Errno> {
    let mut again = *registers;
    again.set_result(ERESTARTNOHAND);
    write_general(tid, &again)
}

/// The kernel looks at the registers that are written back: nothing else is needed.
pub(crate) fn reentry(_tid: u32, _registers: &Registers) -> Option<Reentry> {
    None
}

/// Tells whether a task may run other code for a while: a return address that no call pushed ends
/// one that has a shadow stack.
pub(crate) fn can_divert(tid: u32) -> bool {
    /// The shadow stack's register set; there is none where there is no such stack.
    const NT_X86_SHSTK: u32 = 0x204;
    ptrace::get_regset(tid, NT_X86_SHSTK, &mut [0; 8]).is_err()
}
