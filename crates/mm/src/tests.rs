//! Tests of the model as a whole: what programs see.

use super::*;
use crate::uapi::{madv, map, mremap, prot};

const PAGE: u64 = 4096;
const BASE: u64 = 0x10_0000_0000;
const RW: u64 = prot::READ | prot::WRITE;

pub(crate) fn machine() -> (Machine, Tid) {
    let mut machine = Machine::new(Profile::new(Kernel::V6_18, Arch::X86_64));
    let tid = machine.spawn();
    (machine, tid)
}

pub(crate) fn anon(machine: &mut Machine, tid: Tid, addr: u64, pages: u64, prot: u64) {
    let args = Mmap {
        addr,
        len: pages * PAGE,
        prot,
        flags: map::PRIVATE | map::ANONYMOUS | map::FIXED,
        fd: -1,
        offset: 0,
        choice: None,
    };
    assert_eq!(machine.mmap(tid, args), Ok(addr));
}

fn byte(machine: &mut Machine, tid: Tid, addr: u64) -> u8 {
    let mut buf = [0];
    machine.load(tid, addr, &mut buf).unwrap();
    buf[0]
}

fn bounds(machine: &Machine, tid: Tid) -> Vec<(u64, u64)> {
    let pid = machine.pid_of(tid).unwrap();
    let page = |addr: u64| (addr - BASE) / PAGE;
    machine
        .vmas(pid)
        .unwrap()
        .map(|vma| (page(vma.start), page(vma.end)))
        .collect()
}

#[test]
fn memory_keeps_what_is_stored() {
    let (mut machine, tid) = machine();
    anon(&mut machine, tid, BASE, 4, RW);
    assert_eq!(byte(&mut machine, tid, BASE), 0);
    machine.store(tid, BASE + PAGE - 1, &[1, 2]).unwrap();
    assert_eq!(byte(&mut machine, tid, BASE + PAGE), 2);
    machine.madvise(tid, BASE, PAGE, madv::DONTNEED).unwrap();
    assert_eq!(byte(&mut machine, tid, BASE + PAGE - 1), 0);
    machine.munmap(tid, BASE, 4 * PAGE).unwrap();
    let signal = Trap::Signal {
        signal: Signal::SegvMaperr,
        addr: BASE,
    };
    assert_eq!(machine.store(tid, BASE, &[1]), Err(signal));
    assert_eq!(machine.world.frames.in_use(), 1);
}

#[test]
fn a_fork_shares_until_somebody_writes() {
    let (mut machine, parent) = machine();
    anon(&mut machine, parent, BASE, 2, RW);
    machine.store(parent, BASE, &[1]).unwrap();
    let child = machine.fork(parent).unwrap();
    assert_eq!(machine.world.frames.in_use(), 2);
    machine.store(child, BASE, &[2]).unwrap();
    assert_eq!(machine.world.frames.in_use(), 3);
    assert_eq!(byte(&mut machine, parent, BASE), 1);
    machine.exit(child).unwrap();
    machine.store(parent, BASE, &[3]).unwrap();
    assert_eq!(machine.world.frames.in_use(), 2);
    machine.exit(parent).unwrap();
    assert_eq!(machine.world.frames.in_use(), 1);
    assert!(machine.world.anon_vmas.is_empty());
}

#[test]
fn shared_memory_is_shared() {
    let (mut machine, parent) = machine();
    let args = Mmap {
        addr: BASE,
        len: 2 * PAGE,
        prot: RW,
        flags: map::SHARED | map::ANONYMOUS | map::FIXED,
        fd: -1,
        offset: 0,
        choice: None,
    };
    machine.mmap(parent, args).unwrap();
    let child = machine.fork(parent).unwrap();
    machine.store(child, BASE, &[7]).unwrap();
    assert_eq!(byte(&mut machine, parent, BASE), 7);
    machine.exit(parent).unwrap();
    machine.exit(child).unwrap();
    assert_eq!(machine.world.frames.in_use(), 1);
}

#[test]
fn protection_is_checked_and_restored() {
    let (mut machine, tid) = machine();
    anon(&mut machine, tid, BASE, 3, RW);
    machine.store(tid, BASE + PAGE, &[5]).unwrap();
    machine
        .mprotect(tid, BASE + PAGE, PAGE, prot::READ)
        .unwrap();
    assert_eq!(bounds(&machine, tid), [(0, 1), (1, 2), (2, 3)]);
    let signal = Trap::Signal {
        signal: Signal::SegvAccerr,
        addr: BASE + PAGE,
    };
    assert_eq!(machine.store(tid, BASE + PAGE, &[1]), Err(signal));
    assert_eq!(byte(&mut machine, tid, BASE + PAGE), 5);
    machine.mprotect(tid, BASE + PAGE, PAGE, RW).unwrap();
    assert_eq!(bounds(&machine, tid), [(0, 3)]);
    machine.store(tid, BASE + PAGE, &[6]).unwrap();
    assert_eq!(
        machine.mprotect(tid, BASE, 8 * PAGE, prot::READ),
        Err(Errno::ENOMEM)
    );
    assert_eq!(bounds(&machine, tid), [(0, 3)]);
}

