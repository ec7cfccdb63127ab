//! Numbers of the kernel's interface that programs don't name themselves.

use crate::program::{Closeable, Context, FileSlot, Pipe, Ring};

const FILES: u64 = sys::puppet::FIRST_SLOT;
const CONTEXTS: u64 = FILES + 10;
const PIPES: u64 = FILES + 20;
const RINGS: u64 = FILES + 60;

/// The descriptor of a file.
pub(super) fn file(slot: FileSlot) -> u64 {
    FILES + u64::from(slot.0)
}

/// The descriptor of a userfaultfd.
pub(super) fn context(slot: Context) -> u64 {
    CONTEXTS + u64::from(slot.0)
}

/// The descriptors of a pipe: reading, writing.
pub(super) fn pipe(slot: Pipe) -> (u64, u64) {
    let first = PIPES + 2 * u64::from(slot.0);
    (first, first + 1)
}

/// The descriptor of a ring.
pub(super) fn ring(slot: Ring) -> u64 {
    RINGS + u64::from(slot.0)
}

/// The descriptors that something has.
pub(super) fn descriptors(what: Closeable) -> Vec<u64> {
    match what {
        Closeable::File(slot) => vec![file(slot)],
        Closeable::Context(slot) => vec![context(slot)],
        Closeable::Pipe(slot) => vec![pipe(slot).0, pipe(slot).1],
        Closeable::Ring(slot) => vec![ring(slot)],
    }
}

pub(super) const O_NONBLOCK: u64 = 0x800;
pub(super) const F_ADD_SEALS: u64 = 1033;

/// The userfaultfd's ioctls.
pub(super) mod uffdio {
    pub(in crate::kernel) const API: u64 = 0xC018_AA3F;
    pub(in crate::kernel) const REGISTER: u64 = 0xC020_AA00;
    pub(in crate::kernel) const UNREGISTER: u64 = 0x8010_AA01;
    pub(in crate::kernel) const WAKE: u64 = 0x8010_AA02;
    pub(in crate::kernel) const COPY: u64 = 0xC028_AA03;
    pub(in crate::kernel) const ZEROPAGE: u64 = 0xC020_AA04;
    pub(in crate::kernel) const MOVE: u64 = 0xC028_AA05;
    pub(in crate::kernel) const WRITEPROTECT: u64 = 0xC018_AA06;
    pub(in crate::kernel) const CONTINUE: u64 = 0xC020_AA07;
    pub(in crate::kernel) const POISON: u64 = 0xC020_AA08;
    pub(in crate::kernel) const RWPROTECT: u64 = 0xC018_AA09;
    pub(in crate::kernel) const SET_MODE: u64 = 0xC010_AA0A;
}

/// `PAGEMAP_SCAN`.
pub(super) const PAGEMAP_SCAN: u64 = 0xC060_6610;
/// The descriptor that every lane has of its own pagemap.
pub(super) const PAGEMAP: u64 = 10;

/// The kinds of a userfaultfd's events.
pub(super) mod event {
    pub(in crate::kernel) const PAGEFAULT: u64 = 0x12;
    pub(in crate::kernel) const FORK: u64 = 0x13;
    pub(in crate::kernel) const REMAP: u64 = 0x14;
    pub(in crate::kernel) const REMOVE: u64 = 0x15;
    pub(in crate::kernel) const UNMAP: u64 = 0x16;
}
