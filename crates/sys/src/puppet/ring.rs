//! An io_uring with one entry, for its fixed buffers: pins as programs make them.
//!
//! The rings are mapped for each transfer anew, so that nothing but the parameters has to be
//! remembered.
#![expect(unsafe_code, reason = "io_uring without a library")]

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, Ordering};

use super::FIRST_SLOT;
use super::call::call;

/// Words of a `struct io_uring_params`.
const PARAMS: usize = 30;
const SLOTS: usize = 128;

struct Known(UnsafeCell<[[u32; PARAMS]; SLOTS]>);

// SAFETY: only the thread that runs a command touches this, and the tool has one lane of a
// process carry out ring commands at a time.
unsafe impl Sync for Known {}

/// The parameters of each ring by its descriptor; private to each process.
static KNOWN: Known = Known(UnsafeCell::new([[0; PARAMS]; SLOTS]));

/// Words of `struct io_uring_params` by name.
mod word {
    pub(super) const SQ_ENTRIES: usize = 0;
    pub(super) const CQ_ENTRIES: usize = 1;
    pub(super) const SQ_TAIL: usize = 11;
    pub(super) const SQ_MASK: usize = 12;
    pub(super) const SQ_ARRAY: usize = 16;
    pub(super) const CQ_HEAD: usize = 20;
    pub(super) const CQ_MASK: usize = 22;
    pub(super) const CQ_CQES: usize = 25;
}

const EINVAL: i64 = -22;
const SQE_LEN: u64 = 64;
const OFFSET_RING: u64 = 0;
const OFFSET_SQES: u64 = 0x1000_0000;
const REGISTER_BUFFERS: u64 = 0;
const UNREGISTER_BUFFERS: u64 = 1;
const ENTER_GETEVENTS: u64 = 1;
const OP_READ_FIXED: u8 = 4;
const OP_WRITE_FIXED: u8 = 5;

fn slot(fd: u64) -> Option<usize> {
    let slot = usize::try_from(fd.checked_sub(FIRST_SLOT)?).ok()?;
    (slot < SLOTS).then_some(slot)
}

fn known(slot: usize) -> [u32; PARAMS] {
    // SAFETY: 1. the slot was checked. 2. nobody writes meanwhile, as `Known` says.
    unsafe { (*KNOWN.0.get())[slot] }
}

/// Makes a ring whose descriptor is `fd`.
pub(super) fn make(fd: u64) -> i64 {
    let Some(slot) = slot(fd) else { return EINVAL };
    let mut params = [0_u32; PARAMS];
    let address = (&raw mut params).expose_provenance() as u64;
    // SAFETY: the kernel reads and writes a `struct io_uring_params`, which has 120 bytes.
    let made = unsafe { call(libc::SYS_io_uring_setup, [1, address, 0, 0, 0, 0]) };
    if made < 0 {
        return made;
    }
    // SAFETY: 1. the slot was checked. 2. nobody reads meanwhile, as `Known` says.
    unsafe { (*KNOWN.0.get())[slot] = params };
    // SAFETY: both are numbers of descriptors; slots belong to programs.
    let moved = unsafe { call(libc::SYS_dup3, [made.cast_unsigned(), fd, 0, 0, 0, 0]) };
    // SAFETY: the descriptor is the one that was just made.
    unsafe { call(libc::SYS_close, [made.cast_unsigned(), 0, 0, 0, 0, 0]) };
    moved.min(0)
}

/// Registers one fixed buffer.
pub(super) fn pin(fd: u64, address: u64, len: u64) -> i64 {
    let vector = [address, len];
    let at = (&raw const vector).expose_provenance() as u64;
    // SAFETY: 1. the kernel reads one `iovec`. 2. the memory it names is a program's.
    unsafe {
        call(
            libc::SYS_io_uring_register,
            [fd, REGISTER_BUFFERS, at, 1, 0, 0],
        )
    }
}

/// Drops the fixed buffers.
pub(super) fn unpin(fd: u64) -> i64 {
    // SAFETY: the call takes numbers only.
    unsafe {
        call(
            libc::SYS_io_uring_register,
            [fd, UNREGISTER_BUFFERS, 0, 0, 0, 0],
        )
    }
}

/// A transfer as the board has it.
pub(super) struct Move {
    pub(super) fd: u64,
    pub(super) file: u64,
    pub(super) offset: u64,
    pub(super) address: u64,
    pub(super) len: u64,
    pub(super) write: bool,
}

