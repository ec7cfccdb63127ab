//! The frame that `rt_sigreturn` restores a task from, on arm64
//! (`arch/arm64/include/uapi/asm/sigcontext.h`, `arch/arm64/kernel/signal.c`), and its register
//! sets (`arch/arm64/include/uapi/asm/ptrace.h`).

/// `struct rt_sigframe` up to the records: a `siginfo_t` (128 bytes), `struct ucontext`, and in
/// that `struct sigcontext`. Records follow, each with a magic number and its length.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct RtSigFrame {
    pub(crate) siginfo: [u64; 16],
    pub(crate) uc_flags: u64,
    pub(crate) uc_link: u64,
    pub(crate) stack_sp: u64,
    pub(crate) stack_flags: u64,
    pub(crate) stack_size: u64,
    pub(crate) sigmask: u64,
    /// Room for a larger set of signals.
    pub(crate) unused: [u64; 15],
    pub(crate) padding: u64,
    pub(crate) fault_address: u64,
    /// `struct user_pt_regs`.
    pub(crate) registers: [u64; REGISTERS],
    pub(crate) more_padding: u64,
}

/// Words of `struct user_pt_regs`.
pub(crate) const REGISTERS: usize = 34;

/// Bytes that the kernel gives to the records; more needs a record that tells where it is.
// The array's length in `struct sigcontext`, not a page size.
pub(crate) const RECORDS_MAX: usize = 4096;
/// `struct fpsimd_context`: status and control, then 32 vectors of 16 bytes. A frame without it is
/// refused.
pub(crate) const FPSIMD_MAGIC: u32 = 0x4650_8001;
/// Bytes of that record.
pub(crate) const FPSIMD_LEN: usize = 528;
/// `struct sve_context`: the vector length, then registers as in `NT_ARM_SVE`.
pub(crate) const SVE_MAGIC: u32 = 0x5356_4501;
/// Bytes of a record's magic number and length.
pub(crate) const RECORD_HEADER: usize = 8;
/// Records begin at multiples of this.
pub(crate) const RECORD_ALIGN: usize = 16;

/// Floating point registers, `struct user_fpsimd_state`: 32 vectors, status and control.
pub(crate) const NT_PRFPREG: u32 = 2;
/// The thread pointer.
pub(crate) const NT_ARM_TLS: u32 = 0x401;
/// The number of the call that the task is in, or -1.
pub(crate) const NT_ARM_SYSTEM_CALL: u32 = 0x404;
/// Scalable vectors, `struct user_sve_header` and what it says.
pub(crate) const NT_ARM_SVE: u32 = 0x405;
/// Which bits of a pointer may hold an authentication code.
pub(crate) const NT_ARM_PAC_MASK: u32 = 0x406;
/// Whether tagged addresses are taken.
pub(crate) const NT_ARM_TAGGED_ADDR_CTRL: u32 = 0x409;
/// Scalable vectors in streaming mode.
pub(crate) const NT_ARM_SSVE: u32 = 0x40b;
/// The matrix storage.
pub(crate) const NT_ARM_ZA: u32 = 0x40c;
/// The guarded control stack.
pub(crate) const NT_ARM_GCS: u32 = 0x410;

/// Bytes of `struct user_sve_header`: sizes, vector lengths, flags.
pub(crate) const SVE_HEADER: usize = 16;
/// In the flags of that: the registers are scalable ones.
pub(crate) const SVE_PT_REGS_SVE: u16 = 1;

const _: () = assert!(size_of::<RtSigFrame>() == 592);
const _: () = assert!(std::mem::offset_of!(RtSigFrame, uc_flags) == 128);
const _: () = assert!(std::mem::offset_of!(RtSigFrame, sigmask) == 168);
const _: () = assert!(std::mem::offset_of!(RtSigFrame, fault_address) == 304);
const _: () = assert!(std::mem::offset_of!(RtSigFrame, registers) == 312);
