//! `ptrace(2)`. All of it must be called on the thread that seized the task.
#![expect(unsafe_code, reason = "system calls")]

use space::Errno;

use super::check;

/// A classic BPF instruction, `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SockFilter {
    pub(crate) code: u16,
    pub(crate) jt: u8,
    pub(crate) jf: u8,
    pub(crate) k: u32,
}

/// `struct ptrace_rseq_configuration`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RseqConfiguration {
    pub(crate) pointer: u64,
    pub(crate) size: u32,
    pub(crate) signature: u32,
    pub(crate) flags: u32,
    pub(crate) pad: u32,
}

/// `struct ptrace_peeksiginfo_args`.
#[repr(C)]
struct PeekSiginfo {
    offset: u64,
    flags: u32,
    count: i32,
}

/// The same number on x86_64 and on arm64.
const PTRACE_SYSEMU: libc::c_uint = 31;
const PTRACE_PEEKSIGINFO: libc::c_uint = 0x4209;
const PTRACE_GETSIGMASK: libc::c_uint = 0x420a;
const PTRACE_SETSIGMASK: libc::c_uint = 0x420b;
const PTRACE_SECCOMP_GET_FILTER: libc::c_uint = 0x420c;
const PTRACE_GET_RSEQ_CONFIGURATION: libc::c_uint = 0x420f;
const PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG: libc::c_uint = 0x4211;
/// Bytes of a `siginfo_t`.
pub(crate) const SIGINFO_SIZE: usize = 128;

/// A request whose address and data are plain numbers.
fn request(request: libc::c_uint, tid: u32, address: u64, data: u64) -> Result<u64, Errno> {
    // SAFETY: the requests that come here take numbers, not addresses of our memory.
    check(unsafe { libc::ptrace(request, tid.cast_signed(), address, data) })
}

/// A request that reads to or writes from `data`, whose size the kernel knows or finds in
/// `address`.
///
/// # Safety
///
/// `data` must be valid for what `request` reads or writes there, given `address`.
unsafe fn request_at<T>(
    request: libc::c_uint,
    tid: u32,
    address: u64,
    data: *mut T,
) -> Result<u64, Errno> {
    // SAFETY: the caller vouches for `data`.
    check(unsafe { libc::ptrace(request, tid.cast_signed(), address, data) })
}

/// Attaches without stopping.
pub(crate) fn seize(tid: u32) -> Result<(), Errno> {
    request(libc::PTRACE_SEIZE, tid, 0, 0).map(drop)
}

/// Asks a seized task to stop.
pub(crate) fn interrupt(tid: u32) -> Result<(), Errno> {
    request(libc::PTRACE_INTERRUPT, tid, 0, 0).map(drop)
}

/// Lets a stopped task go, with `signal` delivered (0 for none).
pub(crate) fn detach(tid: u32, signal: i32) -> Result<(), Errno> {
    request(
        libc::PTRACE_DETACH,
        tid,
        0,
        u64::from(signal.unsigned_abs()),
    )
    .map(drop)
}

/// Lets a stopped task run until it stops again for a signal or an event.
pub(crate) fn cont(tid: u32) -> Result<(), Errno> {
    request(libc::PTRACE_CONT, tid, 0, 0).map(drop)
}

/// Lets a stopped task run to the next entry to or exit from a system call.
pub(crate) fn syscall(tid: u32) -> Result<(), Errno> {
    request(libc::PTRACE_SYSCALL, tid, 0, 0).map(drop)
}

/// Lets a stopped task run to the next entry to a system call, which is then not carried out.
pub(crate) fn syscall_without_effect(tid: u32) -> Result<(), Errno> {
    request(PTRACE_SYSEMU, tid, 0, 0).map(drop)
}

/// Sets `PTRACE_O_*`.
pub(crate) fn set_options(tid: u32, options: i32) -> Result<(), Errno> {
    request(
        libc::PTRACE_SETOPTIONS,
        tid,
        0,
        u64::from(options.unsigned_abs()),
    )
    .map(drop)
}

/// Returns the message of the last event: for `PTRACE_EVENT_CLONE`, the new task's id.
pub(crate) fn event_message(tid: u32) -> Result<u64, Errno> {
    let mut message = 0_u64;
    // SAFETY: the kernel writes one `unsigned long`.
    unsafe { request_at(libc::PTRACE_GETEVENTMSG, tid, 0, &raw mut message) }?;
    Ok(message)
}

