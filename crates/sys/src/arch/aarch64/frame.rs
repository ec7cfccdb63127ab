//! Signal frames: bytes that lie at a known address and bring a task to a known state.

use space::Vaddr;

use super::extended::zero_records;
use super::{Extended, Gadgets, Registers};
use crate::uapi::aarch64::{FPSIMD_LEN, RECORD_ALIGN, REGISTERS, RtSigFrame};

/// Bytes of a frame with the vector registers that each must have.
pub(crate) const BARE_LEN: u64 = (size_of::<RtSigFrame>() + FPSIMD_LEN + RECORD_ALIGN) as u64;
/// From the start of a frame to the register of the first argument of a call.
pub(crate) const FIRST_ARGUMENT: u64 = std::mem::offset_of!(RtSigFrame, registers) as u64;

/// A frame that brings back `registers`, the signal mask and the extended state. An interrupted
/// call is made again, or anew where it could have gone on: `rt_sigreturn` makes the kernel forget
/// how long it had waited.
pub(crate) fn original(
    _address: Vaddr,
    _gadgets: Gadgets,
    registers: &Registers,
    sigmask: u64,
    extended: &Extended,
) -> Vec<u8> {
    frame(registers, sigmask, &extended.records())
}

/// A frame that makes the task call `number` next, with the stack at `stack`.
pub(crate) fn calling(
    gadgets: Gadgets,
    registers: &Registers,
    sigmask: u64,
    stack: Vaddr,
    number: u64,
    args: [u64; 6],
) -> Vec<u8> {
    let registers = registers.calling(gadgets, stack, number, args);
    frame(&registers, sigmask, &zero_records())
}

fn frame(registers: &Registers, sigmask: u64, records: &[u8]) -> Vec<u8> {
    const SIGMASK: usize = std::mem::offset_of!(RtSigFrame, sigmask);
    const GENERAL: usize = std::mem::offset_of!(RtSigFrame, registers);
    let mut bytes = vec![0; size_of::<RtSigFrame>()];
    bytes[SIGMASK..SIGMASK + size_of::<u64>()].copy_from_slice(&sigmask.to_le_bytes());
    bytes[GENERAL..GENERAL + REGISTERS * 8].copy_from_slice(&registers.to_bytes());
    bytes.extend(records);
    bytes
}
