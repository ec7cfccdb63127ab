//! New lanes: forked processes and threads.
#![expect(unsafe_code, reason = "processes and threads without a library")]

use std::arch::asm;
use std::cell::UnsafeCell;

use super::LANES;
use super::call::call;

/// How large a thread's stack is.
const STACK_LEN: usize = 64 << 10;

#[repr(align(64))]
struct Stacks([UnsafeCell<[u8; STACK_LEN]>; LANES]);

// SAFETY: nobody refers to a stack but the thread that runs on it: each lane has its own.
unsafe impl Sync for Stacks {}

/// Private to each process, as all of the tool's memory is in a forked child.
static STACKS: Stacks = Stacks([const { UnsafeCell::new([0; STACK_LEN]) }; LANES]);

/// Forks, with the tool as the parent of the new process. Returns its id, 0 in the new process,
/// or an error number, negative.
pub(super) fn fork() -> i64 {
    let flags = u64::from((libc::CLONE_PARENT | libc::SIGCHLD).cast_unsigned());
    // SAFETY: 1. a process made without a stack of its own runs on a copy of this one. 2. only
    // lanes call this, which use no library state that a fork would break.
    unsafe { call(libc::SYS_clone, [flags, 0, 0, 0, 0, 0]) }
}

/// Starts a thread that runs `start(argument)` on the stack of a lane. Returns its id, or an error
/// number, negative.
pub(super) fn thread(lane: usize, start: extern "C" fn(u64) -> !, argument: u64) -> i64 {
    let Some(stack) = STACKS.0.get(lane) else {
        return -i64::from(libc::EINVAL);
    };
    let top = stack.get().expose_provenance() + STACK_LEN;
    let flags = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM;
    let flags = u64::from(flags.cast_unsigned());
    let start = start as usize as u64;
    // SAFETY: 1. the stack is unused: a lane's number is used once in a process. 2. `start` never
    // returns. 3. the thread shares our thread-local storage, and lanes use none.
    unsafe { spawn(flags, top as u64, start, argument) }
}

#[cfg(target_arch = "x86_64")]
unsafe fn spawn(flags: u64, top: u64, start: u64, argument: u64) -> i64 {
    let answer: i64;
    // SAFETY: the caller answers for the stack and the function; the new thread leaves this code
    // for `start` at once, the old one gets the answer with its registers kept by the kernel.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone => answer,
            in("rdi") flags,
            in("rsi") top,
            in("rdx") 0_u64,
            in("r10") 0_u64,
            in("r8") 0_u64,
            in("r12") start,
            in("r13") argument,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    answer
}

#[cfg(target_arch = "aarch64")]
unsafe fn spawn(flags: u64, top: u64, start: u64, argument: u64) -> i64 {
    let answer: i64;
    // SAFETY: the caller answers for the stack and the function; the new thread leaves this code
    // for `start` at once, the old one gets the answer with its registers kept by the kernel.
    unsafe {
        asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x10",
            "blr x9",
            "brk 1",
            "2:",
            in("x8") libc::SYS_clone,
            inlateout("x0") flags => answer,
            in("x1") top,
            in("x2") 0_u64,
            in("x3") 0_u64,
            in("x4") 0_u64,
            in("x9") start,
            in("x10") argument,
        );
    }
    answer
}
