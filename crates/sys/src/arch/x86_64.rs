//! x86_64: `struct user_regs_struct`, the system call convention, restarts
//! (`arch_do_signal_or_restart` in `arch/x86/kernel/signal.c`) and signal frames.

use space::Vaddr;

use super::restart::{ERESTART_RESTARTBLOCK, ERESTARTNOHAND, ERESTARTNOINTR, ERESTARTSYS};
use super::{Timeout, WaitingCall};
use crate::uapi::signal_frame::{
    FP_XSTATE_MAGIC1, FP_XSTATE_MAGIC2, FPX_SW_BYTES, RtSigFrame, SigContext, UC_FP_XSTATE,
    UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS,
};

/// `syscall; ret`.
pub(crate) const CALL_GADGET: &[u8] = &[0x0f, 0x05, 0xc3];
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

    /// What the last call returned.
    pub(crate) fn result(&self) -> i64 {
        self.0[RAX].cast_signed()
    }

    pub(crate) fn set_result(&mut self, result: i64) {
        self.0[RAX] = result.cast_unsigned();
    }

    /// The number of the call that the task is in, if any.
    pub(crate) fn in_call(&self) -> Option<u64> {
        (self.0[ORIG_RAX] != u64::MAX).then_some(self.0[ORIG_RAX])
    }

    /// Tells whether the task waits in a call that only `restart_syscall` can go on with.
    pub(crate) fn needs_restart_block(&self) -> bool {
        self.in_call().is_some() && self.result() == ERESTART_RESTARTBLOCK
    }

    /// The registers with which the task makes call `number` at `gadget`, with the stack at
    /// `stack`. It counts as in no call, so that nothing is restarted.
    pub(crate) fn calling(&self, gadget: Vaddr, stack: Vaddr, number: u64, args: [u64; 6]) -> Self {
        let mut next = *self;
        for (register, value) in [RDI, RSI, RDX, R10, R8, R9].into_iter().zip(args) {
            next.0[register] = value;
        }
        next.0[RAX] = number;
        next.0[ORIG_RAX] = u64::MAX;
        next.0[RIP] = gadget.0;
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

    /// Two sets are of the same wait if nothing but the result differs.
    pub(crate) fn same_call(&self, other: &Self) -> bool {
        let mut other = *other;
        other.0[RAX] = self.0[RAX];
        *self == other
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

/// Tells what a task that was interrupted with `EINTR` waits for, where it may go on waiting.
pub(crate) fn waiting_call(registers: &Registers) -> Option<WaitingCall> {
    const EINTR: i64 = -4;
    const EAGAIN: i64 = -11;
    const ETIME: i64 = -62;
    const IORING_ENTER_EXT_ARG: u64 = 8;
    if registers.result() != EINTR {
        return None;
    }
    let argument = |register: usize| registers.0[register];
    let millis = |register: usize| {
        // The kernel takes the low half as a signed number, and waits for ever below zero.
        let low = u32::try_from(argument(register) & 0xffff_ffff)
            .expect("masked")
            .cast_signed();
        u64::try_from(low).map_or(Timeout::Never, Timeout::Millis)
    };
    let timespec = |register: usize| match argument(register) {
        0 => Timeout::Never,
        address => Timeout::Timespec(Vaddr(address)),
    };
    let (timeout, timed_out) = match registers.in_call()? {
        232 | 281 => (millis(R10), 0),  // epoll_wait, epoll_pwait
        441 => (timespec(R10), 0),      // epoll_pwait2
        128 => (timespec(RDX), EAGAIN), // rt_sigtimedwait
        65 => (Timeout::Never, 0),      // semop
        220 => (timespec(R10), EAGAIN), // semtimedop
        208 | 333 => (timespec(R8), 0), // io_getevents, io_pgetevents
        426 if argument(R10) & IORING_ENTER_EXT_ARG != 0 => {
            (Timeout::UringArg(Vaddr(argument(R8))), ETIME)
        }
        426 => (Timeout::Never, 0), // io_uring_enter
        _ => return None,
    };
    Some(WaitingCall { timeout, timed_out })
}

/// Signal frames: bytes that lie at a known address and bring a task to a known state.
pub(crate) mod frame {
    use super::{
        FP_XSTATE_MAGIC1, FP_XSTATE_MAGIC2, FPX_SW_BYTES, Registers, RtSigFrame, UC_FP_XSTATE,
        UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS, Vaddr,
    };

    /// Bytes of a frame without floating point state.
    pub(crate) const BARE_LEN: u64 = size_of::<RtSigFrame>() as u64;
    /// From the start of a frame to the register of the first argument of a call.
    pub(crate) const FIRST_ARGUMENT: u64 = (std::mem::offset_of!(RtSigFrame, context)
        + std::mem::offset_of!(crate::uapi::signal_frame::SigContext, di))
        as u64;

    /// A frame at `address` that brings back `registers`, a restart of an interrupted call
    /// included, the signal mask and the extended state.
    pub(crate) fn original(
        address: Vaddr,
        sigreturn: Vaddr,
        registers: &Registers,
        sigmask: u64,
        xstate: &[u8],
    ) -> Vec<u8> {
        let fpstate = (address.0 + BARE_LEN).next_multiple_of(64);
        let context = registers.restarted().sigcontext(fpstate);
        let flags = UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS;
        let mut bytes = bytes_of(&RtSigFrame {
            pretcode: sigreturn.0,
            uc_flags: flags,
            context,
            sigmask,
            ..RtSigFrame::default()
        });
        bytes.resize(
            usize::try_from(fpstate - address.0).expect("a short gap"),
            0,
        );
        bytes.extend(extended_state(xstate));
        bytes
    }

    /// A frame that makes the task call `number` at `gadget` next, with the stack at `stack`.
    pub(crate) fn calling(
        sigreturn: Vaddr,
        registers: &Registers,
        sigmask: u64,
        (gadget, stack): (Vaddr, Vaddr),
        number: u64,
        args: [u64; 6],
    ) -> Vec<u8> {
        let context = registers.calling(gadget, stack, number, args).sigcontext(0);
        bytes_of(&RtSigFrame {
            pretcode: sigreturn.0,
            uc_flags: UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS,
            context,
            sigmask,
            ..RtSigFrame::default()
        })
    }

    /// The state as `NT_X86_XSTATE` gives it, dressed as a frame wants it: software bytes that
    /// tell size and features, and a magic number behind.
    fn extended_state(xstate: &[u8]) -> Vec<u8> {
        const XSTATE_BV: usize = 512;
        const TILE_DATA: u64 = 1 << 18;
        let word = |at: usize| {
            let bytes = xstate
                .get(at..at + 8)
                .and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u64::from_le_bytes)
        };
        let features = word(FPX_SW_BYTES);
        // A task that never asked for AMX has a smaller area, and a frame larger than that would
        // be taken for a legacy one.
        let (size, features) = if features & TILE_DATA != 0 && word(XSTATE_BV) & TILE_DATA == 0 {
            (tile_data_offset().min(xstate.len()), features & !TILE_DATA)
        } else {
            (xstate.len(), features)
        };
        let mut state = xstate[..size].to_vec();
        let size = u32::try_from(size).expect("some KiB");
        let magic_len = u32::try_from(size_of::<u32>()).expect("four");
        let mut software = Vec::with_capacity(48);
        software.extend(FP_XSTATE_MAGIC1.to_le_bytes());
        software.extend((size + magic_len).to_le_bytes());
        software.extend(features.to_le_bytes());
        software.extend(size.to_le_bytes());
        software.resize(48, 0);
        state[FPX_SW_BYTES..FPX_SW_BYTES + 48].copy_from_slice(&software);
        state.extend(FP_XSTATE_MAGIC2.to_le_bytes());
        state
    }

    /// Where AMX tile data begins in the standard layout (CPUID leaf 0xD, sub-leaf 18, EBX).
    fn tile_data_offset() -> usize {
        let leaf = std::arch::x86_64::__cpuid_count(0xd, 18);
        usize::try_from(leaf.ebx).expect("some KiB")
    }

    fn bytes_of(frame: &RtSigFrame) -> Vec<u8> {
        let context = &frame.context;
        let selectors = u64::from(context.cs)
            | u64::from(context.gs) << 16
            | u64::from(context.fs) << 32
            | u64::from(context.ss) << 48;
        let words = [
            frame.pretcode,
            frame.uc_flags,
            frame.uc_link,
            frame.stack_sp,
            frame.stack_flags,
            frame.stack_size,
            context.r8,
            context.r9,
            context.r10,
            context.r11,
            context.r12,
            context.r13,
            context.r14,
            context.r15,
            context.di,
            context.si,
            context.bp,
            context.bx,
            context.dx,
            context.ax,
            context.cx,
            context.sp,
            context.ip,
            context.flags,
            selectors,
            context.err,
            context.trapno,
            context.oldmask,
            context.cr2,
            context.fpstate,
        ];
        let tail = context.reserved.into_iter().chain([frame.sigmask]);
        words
            .into_iter()
            .chain(tail)
            .flat_map(u64::to_le_bytes)
            .collect()
    }
}