#[test]
fn a_never_written_mapping_does_not_join_one_that_was_writable() {
    let (mut machine, tid) = machine();
    anon(&mut machine, tid, BASE, 1, RW);
    machine.store(tid, BASE, &[1]).unwrap();
    machine.mprotect(tid, BASE, PAGE, prot::READ).unwrap();
    anon(&mut machine, tid, BASE + PAGE, 1, prot::READ);
    assert_eq!(bounds(&machine, tid), [(0, 1), (1, 2)]);
}

#[test]
fn guards_trap_and_go() {
    let (mut machine, tid) = machine();
    anon(&mut machine, tid, BASE, 2, RW);
    machine.store(tid, BASE, &[1]).unwrap();
    machine
        .madvise(tid, BASE, PAGE, madv::GUARD_INSTALL)
        .unwrap();
    let signal = Trap::Signal {
        signal: Signal::SegvMaperr,
        addr: BASE,
    };
    assert_eq!(machine.store(tid, BASE, &[1]), Err(signal));
    let mut words = [0; 2];
    machine
        .pagemap(machine.pid_of(tid).unwrap(), BASE, &mut words)
        .unwrap();
    assert_eq!(words, [1 << 62 | 1 << 58 | 1 << 55, 1 << 55]);
    machine
        .madvise(tid, BASE, PAGE, madv::GUARD_REMOVE)
        .unwrap();
    assert_eq!(byte(&mut machine, tid, BASE), 0);
}

fn remap(machine: &mut Machine, tid: Tid, old: u64, len: u64, flags: u64, new: u64) -> u64 {
    let args = Mremap {
        old: BASE + old * PAGE,
        old_len: len * PAGE,
        new_len: len * PAGE,
        flags: flags | mremap::MAYMOVE | mremap::FIXED,
        new: BASE + new * PAGE,
        choice: None,
    };
    machine.mremap(tid, args).unwrap()
}

#[test]
fn a_moved_mapping_joins_where_its_offsets_fit() {
    let (mut machine, tid) = machine();
    anon(&mut machine, tid, BASE, 4, RW);
    remap(&mut machine, tid, 2, 2, 0, 10);
    assert_eq!(bounds(&machine, tid), [(0, 2), (10, 12)]);
    // Nothing was touched: the offsets of the new place count, so it fits anywhere.
    remap(&mut machine, tid, 10, 2, 0, 2);
    assert_eq!(bounds(&machine, tid), [(0, 4)]);
    machine.store(tid, BASE + 3 * PAGE, &[3]).unwrap();
    remap(&mut machine, tid, 2, 2, 0, 10);
    remap(&mut machine, tid, 10, 2, 0, 2);
    assert_eq!(bounds(&machine, tid), [(0, 4)], "back at its offset");
    remap(&mut machine, tid, 2, 2, 0, 4);
    assert_eq!(bounds(&machine, tid), [(0, 2), (4, 6)]);
    anon(&mut machine, tid, BASE + 2 * PAGE, 2, RW);
    assert_eq!(
        bounds(&machine, tid),
        [(0, 4), (4, 6)],
        "moved pages keep their offset"
    );
    assert_eq!(byte(&mut machine, tid, BASE + 5 * PAGE), 3);
    machine.check().unwrap();
}

#[test]
fn what_dontunmap_leaves_is_empty() {
    let (mut machine, tid) = machine();
    anon(&mut machine, tid, BASE, 2, RW);
    machine.store(tid, BASE, &[3]).unwrap();
    remap(&mut machine, tid, 0, 2, mremap::DONTUNMAP, 8);
    assert_eq!(bounds(&machine, tid), [(0, 2), (8, 10)]);
    assert_eq!(byte(&mut machine, tid, BASE), 0);
    assert_eq!(byte(&mut machine, tid, BASE + 8 * PAGE), 3);
    machine.check().unwrap();
}

#[test]
fn a_mapping_grows_in_place_where_it_can() {
    let (mut machine, tid) = machine();
    anon(&mut machine, tid, BASE, 2, RW);
    anon(&mut machine, tid, BASE + 4 * PAGE, 1, RW);
    let grow = |to: u64, flags: u64| Mremap {
        old: BASE,
        old_len: 2 * PAGE,
        new_len: to * PAGE,
        flags,
        new: 0,
        choice: Some(BASE + 16 * PAGE),
    };
    assert_eq!(machine.mremap(tid, grow(5, 0)), Err(Errno::ENOMEM.into()));
    assert_eq!(machine.mremap(tid, grow(4, 0)), Ok(BASE));
    assert_eq!(
        bounds(&machine, tid),
        [(0, 5)],
        "it touches the next one now"
    );
    let moved = machine.mremap(tid, grow(8, mremap::MAYMOVE));
    assert_eq!(moved, Ok(BASE + 16 * PAGE));
    assert_eq!(bounds(&machine, tid), [(2, 5), (16, 24)]);
}

