//! Memory that every process of the model has beside the arena: pages of known bytes to copy from,
//! and room for what a program shows without mapping it. It is made when it is first needed.

use mm::{Machine, Mmap, Tid, Trap};

/// Where the runs of known bytes begin, one behind the other.
const PATTERNS: u64 = 0x20_0000_0000;
/// How long a run is.
const PATTERN_LEN: u64 = 2 << 20;
/// Where the room is.
pub(super) const SCRATCH: u64 = 0x30_0000_0000;
/// How long it is.
const SCRATCH_LEN: u64 = 1 << 20;

/// The address of the run of a byte.
pub(super) fn pattern(byte: u8) -> u64 {
    let known = sys::puppet::PATTERNS
        .iter()
        .position(|known| *known == byte);
    PATTERNS + known.unwrap_or(0) as u64 * PATTERN_LEN
}

/// Sees to it that `len` bytes of a run can be read.
pub(super) fn prepare_pattern(machine: &mut Machine, tid: Tid, byte: u8, len: u64, page: u64) {
    let start = pattern(byte);
    let bytes = vec![byte; usize::try_from(page).unwrap_or(0)];
    let pages = len.min(PATTERN_LEN).div_ceil(page);
    for index in 0..pages {
        let at = start + index * page;
        if machine.load(tid, at, &mut [0]).is_err() {
            map(machine, tid, start, PATTERN_LEN);
        }
        let mut first = [0];
        let loaded = machine.load(tid, at, &mut first);
        if loaded.is_ok() && first != [byte] {
            _ = machine.store(tid, at, &bytes);
        }
    }
}

/// Sees to it that the room is there.
pub(super) fn prepare_scratch(machine: &mut Machine, tid: Tid) {
    if machine.load(tid, SCRATCH, &mut [0]).is_err() {
        map(machine, tid, SCRATCH, SCRATCH_LEN);
    }
}

/// Reads from the room.
pub(super) fn scratch(machine: &mut Machine, tid: Tid, len: u64) -> Result<Vec<u8>, Trap> {
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    machine.load(tid, SCRATCH, &mut bytes)?;
    Ok(bytes)
}

fn map(machine: &mut Machine, tid: Tid, start: u64, len: u64) {
    const PRIVATE_FIXED_ANON: u64 = 0x32;
    let args = Mmap {
        addr: start,
        len,
        prot: 3,
        flags: PRIVATE_FIXED_ANON,
        fd: -1,
        offset: 0,
        choice: None,
    };
    let mapped = machine.mmap(tid, args);
    debug_assert!(mapped.is_ok(), "there is room outside the arena");
}
