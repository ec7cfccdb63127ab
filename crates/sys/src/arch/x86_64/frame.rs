//! Signal frames: bytes that lie at a known address and bring a task to a known state.

use space::Vaddr;

use super::{Extended, Gadgets, Registers};
use crate::uapi::x86_64::{
    RtSigFrame, SigContext, UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS,
};

/// Bytes of a frame without floating point state.
pub(crate) const BARE_LEN: u64 = size_of::<RtSigFrame>() as u64;
/// From the start of a frame to the register of the first argument of a call.
pub(crate) const FIRST_ARGUMENT: u64 =
    (std::mem::offset_of!(RtSigFrame, context) + std::mem::offset_of!(SigContext, di)) as u64;

/// A frame at `address` that brings back `registers`, a restart of an interrupted call
/// included, the signal mask and the extended state.
pub(crate) fn original(
    address: Vaddr,
    gadgets: Gadgets,
    registers: &Registers,
    sigmask: u64,
    extended: &Extended,
) -> Vec<u8> {
    let fpstate = (address.0 + BARE_LEN).next_multiple_of(64);
    let context = registers.restarted().sigcontext(fpstate);
    let flags = UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS;
    let mut bytes = bytes_of(&RtSigFrame {
        pretcode: gadgets.sigreturn.0,
        uc_flags: flags,
        context,
        sigmask,
        ..RtSigFrame::default()
    });
    bytes.resize(
        usize::try_from(fpstate - address.0).expect("a short gap"),
        0,
    );
    bytes.extend(extended.for_frame());
    bytes
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
    let context = registers
        .calling(gadgets, stack, number, args)
        .sigcontext(0);
    bytes_of(&RtSigFrame {
        pretcode: gadgets.sigreturn.0,
        uc_flags: UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS,
        context,
        sigmask,
        ..RtSigFrame::default()
    })
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
