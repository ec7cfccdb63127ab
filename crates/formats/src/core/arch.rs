//! What differs between machines.

use super::CoreError;

/// A machine whose cores can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm.
    Arm64,
}

impl Arch {
    const EM_X86_64: u16 = 62;
    const EM_AARCH64: u16 = 183;

    /// Returns the machine of an ELF number.
    pub(super) fn of(machine: u16) -> Result<Self, CoreError> {
        match machine {
            Self::EM_X86_64 => Ok(Self::X86_64),
            Self::EM_AARCH64 => Ok(Self::Arm64),
            other => Err(CoreError::Machine(other)),
        }
    }

    /// Returns the ELF number.
    pub(super) fn machine(self) -> u16 {
        match self {
            Self::X86_64 => Self::EM_X86_64,
            Self::Arm64 => Self::EM_AARCH64,
        }
    }

    /// Returns the size of the general registers, in bytes: `user_regs_struct` of `x86_64` has 27
    /// words; `user_pt_regs` of arm64 has 34.
    pub(super) const fn general_registers_len(self) -> usize {
        match self {
            Self::X86_64 => 27 * 8,
            Self::Arm64 => 34 * 8,
        }
    }
}
