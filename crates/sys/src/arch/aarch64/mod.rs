//! arm64: `struct user_pt_regs` and the system call convention. Restarts are in `restarts`, signal
//! frames in `frame`.

use space::Vaddr;

use super::Gadgets;
use crate::raw::ptrace;
use crate::uapi::aarch64::{
    NT_ARM_GCS, NT_ARM_PAC_MASK, NT_ARM_SSVE, NT_ARM_SVE, NT_ARM_SYSTEM_CALL,
    NT_ARM_TAGGED_ADDR_CTRL, NT_ARM_TLS, NT_ARM_ZA, NT_PRFPREG, REGISTERS,
};

mod extended;
pub(crate) mod frame;
mod restarts;

pub(crate) use extended::Extended;
pub(crate) use restarts::{
    DECIDES_BEFORE_STOP, begin_anew, blocked_call, calls_can_carry, may_be_marked, may_wait,
    reentry, waiting_call, waits,
};

/// `svc #0`.
const SVC: [u8; 4] = 0xd400_0001_u32.to_le_bytes();

/// `svc #0; ret`.
pub(crate) const CALL_GADGETS: &[&[u8]] = &[&[0x01, 0, 0, 0xd4, 0xc0, 0x03, 0x5f, 0xd6]];
/// Instructions are words.
pub(crate) const INSTRUCTION_ALIGN: usize = 4;
/// Bytes of the `svc` instruction, by which a restart goes back.
pub(crate) const CALL_LEN: u64 = 4;
/// `mov x8, #139; svc #0`, with `x8` or `w8`: the kernel's own `__kernel_rt_sigreturn`, which every
/// process has mapped, or that of a C library.
pub(crate) const SIGRETURN_GADGETS: &[&[u8]] = &[
    &[0x68, 0x11, 0x80, 0xd2, 0x01, 0, 0, 0xd4],
    &[0x68, 0x11, 0x80, 0x52, 0x01, 0, 0, 0xd4],
];

/// Numbers of the calls that are injected.
pub(crate) mod call {
    pub(crate) const CLOSE: u64 = 57;
    pub(crate) const EXIT_GROUP: u64 = 94;
    pub(crate) const RESTART_SYSCALL: u64 = 128;
    pub(crate) const RT_SIGRETURN: u64 = 139;
    pub(crate) const CLONE: u64 = 220;
    pub(crate) const WAIT4: u64 = 260;
    pub(crate) const USERFAULTFD: u64 = 282;
}

/// The register of a call's number.
const NUMBER: usize = 8;
/// The link register, by which `ret` returns.
const LINK: usize = 30;
const SP: usize = 31;
const PC: usize = 32;
const PSTATE: usize = 33;

/// The notes to ask of each task beside the general registers.
pub(crate) fn register_notes() -> &'static [u32] {
    &[
        NT_PRFPREG,
        NT_ARM_TLS,
        NT_ARM_SYSTEM_CALL,
        NT_ARM_SVE,
        NT_ARM_PAC_MASK,
        NT_ARM_TAGGED_ADDR_CTRL,
        NT_ARM_SSVE,
        NT_ARM_ZA,
    ]
}

/// `struct user_pt_regs`: `x0` to `x30`, `sp`, `pc`, `pstate`.
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
        Vaddr(self.0[SP])
    }

    pub(crate) fn program_counter(&self) -> Vaddr {
        Vaddr(self.0[PC])
    }

    /// What the last call returned.
    pub(crate) fn result(&self) -> i64 {
        self.0[0].cast_signed()
    }

    pub(crate) fn set_result(&mut self, result: i64) {
        self.0[0] = result.cast_unsigned();
    }

    /// The registers with which a task that stands before a call has just left it with `error`.
    fn interrupted_by(&self, error: i64) -> Self {
        let mut next = *self;
        next.set_result(error);
        next.0[PC] += CALL_LEN;
        next
    }

    /// The registers with which the task makes call `number`, with the stack at `stack`, and
    /// returns from it to `gadgets.sigreturn`.
    pub(crate) fn calling(
        &self,
        gadgets: Gadgets,
        stack: Vaddr,
        number: u64,
        args: [u64; 6],
    ) -> Self {
        /// What kind of branch led here, for landing pads: none did.
        const BTYPE: u64 = 3 << 10;
        let mut next = *self;
        next.0[..args.len()].copy_from_slice(&args);
        next.0[NUMBER] = number;
        next.0[LINK] = gadgets.sigreturn.0;
        next.0[SP] = stack.0;
        next.0[PC] = gadgets.call.0;
        next.0[PSTATE] &= !BTYPE;
        next
    }
}

/// Tells whether a task may run other code for a while. A guarded control stack ends one that
/// returns to where no call came from, and a call takes it out of streaming mode for good.
pub(crate) fn can_divert(tid: u32) -> bool {
    let mut guarded = [0; 24];
    let is_guarded =
        ptrace::get_regset(tid, NT_ARM_GCS, &mut guarded).is_ok() && guarded[0] & 1 != 0;
    !is_guarded
        && !extended::is_scalable(tid, NT_ARM_SSVE)
        && Extended::read(tid).is_ok_and(|extended| extended.fits_frame())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_goes_by_the_gadget_and_back_by_the_link_register() {
        let before = Registers(std::array::from_fn(|at| at as u64 + 100));
        let gadgets = Gadgets {
            call: Vaddr(0x4000),
            sigreturn: Vaddr(0x5000),
        };
        let next = before.calling(gadgets, Vaddr(0x8000), 57, [1, 2, 3, 4, 5, 6]);
        assert_eq!(next.0[..9], [1, 2, 3, 4, 5, 6, 106, 107, 57]);
        assert_eq!(next.0[9..30], before.0[9..30]);
        assert_eq!(next.0[30..33], [0x5000, 0x8000, 0x4000]);
        assert_eq!(Registers::from_bytes(&next.to_bytes()), next);
    }

    #[test]
    fn the_gadgets_are_what_they_are_called() {
        assert_eq!(CALL_GADGETS[0][..4], SVC);
        assert_eq!(CALL_GADGETS[0][4..], 0xd65f_03c0_u32.to_le_bytes());
        let number = u32::try_from(call::RT_SIGRETURN).unwrap();
        assert_eq!(
            SIGRETURN_GADGETS[0][..4],
            (0xd280_0008 | number << 5).to_le_bytes()
        );
        assert_eq!(SIGRETURN_GADGETS[0][4..], SVC);
    }
}
