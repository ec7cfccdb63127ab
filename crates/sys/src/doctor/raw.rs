//! System calls that only probes need, and the child that they are tried on.
#![expect(unsafe_code, reason = "system calls")]

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use space::Errno;

use crate::raw::check;
use crate::raw::process::descriptor;
use crate::raw::scratch::ScratchPages;

/// `USERFAULTFD_IOC_NEW` on `/dev/userfaultfd`.
pub(super) fn userfaultfd_of_device(device: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    const USERFAULTFD_IOC_NEW: libc::Ioctl = 0xAA00;
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
    // SAFETY: `device` is open; the call takes numbers only.
    descriptor(unsafe { libc::ioctl(device.as_raw_fd(), USERFAULTFD_IOC_NEW, flags) }.into())
}

/// `io_uring_setup` with one entry.
pub(super) fn io_uring() -> Result<OwnedFd, Errno> {
    /// Bytes of a `struct io_uring_params`.
    const PARAMS: usize = 120;
    let mut params = [0_u64; PARAMS / size_of::<u64>()];
    // SAFETY: the kernel reads and writes a `struct io_uring_params`, which has 120 bytes.
    descriptor(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, params.as_mut_ptr()) })
}

/// What a probe's child may be asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Order {
    /// Write to the scratch page.
    Write = b'w',
    /// Install a filter that refuses `getppid` with EPERM.
    Filter = b'f',
    /// Call `getppid`.
    Call = b'c',
}

/// The ends of the pipes between a probe and its child.
#[derive(Clone, Copy)]
pub(super) struct Ends<'a> {
    /// Where the child reads orders.
    pub(super) orders: BorrowedFd<'a>,
    /// Where the child writes answers: 0, or an error number.
    pub(super) answers: BorrowedFd<'a>,
    /// The other end of `orders`, which the child closes.
    pub(super) order_writer: BorrowedFd<'a>,
}

/// Makes a child that waits for orders, and ends with this thread or when the orders end.
///
/// It has no exit signal, so that the program we are part of learns nothing of it: no SIGCHLD,
/// and no `wait` but one with `__WALL` or `__WCLONE` finds it.
pub(super) fn spawn(ends: Ends<'_>, scratch: &ScratchPages) -> Result<u32, Errno> {
    let mask = block_signals();
    let parent = std::process::id();
    // SAFETY: 1. without flags and stack this is `fork`. 2. the child calls `serve` only, which
    // makes bare system calls and touches the scratch page, so that a lock held by another
    // thread of ours at this instant does not matter.
    let answer = unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) };
    if answer == 0 {
        serve(ends, scratch, parent);
    }
    let child = check(answer);
    restore_signals(&mask);
    Ok(u32::try_from(child?).expect("process ids fit"))
}

/// Blocks all signals of this thread, so that no handler runs in the child.
fn block_signals() -> libc::sigset_t {
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let mut old = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: it fills in the set.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: both sets are ours; `all` was filled in.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr()) };
    // SAFETY: the call before filled it in: it fails only for an unknown operation.
    unsafe { old.assume_init() }
}

fn restore_signals(mask: &libc::sigset_t) {
    // SAFETY: the set is one that the kernel gave us.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, std::ptr::null_mut()) };
}

/// A bare system call in the child. Returns 0 or an error number.
fn call(number: libc::c_long, arguments: [libc::c_long; 5]) -> libc::c_long {
    let [a, b, c, d, e] = arguments;
    // SAFETY: only `serve` and `install_filter` come here, in the child, whose memory is a copy:
    // the numbers they pass are descriptors, or addresses of live variables of the right size.
    unsafe { libc::syscall(number, a, b, c, d, e) }
}

fn address<T>(value: *const T) -> libc::c_long {
    libc::c_long::try_from(value.expose_provenance()).unwrap_or(0)
}

/// The child's whole life.
fn serve(ends: Ends<'_>, scratch: &ScratchPages, parent: u32) -> ! {
    let number = |fd: BorrowedFd<'_>| libc::c_long::from(fd.as_raw_fd());
    let kill = libc::c_long::from(libc::SIGKILL);
    call(
        libc::SYS_prctl,
        [libc::PR_SET_PDEATHSIG.into(), kill, 0, 0, 0],
    );
    // Its parent may have ended just before that.
    let orphan = call(libc::SYS_getppid, [0; 5]) != libc::c_long::from(parent);
    call(libc::SYS_close, [number(ends.order_writer), 0, 0, 0, 0]);
    let mut order = 0_u8;
    let mut value = 0_u8;
    while !orphan
        && call(
            libc::SYS_read,
            [number(ends.orders), address(&raw mut order), 1, 0, 0],
        ) == 1
    {
        let answer = if order == Order::Write as u8 {
            value = value.wrapping_add(1);
            scratch.write(0, value);
            0_u8
        } else if order == Order::Filter as u8 {
            u8::from(install_filter() != 0)
        } else {
            u8::from(call(libc::SYS_getppid, [0; 5]) < 0)
        };
        let at = address(&raw const answer);
        call(libc::SYS_write, [number(ends.answers), at, 1, 0, 0]);
    }
    loop {
        call(libc::SYS_exit_group, [0; 5]);
    }
}

/// Refuses `getppid` with EPERM and allows all else; in the child.
fn install_filter() -> libc::c_long {
    const LOAD: u16 = 0x20;
    const JUMP_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const REFUSE: u32 = 0x0005_0001;
    let step = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let getppid = u32::try_from(libc::SYS_getppid).unwrap_or(u32::MAX);
    let mut program = [
        step(LOAD, 0, 0),
        step(JUMP_EQUAL, 1, getppid),
        step(RETURN, 0, REFUSE),
        step(RETURN, 0, ALLOW),
    ];
    let filter = libc::sock_fprog {
        len: 4,
        filter: program.as_mut_ptr(),
    };
    let mode = libc::c_long::from(libc::SECCOMP_MODE_FILTER);
    call(
        libc::SYS_prctl,
        [libc::PR_SET_NO_NEW_PRIVS.into(), 1, 0, 0, 0],
    );
    call(
        libc::SYS_prctl,
        [
            libc::PR_SET_SECCOMP.into(),
            mode,
            address(&raw const filter),
            0,
            0,
        ],
    )
}
