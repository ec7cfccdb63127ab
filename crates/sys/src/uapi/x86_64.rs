//! The frame that `rt_sigreturn` restores a task from, on x86_64
//! (`arch/x86/include/uapi/asm/{sigcontext,ucontext}.h`, `arch/x86/include/asm/sigframe.h`).

/// The extended state behind the legacy 512 bytes is there and described.
pub(crate) const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
/// Ends the extended state.
pub(crate) const FP_XSTATE_MAGIC2: u32 = 0x4650_5845;
/// Where in the legacy area `struct _fpx_sw_bytes` lies.
pub(crate) const FPX_SW_BYTES: usize = 464;

/// `uc_flags`: the frame holds extended state.
pub(crate) const UC_FP_XSTATE: u64 = 1;
/// `uc_flags`: the stack segment is saved, and to be restored strictly.
pub(crate) const UC_SIGCONTEXT_SS: u64 = 2;
/// `uc_flags`: restore the stack segment strictly.
pub(crate) const UC_STRICT_RESTORE_SS: u64 = 4;

/// `struct sigcontext_64`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SigContext {
    pub(crate) r8: u64,
    pub(crate) r9: u64,
    pub(crate) r10: u64,
    pub(crate) r11: u64,
    pub(crate) r12: u64,
    pub(crate) r13: u64,
    pub(crate) r14: u64,
    pub(crate) r15: u64,
    pub(crate) di: u64,
    pub(crate) si: u64,
    pub(crate) bp: u64,
    pub(crate) bx: u64,
    pub(crate) dx: u64,
    pub(crate) ax: u64,
    pub(crate) cx: u64,
    pub(crate) sp: u64,
    pub(crate) ip: u64,
    pub(crate) flags: u64,
    pub(crate) cs: u16,
    pub(crate) gs: u16,
    pub(crate) fs: u16,
    pub(crate) ss: u16,
    pub(crate) err: u64,
    pub(crate) trapno: u64,
    pub(crate) oldmask: u64,
    pub(crate) cr2: u64,
    /// Address of the floating point state; 0 resets it.
    pub(crate) fpstate: u64,
    pub(crate) reserved: [u64; 8],
}

/// `struct ucontext`, with `struct rt_sigframe`'s return address before it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RtSigFrame {
    /// Where the handler would return to: the code that calls `rt_sigreturn`.
    pub(crate) pretcode: u64,
    pub(crate) uc_flags: u64,
    pub(crate) uc_link: u64,
    pub(crate) stack_sp: u64,
    pub(crate) stack_flags: u64,
    pub(crate) stack_size: u64,
    pub(crate) context: SigContext,
    pub(crate) sigmask: u64,
}

const _: () = assert!(size_of::<SigContext>() == 256);
const _: () = assert!(size_of::<RtSigFrame>() == 8 + 40 + 256 + 8);
const _: () = assert!(std::mem::offset_of!(RtSigFrame, context) == 48);
