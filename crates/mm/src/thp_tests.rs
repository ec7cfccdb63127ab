//! Tests of transparent huge pages.

use ::space::Errno;

use super::tests::{anon, machine};
use super::{Machine, Mremap, Tid};
use crate::uapi::{madv, mremap, prot};

const PAGE: u64 = 4096;
const HUGE: u64 = 2 << 20;
const BASE: u64 = 0x10_0000_0000;
const RW: u64 = prot::READ | prot::WRITE;

fn frame(machine: &Machine, tid: Tid, addr: u64) -> u64 {
    let mut words = [0];
    let pid = machine.pid_of(tid).unwrap();
    machine.pagemap(pid, addr, &mut words).unwrap();
    words[0] & ((1 << 55) - 1)
}

fn is_huge(machine: &Machine, tid: Tid, addr: u64) -> bool {
    let process = machine.process(machine.pid_of(tid).unwrap()).unwrap();
    process.mm.tables.lookup(addr).0.level == 1
}

fn advised(machine: &mut Machine, tid: Tid, huge: u64) {
    anon(machine, tid, BASE, huge * HUGE / PAGE, RW);
    machine
        .madvise(tid, BASE, huge * HUGE, madv::HUGEPAGE)
        .unwrap();
}

fn byte(machine: &mut Machine, tid: Tid, addr: u64) -> u8 {
    let mut buf = [0];
    machine.load(tid, addr, &mut buf).unwrap();
    buf[0]
}

#[test]
fn a_huge_page_comes_where_it_fits() {
    let (mut machine, tid) = machine();
    advised(&mut machine, tid, 2);
    assert_eq!(byte(&mut machine, tid, BASE), 0);
    assert!(is_huge(&machine, tid, BASE), "the huge page of zeros");
    machine.store(tid, BASE + PAGE, &[1]).unwrap();
    assert!(is_huge(&machine, tid, BASE));
    assert_eq!(frame(&machine, tid, BASE + PAGE) % 512, 1);
    machine.madvise(tid, BASE, PAGE, madv::DONTNEED).unwrap();
    assert!(!is_huge(&machine, tid, BASE));
    assert_eq!(frame(&machine, tid, BASE), 0);
    assert_eq!(byte(&mut machine, tid, BASE + PAGE), 1);
    machine.madvise(tid, BASE, HUGE, madv::COLLAPSE).unwrap();
    assert!(is_huge(&machine, tid, BASE));
    assert_eq!(byte(&mut machine, tid, BASE + PAGE), 1);
    // The second half of the range has no table to look at.
    let collapsed = machine.madvise(tid, BASE, 2 * HUGE, madv::COLLAPSE);
    assert_eq!(collapsed, Err(Errno::EINVAL.into()));
    machine.munmap(tid, BASE, 2 * HUGE).unwrap();
    assert_eq!(machine.world.frames.in_use(), 1 + 512, "two pages of zeros");
}

#[test]
fn a_fork_shares_a_huge_page_and_a_write_splits() {
    let (mut machine, parent) = machine();
    advised(&mut machine, parent, 1);
    machine.store(parent, BASE, &[1]).unwrap();
    let child = machine.fork(parent).unwrap();
    assert!(is_huge(&machine, child, BASE));
    machine.store(child, BASE, &[2]).unwrap();
    assert!(!is_huge(&machine, child, BASE));
    assert!(is_huge(&machine, parent, BASE));
    assert_eq!(byte(&mut machine, parent, BASE), 1);
    machine.check().unwrap();
    machine.exit(child).unwrap();
    let before = frame(&machine, parent, BASE);
    machine.store(parent, BASE, &[3]).unwrap();
    assert!(is_huge(&machine, parent, BASE), "nobody else has it");
    assert_eq!(frame(&machine, parent, BASE), before);
    machine.check().unwrap();
}

#[test]
fn a_pinned_huge_page_stays_the_parents() {
    let (mut machine, parent) = machine();
    advised(&mut machine, parent, 1);
    machine.store(parent, BASE, &[1]).unwrap();
    let pin = machine.pin_buffer(parent, BASE, PAGE).unwrap();
    let child = machine.fork(parent).unwrap();
    machine.store(parent, BASE, &[2]).unwrap();
    let mut buf = [0];
    machine.pin_read(pin, 0, &mut buf).unwrap();
    assert_eq!(buf, [2]);
    assert_eq!(byte(&mut machine, child, BASE), 1);
    machine.check().unwrap();
}

#[test]
fn a_cut_through_a_huge_page_splits_it() {
    let (mut machine, tid) = machine();
    advised(&mut machine, tid, 1);
    machine.store(tid, BASE, &[1]).unwrap();
    machine
        .madvise(tid, BASE + PAGE, PAGE, madv::DONTFORK)
        .unwrap();
    machine
        .madvise(tid, BASE + PAGE, PAGE, madv::DOFORK)
        .unwrap();
    machine.load(tid, BASE, &mut [0]).unwrap();
    assert!(!is_huge(&machine, tid, BASE));
    machine.check().unwrap();
}

#[test]
fn a_huge_page_moves_as_one() {
    let (mut machine, tid) = machine();
    advised(&mut machine, tid, 1);
    machine.store(tid, BASE, &[1]).unwrap();
    let mut remap = Mremap {
        old: BASE,
        old_len: HUGE,
        new_len: HUGE,
        flags: mremap::MAYMOVE | mremap::FIXED,
        new: BASE + 8 * HUGE,
        choice: None,
    };
    machine.mremap(tid, remap).unwrap();
    assert!(is_huge(&machine, tid, BASE + 8 * HUGE));
    remap.old = remap.new;
    remap.new = BASE + 16 * HUGE + PAGE;
    machine.mremap(tid, remap).unwrap();
    assert!(!is_huge(&machine, tid, remap.new));
    assert_eq!(byte(&mut machine, tid, remap.new), 1);
    machine.check().unwrap();
}