/// Reads register set `note` into `buf`, and returns how many bytes it has.
pub(crate) fn get_regset(tid: u32, note: u32, buf: &mut [u8]) -> Result<usize, Errno> {
    let mut iov = libc::iovec {
        iov_base: buf.as_mut_ptr().cast(),
        iov_len: buf.len(),
    };
    // SAFETY: the kernel writes at most `iov_len` bytes to `iov_base`, and updates `iov`.
    unsafe { request_at(libc::PTRACE_GETREGSET, tid, u64::from(note), &raw mut iov) }?;
    Ok(iov.iov_len)
}

/// Writes register set `note`.
pub(crate) fn set_regset(tid: u32, note: u32, bytes: &[u8]) -> Result<(), Errno> {
    let mut iov = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: the kernel reads at most `iov_len` bytes from `iov_base`, and updates `iov`.
    unsafe { request_at(libc::PTRACE_SETREGSET, tid, u64::from(note), &raw mut iov) }.map(drop)
}

/// Reads the `siginfo_t` of the signal that a task is stopped with.
pub(crate) fn siginfo(tid: u32) -> Result<[u8; SIGINFO_SIZE], Errno> {
    let mut info = [0_u8; SIGINFO_SIZE];
    // SAFETY: the kernel writes one `siginfo_t`, which has 128 bytes.
    unsafe { request_at(libc::PTRACE_GETSIGINFO, tid, 0, info.as_mut_ptr()) }?;
    Ok(info)
}

/// Reads up to `infos.len()` signals pending for the task alone, and returns how many there are.
pub(crate) fn pending(tid: u32, infos: &mut [[u8; SIGINFO_SIZE]]) -> Result<usize, Errno> {
    let count = i32::try_from(infos.len()).expect("a short array");
    let args = PeekSiginfo {
        offset: 0,
        flags: 0,
        count,
    };
    // SAFETY: 1. the kernel reads one `ptrace_peeksiginfo_args` at the address, which `args` is.
    // 2. it writes at most `count` entries of 128 bytes, which `infos` holds.
    let filled = check(unsafe {
        libc::ptrace(
            PTRACE_PEEKSIGINFO,
            tid.cast_signed(),
            &raw const args,
            infos.as_mut_ptr(),
        )
    })?;
    Ok(usize::try_from(filled).expect("no more than asked"))
}

/// Returns the signals that the task has blocked; where it waits with another mask for the time
/// of a call, the one that it has outside.
pub(crate) fn signal_mask(tid: u32) -> Result<u64, Errno> {
    let mut mask = 0_u64;
    // SAFETY: the kernel writes 8 bytes, as many as the address argument says.
    unsafe { request_at(PTRACE_GETSIGMASK, tid, 8, &raw mut mask) }?;
    Ok(mask)
}

/// Sets the signals that the task has blocked.
pub(crate) fn set_signal_mask(tid: u32, mut mask: u64) -> Result<(), Errno> {
    // SAFETY: the kernel reads 8 bytes, as many as the address argument says.
    unsafe { request_at(PTRACE_SETSIGMASK, tid, 8, &raw mut mask) }.map(drop)
}

/// Reads the task's seccomp filter number `index` (0 is the newest); `ENOENT` past the last.
/// Needs `CAP_SYS_ADMIN`.
pub(crate) fn seccomp_filter(tid: u32, index: u64) -> Result<Vec<SockFilter>, Errno> {
    let count = request(PTRACE_SECCOMP_GET_FILTER, tid, index, 0)?;
    let count = usize::try_from(count).expect("a filter has at most 4096 instructions");
    let mut program = vec![SockFilter::default(); count];
    // SAFETY: a filter never changes once installed, so the kernel writes `count` instructions.
    unsafe { request_at(PTRACE_SECCOMP_GET_FILTER, tid, index, program.as_mut_ptr()) }?;
    Ok(program)
}

/// Reads where the task's restartable sequences are registered (Linux 5.13).
pub(crate) fn rseq(tid: u32) -> Result<RseqConfiguration, Errno> {
    let mut rseq = RseqConfiguration::default();
    let size = size_of::<RseqConfiguration>() as u64;
    // SAFETY: the kernel writes at most `size` bytes.
    unsafe { request_at(PTRACE_GET_RSEQ_CONFIGURATION, tid, size, &raw mut rseq) }?;
    Ok(rseq)
}

/// Tells whether system calls of the task are dispatched to itself, as Wine does (Linux 6.4).
pub(crate) fn dispatches_calls(tid: u32) -> Result<bool, Errno> {
    let mut config = [0_u64; 4];
    let size = size_of_val(&config) as u64;
    // SAFETY: the kernel writes a `ptrace_sud_config`, which has 32 bytes.
    unsafe {
        request_at(
            PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG,
            tid,
            size,
            config.as_mut_ptr(),
        )
    }?;
    Ok(config[0] != 0)
}