#[test]
fn families_do_not_join_after_a_fork() {
    let (mut machine, parent) = machine();
    anon(&mut machine, parent, BASE, 1, RW);
    machine.store(parent, BASE, &[1]).unwrap();
    let child = machine.fork(parent).unwrap();
    anon(&mut machine, parent, BASE + PAGE, 1, RW);
    assert_eq!(bounds(&machine, parent), [(0, 2)]);
    anon(&mut machine, child, BASE + PAGE, 1, RW);
    assert_eq!(bounds(&machine, child), [(0, 1), (1, 2)]);
    machine.check().unwrap();
}

#[test]
fn locked_memory_is_filled_and_kept() {
    let (mut machine, tid) = machine();
    anon(&mut machine, tid, BASE, 4, RW);
    machine.mlock(tid, BASE + 1, PAGE, 0).unwrap();
    assert_eq!(bounds(&machine, tid), [(0, 2), (2, 4)]);
    assert_eq!(machine.mincore(tid, BASE, 4 * PAGE).unwrap(), [1, 1, 0, 0]);
    let refused = machine.madvise(tid, BASE, PAGE, madv::DONTNEED);
    assert_eq!(refused, Err(Errno::EINVAL.into()));
    machine.munlock(tid, BASE, 4 * PAGE).unwrap();
    assert_eq!(bounds(&machine, tid), [(0, 4)]);
    assert_eq!(
        machine.mlock(tid, BASE, 8 * PAGE, 0),
        Err(Errno::ENOMEM.into())
    );
}

#[test]
fn a_stack_grows_down_to_where_it_is_touched() {
    let (mut machine, tid) = machine();
    let args = Mmap {
        addr: BASE + 8 * PAGE,
        len: PAGE,
        prot: RW,
        flags: map::PRIVATE | map::ANONYMOUS | map::FIXED | map::GROWSDOWN,
        fd: -1,
        offset: 0,
        choice: None,
    };
    machine.mmap(tid, args).unwrap();
    machine.store(tid, BASE + 5 * PAGE, &[1]).unwrap();
    assert_eq!(bounds(&machine, tid), [(5, 9)]);
    anon(&mut machine, tid, BASE, 1, RW);
    let signal = Trap::Signal {
        signal: Signal::SegvMaperr,
        addr: BASE + 4 * PAGE,
    };
    assert_eq!(
        machine.store(tid, BASE + 4 * PAGE, &[1]),
        Err(signal),
        "a gap stays free"
    );
}

proptest::proptest! {
    /// Whatever a family of processes does, the books balance, and in the end nothing is left.
    #[test]
    fn the_books_balance(steps in proptest::collection::vec(
        (0..4_usize, 0..12_u8, 0..24_u64, 1..8_u64, 0..24_u64), 1..60,
    )) {
        let (mut machine, tid) = machine();
        let mut tids = vec![tid];
        for (who, what, at, len, to) in steps {
            let tid = tids[who % tids.len()];
            let (addr, bytes) = (BASE + at * PAGE, len * PAGE);
            let shared = if to % 3 == 0 { map::SHARED } else { map::PRIVATE };
            match what {
                0 | 1 => {
                    let flags = shared | map::ANONYMOUS | map::FIXED;
                    let prot = if to % 4 == 1 { prot::READ } else { RW };
                    let args = Mmap {
                        addr, len: bytes, prot, flags, fd: -1, offset: 0, choice: None,
                    };
                    machine.mmap(tid, args).unwrap();
                }
                2 => drop(machine.munmap(tid, addr, bytes)),
                3 => drop(machine.mprotect(tid, addr, bytes, to % 4)),
                4 | 5 => drop(machine.store(tid, addr + 7, &[1, 2, 3])),
                6 => drop(machine.load(tid, addr, &mut [0; 9])),
                7 if tids.len() < 4 => tids.push(machine.fork(tid).unwrap()),
                7 | 8 => drop(machine.mremap(tid, Mremap {
                    old: addr,
                    old_len: bytes,
                    new_len: if to % 2 == 0 { bytes } else { to * PAGE },
                    flags: mremap::MAYMOVE | (to % 3 * 2),
                    new: BASE + to * PAGE,
                    choice: Some(BASE + 64 * PAGE + to * 64 * PAGE)
                        .filter(|&at| machine.mincore(tid, at, PAGE).is_err()),
                })),
                9 => drop(machine.madvise(tid, addr, bytes, madv::DONTNEED)),
                10 => drop(machine.madvise(tid, addr, bytes, madv::GUARD_INSTALL)),
                _ => drop(machine.mlock(tid, addr, bytes, to % 2)),
            }
            proptest::prop_assert_eq!(machine.check(), Ok(()));
        }
        for tid in tids {
            machine.exit(tid).unwrap();
        }
        proptest::prop_assert_eq!(machine.check(), Ok(()));
        proptest::prop_assert_eq!(machine.world.frames.in_use(), 1);
        proptest::prop_assert!(machine.world.anon_vmas.is_empty());
    }
}