/// Moves bytes between a file and the fixed buffer, and returns how many.
pub(super) fn transfer(wish: &Move) -> i64 {
    let Some(params) = slot(wish.fd).map(known) else {
        return EINVAL;
    };
    if params[word::SQ_ENTRIES] == 0 {
        return -i64::from(libc::EBADF);
    }
    let submissions = u64::from(params[word::SQ_ARRAY]) + u64::from(params[word::SQ_ENTRIES]) * 4;
    let completions = u64::from(params[word::CQ_CQES]) + u64::from(params[word::CQ_ENTRIES]) * 16;
    let ring_len = submissions.max(completions);
    let ring = map(wish.fd, OFFSET_RING, ring_len);
    if ring < 0 {
        return ring;
    }
    let entries_len = u64::from(params[word::SQ_ENTRIES]) * SQE_LEN;
    let entries = map(wish.fd, OFFSET_SQES, entries_len);
    let answer = if entries < 0 {
        entries
    } else {
        submit(wish, &params, ring.cast_unsigned(), entries.cast_unsigned())
    };
    unmap(ring, ring_len);
    unmap(entries, entries_len);
    answer
}

fn map(fd: u64, offset: u64, len: u64) -> i64 {
    let protection = u64::from((libc::PROT_READ | libc::PROT_WRITE).cast_unsigned());
    let flags = u64::from((libc::MAP_SHARED | libc::MAP_POPULATE).cast_unsigned());
    // SAFETY: a new mapping where the kernel chooses replaces nothing.
    unsafe { call(libc::SYS_mmap, [0, len, protection, flags, fd, offset]) }
}

fn unmap(start: i64, len: u64) {
    if start > 0 {
        // SAFETY: the mapping is the one that `map` made, and nothing refers to it any more.
        unsafe { call(libc::SYS_munmap, [start.cast_unsigned(), len, 0, 0, 0, 0]) };
    }
}

/// Submits one entry, waits for it, and returns its result.
fn submit(wish: &Move, params: &[u32; PARAMS], ring: u64, entries: u64) -> i64 {
    let at = |base: u64, offset: u64| -> *mut u32 {
        let address = usize::try_from(base + offset).unwrap_or(0);
        std::ptr::with_exposed_provenance_mut(address)
    };
    let atomic = |name: usize| {
        // SAFETY: the kernel's offsets lie inside the ring that was just mapped, aligned to four
        // bytes, and both sides access these words as atomics.
        unsafe { AtomicU32::from_ptr(at(ring, u64::from(params[name]))) }
    };
    let tail = atomic(word::SQ_TAIL).load(Ordering::Acquire);
    let index = tail & atomic(word::SQ_MASK).load(Ordering::Acquire);
    let code = if wish.write {
        OP_WRITE_FIXED
    } else {
        OP_READ_FIXED
    };
    let mut entry = [0_u64; 8];
    entry[0] = u64::from(code) | (wish.file << 32);
    entry[1] = wish.offset;
    entry[2] = wish.address;
    entry[3] = wish.len & 0xFFFF_FFFF;
    let place = at(entries, u64::from(index) * SQE_LEN).cast::<[u64; 8]>();
    // SAFETY: the index is masked to the entries that were just mapped; the kernel does not read
    // an entry that was not submitted.
    unsafe { place.write(entry) };
    let array = at(
        ring,
        u64::from(params[word::SQ_ARRAY]) + u64::from(index) * 4,
    );
    // SAFETY: as for the entry, in the ring's array.
    unsafe { array.write(index) };
    atomic(word::SQ_TAIL).store(tail.wrapping_add(1), Ordering::Release);
    // SAFETY: the entry names a file and a fixed buffer, which the kernel checks.
    let entered = unsafe {
        call(
            libc::SYS_io_uring_enter,
            [wish.fd, 1, 1, ENTER_GETEVENTS, 0, 0],
        )
    };
    if entered < 0 {
        return entered;
    }
    let head = atomic(word::CQ_HEAD).load(Ordering::Acquire);
    let index = head & atomic(word::CQ_MASK).load(Ordering::Acquire);
    let completion = u64::from(params[word::CQ_CQES]) + u64::from(index) * 16 + 8;
    // SAFETY: the index is masked to the completions that were just mapped, and the kernel has
    // written this one.
    let result = unsafe { at(ring, completion).read() };
    atomic(word::CQ_HEAD).store(head.wrapping_add(1), Ordering::Release);
    i64::from(result.cast_signed())
}
