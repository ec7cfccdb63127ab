//! Loads and stores that may fault: a fault ends the access and tells what it was.
//!
//! Each access is one instruction between two labels. The handler of [`signal`](super::signal)
//! recognises an instruction pointer between them, sends the thread on to the label behind, and
//! hands over what it knows in registers, so that threads don't need memory of their own for it.
#![expect(unsafe_code, reason = "memory that may not be there")]

use super::script::Reply;

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".pushsection .text.onionskin_puppet,\"ax\",@progbits",
    ".globl onionskin_puppet_access_start",
    ".hidden onionskin_puppet_access_start",
    "onionskin_puppet_access_start:",
    ".globl onionskin_puppet_load1",
    ".hidden onionskin_puppet_load1",
    "onionskin_puppet_load1:",
    "movzx eax, byte ptr [rdi]",
    "ret",
    ".globl onionskin_puppet_load8",
    ".hidden onionskin_puppet_load8",
    "onionskin_puppet_load8:",
    "mov rax, qword ptr [rdi]",
    "ret",
    ".globl onionskin_puppet_store1",
    ".hidden onionskin_puppet_store1",
    "onionskin_puppet_store1:",
    "mov byte ptr [rdi], sil",
    "ret",
    ".globl onionskin_puppet_store8",
    ".hidden onionskin_puppet_store8",
    "onionskin_puppet_store8:",
    "mov qword ptr [rdi], rsi",
    "ret",
    ".globl onionskin_puppet_access_end",
    ".hidden onionskin_puppet_access_end",
    "onionskin_puppet_access_end:",
    "ret",
    ".popsection",
);

/// The registers that an access leaves behind.
#[derive(Clone, Copy, Debug, Default)]
struct Left {
    value: u64,
    /// The signal's number and, from bit 32, its code; 0 without a fault.
    signal: u64,
    address: u64,
    lsb: u64,
}

#[cfg(target_arch = "x86_64")]
macro_rules! access {
    ($label:literal, $address:expr, $value:expr) => {{
        let mut left = Left::default();
        // SAFETY: 1. the routine is one load or store and a return; it uses the stack for its own
        // return address only, and it changes rax alone, or, through the handler, rdx, rcx and r8,
        // which are named. 2. the address lies in the arena or where nothing can be mapped, as the
        // script checked, so that no object of Rust's is touched. 3. a fault there ends in the
        // handler, which returns behind the access.
        unsafe {
            std::arch::asm!(
                concat!("call ", $label),
                inlateout("rdi") $address => _,
                inlateout("rsi") $value => _,
                lateout("rax") left.value,
                inlateout("rdx") 0_u64 => left.signal,
                inlateout("rcx") 0_u64 => left.address,
                inlateout("r8") 0_u64 => left.lsb,
                clobber_abi("C"),
            );
        }
        left
    }};
}

#[cfg(target_arch = "aarch64")]
std::arch::global_asm!(
    ".pushsection .text.onionskin_puppet,\"ax\",@progbits",
    ".globl onionskin_puppet_access_start",
    ".hidden onionskin_puppet_access_start",
    "onionskin_puppet_access_start:",
    ".globl onionskin_puppet_load1",
    ".hidden onionskin_puppet_load1",
    "onionskin_puppet_load1:",
    "ldrb w0, [x0]",
    "ret",
    ".globl onionskin_puppet_load8",
    ".hidden onionskin_puppet_load8",
    "onionskin_puppet_load8:",
    "ldr x0, [x0]",
    "ret",
    ".globl onionskin_puppet_store1",
    ".hidden onionskin_puppet_store1",
    "onionskin_puppet_store1:",
    "strb w1, [x0]",
    "ret",
    ".globl onionskin_puppet_store8",
    ".hidden onionskin_puppet_store8",
    "onionskin_puppet_store8:",
    "str x1, [x0]",
    "ret",
    ".globl onionskin_puppet_access_end",
    ".hidden onionskin_puppet_access_end",
    "onionskin_puppet_access_end:",
    "ret",
    ".popsection",
);

#[cfg(target_arch = "aarch64")]
macro_rules! access {
    ($label:literal, $address:expr, $value:expr) => {{
        let mut left = Left::default();
        // SAFETY: 1. the routine is one load or store and a return; it changes x0 alone, or,
        // through the handler, x2 to x4, which are named. 2. the address lies in the arena or
        // where nothing can be mapped, as the script checked, so that no object of Rust's is
        // touched. 3. a fault there ends in the handler, which returns behind the access.
        unsafe {
            std::arch::asm!(
                concat!("bl ", $label),
                inlateout("x0") $address => left.value,
                inlateout("x1") $value => _,
                inlateout("x2") 0_u64 => left.signal,
                inlateout("x3") 0_u64 => left.address,
                inlateout("x4") 0_u64 => left.lsb,
                clobber_abi("C"),
            );
        }
        left
    }};
}

/// Loads 1 or 8 bytes.
pub(super) fn load(address: u64, width: u64) -> Reply {
    let left = match width {
        8 => access!("onionskin_puppet_load8", address, 0_u64),
        _ => access!("onionskin_puppet_load1", address, 0_u64),
    };
    reply(left, left.value)
}

/// Stores 1 or 8 bytes.
pub(super) fn store(address: u64, width: u64, value: u64) -> Reply {
    let left = match width {
        8 => access!("onionskin_puppet_store8", address, value),
        _ => access!("onionskin_puppet_store1", address, value),
    };
    reply(left, 0)
}

fn reply(left: Left, value: u64) -> Reply {
    let half = |word: u64| u32::try_from(word & 0xFFFF_FFFF).unwrap_or(0);
    let signal = half(left.signal);
    Reply {
        value: if signal == 0 { value.cast_signed() } else { 0 },
        signal,
        code: half(left.signal >> 32),
        address: left.address,
        lsb: half(left.lsb),
    }
}
