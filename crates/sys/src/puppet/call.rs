//! The bare system call: no thread-local `errno`, which lanes that are threads would share.
#![expect(unsafe_code, reason = "system calls without a library")]

use std::arch::asm;

/// Makes a system call and returns the kernel's answer: an error number is negative.
///
/// # Safety
///
/// The call must be sound with these arguments in this process.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn call(number: libc::c_long, args: [u64; 6]) -> i64 {
    let answer: i64;
    // SAFETY: 1. the caller answers for the call. 2. the kernel clobbers rcx and r11 only.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => answer,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack)
        );
    }
    answer
}

/// Makes a system call and returns the kernel's answer: an error number is negative.
///
/// # Safety
///
/// The call must be sound with these arguments in this process.
#[cfg(target_arch = "aarch64")]
pub(super) unsafe fn call(number: libc::c_long, args: [u64; 6]) -> i64 {
    let answer: i64;
    // SAFETY: 1. the caller answers for the call. 2. the kernel keeps every register but x0.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") args[0] => answer,
            in("x1") args[1],
            in("x2") args[2],
            in("x3") args[3],
            in("x4") args[4],
            in("x5") args[5],
            options(nostack)
        );
    }
    answer
}
