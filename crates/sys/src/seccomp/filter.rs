//! A filter: a program of classic BPF that was checked as the kernel checks it.

use super::check;

/// One instruction of classic BPF: the layout of `struct sock_filter`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BpfInstruction {
    /// The operation.
    pub code: u16,
    /// How many instructions to skip where a comparison holds.
    pub jt: u8,
    /// How many instructions to skip where it does not.
    pub jf: u8,
    /// The immediate operand.
    pub k: u32,
}

impl BpfInstruction {
    /// The size of an instruction in the kernel's layout, in bytes.
    pub const BYTES: usize = 8;

    /// Reads an instruction in the kernel's layout and the machine's byte order.
    pub fn from_ne_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let [code0, code1, jt, jf, k0, k1, k2, k3] = bytes;
        Self {
            code: u16::from_ne_bytes([code0, code1]),
            jt,
            jf,
            k: u32::from_ne_bytes([k0, k1, k2, k3]),
        }
    }

    /// Returns the instruction in the kernel's layout and the machine's byte order.
    pub fn to_ne_bytes(self) -> [u8; Self::BYTES] {
        let [code0, code1] = self.code.to_ne_bytes();
        let [k0, k1, k2, k3] = self.k.to_ne_bytes();
        [code0, code1, self.jt, self.jf, k0, k1, k2, k3]
    }
}

/// A program that the kernel would install as a seccomp filter.
///
/// Every jump goes forward and stays inside, the last instruction returns, and no cell of memory
/// is read before it is written: so a run ends after at most as many steps as it has
/// instructions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Never changed after the check.
    instructions: Vec<BpfInstruction>,
}

/// Why a list of instructions is no seccomp filter. The kernel answers `EINVAL` to all of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// There are none, or more than the kernel takes.
    #[error("a seccomp filter of {0} instructions: there must be 1 to 4096")]
    Length(usize),
    /// The bytes are no whole number of instructions.
    #[error("a seccomp filter of {0} bytes is cut off: an instruction takes 8")]
    CutOff(usize),
    /// An operation that is none of classic BPF, or that seccomp does not allow.
    #[error("instruction {at} of the seccomp filter has code {code:#x}, which seccomp refuses")]
    Code {
        /// The index of the instruction.
        at: usize,
        /// Its operation.
        code: u16,
    },
    /// An operand that its operation does not take: a load beyond the data, a division by zero,
    /// a shift by 32 or more, a cell that is not there.
    #[error("instruction {at} of the seccomp filter has the operand {k:#x}, out of its bounds")]
    Operand {
        /// The index of the instruction.
        at: usize,
        /// Its operand.
        k: u32,
    },
    /// A jump behind the end.
    #[error("instruction {at} of the seccomp filter jumps behind its end")]
    Jump {
        /// The index of the instruction.
        at: usize,
    },
    /// A cell of memory is read that some way there does not write.
    #[error("instruction {at} of the seccomp filter reads memory that was not written")]
    Uninitialised {
        /// The index of the instruction.
        at: usize,
    },
    /// The last instruction is no return.
    #[error("the seccomp filter does not end in a return")]
    NoReturn,
}

impl Filter {
    /// Makes a filter of instructions.
    ///
    /// # Errors
    ///
    /// [`FilterError`] where the kernel would refuse them.
    pub fn new(instructions: Vec<BpfInstruction>) -> Result<Self, FilterError> {
        check::check(&instructions)?;
        Ok(Self { instructions })
    }

    /// Makes a filter of the bytes of an array of `struct sock_filter`.
    ///
    /// # Errors
    ///
    /// [`FilterError`] where the bytes are cut off or the kernel would refuse the program.
    pub fn from_ne_bytes(bytes: &[u8]) -> Result<Self, FilterError> {
        let (whole, rest) = bytes.as_chunks::<{ BpfInstruction::BYTES }>();
        if !rest.is_empty() {
            return Err(FilterError::CutOff(bytes.len()));
        }
        Self::new(
            whole
                .iter()
                .copied()
                .map(BpfInstruction::from_ne_bytes)
                .collect(),
        )
    }

    /// Returns the instructions.
    pub fn instructions(&self) -> &[BpfInstruction] {
        &self.instructions
    }
}
