//! Tests of pages that are given up: lazily freed, paged out, swapped.

use super::tests::{anon, machine};
use super::{Arch, CowPolicy, Kernel, Machine, Mmap, Profile, Tid};
use crate::uapi::{madv, map, prot};

const PAGE: u64 = 4096;
const BASE: u64 = 0x10_0000_0000;
const RW: u64 = prot::READ | prot::WRITE;
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;

fn byte(machine: &mut Machine, tid: Tid, addr: u64) -> u8 {
    let mut buf = [0];
    machine.load(tid, addr, &mut buf).unwrap();
    buf[0]
}

fn flags(machine: &Machine, tid: Tid, addr: u64) -> u64 {
    let mut words = [0];
    let pid = machine.pid_of(tid).unwrap();
    machine.pagemap(pid, addr, &mut words).unwrap();
    words[0] & (PRESENT | SWAPPED)
}

fn with_swap(pages: u64) -> (Machine, Tid) {
    let mut profile = Profile::new(Kernel::V6_18, Arch::X86_64);
    profile.swap_pages = pages;
    let mut machine = Machine::new(profile);
    let tid = machine.spawn();
    (machine, tid)
}

#[test]
fn the_first_page_swapped_out_is_found_by_parent_and_child() {
    for arch in [Arch::X86_64, Arch::Arm64Page16K] {
        let mut profile = Profile::new(Kernel::V6_18, arch);
        profile.swap_pages = 4;
        let page = profile.page_size();
        let mut machine = Machine::new(profile);
        let tid = machine.spawn();
        anon(&mut machine, tid, BASE, 4 * page / PAGE, RW);
        machine.store(tid, BASE, &[7]).unwrap();
        machine.madvise(tid, BASE, page, madv::PAGEOUT).unwrap();
        assert_eq!(flags(&machine, tid, BASE), SWAPPED, "{arch:?}");
        let child = machine.fork(tid).unwrap();
        // The child brings it back for both: it must not be the child's alone.
        for tid in [child, tid] {
            assert_eq!(byte(&mut machine, tid, BASE), 7, "{arch:?}");
            machine.check().unwrap();
        }
    }
}

#[test]
fn a_freed_page_goes_unless_it_is_written_again() {
    let (mut machine, tid) = machine();
    anon(&mut machine, tid, BASE, 2, RW);
    machine.store(tid, BASE, &[1]).unwrap();
    machine.store(tid, BASE + PAGE, &[2]).unwrap();
    machine.madvise(tid, BASE, 2 * PAGE, madv::FREE).unwrap();
    assert_eq!(byte(&mut machine, tid, BASE), 1);
    machine.store(tid, BASE + PAGE, &[5]).unwrap();
    machine.madvise(tid, BASE, 2 * PAGE, madv::PAGEOUT).unwrap();
    assert_eq!(flags(&machine, tid, BASE), 0);
    assert_eq!(byte(&mut machine, tid, BASE), 0);
    assert_eq!(byte(&mut machine, tid, BASE + PAGE), 5);
    machine.check().unwrap();
}

#[test]
fn a_page_of_a_file_that_was_never_written_goes_for_good() {
    let (mut machine, tid) = machine();
    let args = Mmap {
        addr: BASE,
        len: 2 * PAGE,
        prot: RW,
        flags: map::SHARED | map::ANONYMOUS | map::FIXED,
        fd: -1,
        offset: 0,
        choice: None,
    };
    machine.mmap(tid, args).unwrap();
    machine.store(tid, BASE, &[1]).unwrap();
    machine.load(tid, BASE + PAGE, &mut [0]).unwrap();
    machine.madvise(tid, BASE, 2 * PAGE, madv::PAGEOUT).unwrap();
    assert_eq!(flags(&machine, tid, BASE), 0);
    assert_eq!(machine.mincore(tid, BASE, 2 * PAGE), Ok(vec![1, 0]));
    assert_eq!(byte(&mut machine, tid, BASE), 1);
    machine.check().unwrap();
}

#[test]
fn a_swapped_page_is_shared_through_the_cache() {
    let (mut machine, parent) = with_swap(8);
    anon(&mut machine, parent, BASE, 1, RW);
    machine.store(parent, BASE, &[1]).unwrap();
    machine.madvise(parent, BASE, PAGE, madv::PAGEOUT).unwrap();
    assert_eq!(flags(&machine, parent, BASE), SWAPPED);
    assert_eq!(machine.world.frames.in_use(), 1);
    let child = machine.fork(parent).unwrap();
    assert_eq!(byte(&mut machine, parent, BASE), 1);
    assert_eq!(byte(&mut machine, child, BASE), 1);
    assert_eq!(machine.world.frames.in_use(), 2, "one page for both");
    machine.store(child, BASE, &[2]).unwrap();
    assert_eq!(byte(&mut machine, parent, BASE), 1);
    machine.exit(child).unwrap();
    machine.exit(parent).unwrap();
    assert_eq!(machine.world.frames.in_use(), 1);
    assert_eq!(machine.world.swap.free_pages(), 8);
}

#[test]
fn an_exclusive_page_comes_back_writable() {
    let (mut machine, tid) = with_swap(8);
    anon(&mut machine, tid, BASE, 1, RW);
    machine.store(tid, BASE, &[1]).unwrap();
    machine.madvise(tid, BASE, PAGE, madv::PAGEOUT).unwrap();
    machine.store(tid, BASE, &[2]).unwrap();
    assert_eq!(byte(&mut machine, tid, BASE), 2);
    assert_eq!(machine.world.swap.free_pages(), 8);
    machine.check().unwrap();
}

/// The attack of 2020: a child keeps a reference, unmaps, and reads what its parent writes.
fn child_sees_secret(policy: CowPolicy) -> bool {
    let mut profile = Profile::new(Kernel::V6_18, Arch::X86_64);
    profile.cow = policy;
    let mut machine = Machine::new(profile);
    let parent = machine.spawn();
    anon(&mut machine, parent, BASE, 2, RW);
    machine.store(parent, BASE, &[1]).unwrap();
    let (read, write) = machine.pipe(parent).unwrap();
    let child = machine.fork(parent).unwrap();
    machine.vmsplice(child, write, BASE, 1, 2).unwrap();
    machine.munmap(child, BASE, PAGE).unwrap();
    machine.store(parent, BASE, &[2]).unwrap();
    machine.read(child, read, BASE + PAGE, 1, 0).unwrap();
    byte(&mut machine, child, BASE + PAGE) == 2
}

#[test]
fn only_counting_mappings_leaks_through_a_pipe() {
    assert!(child_sees_secret(CowPolicy::Mapcount));
    for safe in [
        CowPolicy::EarlyBreak,
        CowPolicy::Refcount,
        CowPolicy::AndreaAccurate,
        CowPolicy::LinusStrict,
        CowPolicy::AnonExclusive,
    ] {
        assert!(!child_sees_secret(safe), "{safe:?}");
    }
}

/// Whether a device that reads by a pin of before a fork sees what the parent writes afterwards.
fn pin_stays_the_parents(policy: CowPolicy) -> bool {
    let mut profile = Profile::new(Kernel::V6_18, Arch::X86_64);
    profile.cow = policy;
    let mut machine = Machine::new(profile);
    let parent = machine.spawn();
    anon(&mut machine, parent, BASE, 1, RW);
    let pin = machine.pin_buffer(parent, BASE, PAGE).unwrap();
    machine.fork(parent).unwrap();
    machine.store(parent, BASE, &[2]).unwrap();
    let mut buf = [0];
    machine.pin_read(pin, 0, &mut buf).unwrap();
    buf == [2]
}

#[test]
fn a_fork_leaves_a_pin_where_the_policy_copies_it() {
    assert!(!pin_stays_the_parents(CowPolicy::Mapcount));
    assert!(pin_stays_the_parents(CowPolicy::Refcount));
    assert!(pin_stays_the_parents(CowPolicy::LinusStrict));
    assert!(pin_stays_the_parents(CowPolicy::AnonExclusive));
}
