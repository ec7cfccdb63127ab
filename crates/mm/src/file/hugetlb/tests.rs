use crate::profile::HugePool;
use crate::uapi::{madv, map, prot};
use crate::{Arch, Kernel, Machine, Mmap, Profile, Signal, Stop, Tid, Trap};
use space::Errno;

const HUGE: u64 = 2 << 20;
const BASE: u64 = 0x10_0000_0000;

fn machine(pages: u64) -> (Machine, Tid) {
    let mut profile = Profile::new(Kernel::V6_18, Arch::X86_64);
    profile.huge_pools[0] = HugePool {
        shift: 21,
        pages,
        overcommit: 0,
    };
    let mut machine = Machine::new(profile);
    let tid = machine.spawn();
    (machine, tid)
}

fn map(machine: &mut Machine, tid: Tid, pages: u64, flags: u64) -> Result<u64, Stop> {
    let args = Mmap {
        addr: BASE,
        len: pages * HUGE,
        prot: prot::READ | prot::WRITE,
        flags: flags | map::ANONYMOUS | map::HUGETLB | map::FIXED,
        fd: -1,
        offset: 0,
        choice: None,
    };
    machine.mmap(tid, args)
}

fn counts(machine: &Machine) -> (u64, i64) {
    let pool = &machine.world.frames.pools.list[0];
    (pool.free, pool.reserved)
}

fn byte(machine: &mut Machine, tid: Tid, addr: u64) -> u8 {
    let mut buf = [0];
    machine.load(tid, addr, &mut buf).unwrap();
    buf[0]
}

#[test]
fn a_mapping_reserves_and_gives_back() {
    let (mut machine, tid) = machine(4);
    map(&mut machine, tid, 3, map::PRIVATE).unwrap();
    assert_eq!(counts(&machine), (4, 3));
    machine.store(tid, BASE + HUGE, &[7]).unwrap();
    assert_eq!(counts(&machine), (3, 2));
    machine
        .madvise(tid, BASE + HUGE, HUGE, madv::DONTNEED)
        .unwrap();
    assert_eq!(counts(&machine), (4, 3));
    assert_eq!(byte(&mut machine, tid, BASE + HUGE), 0);
    let too_many = map(&mut machine, tid, 5, map::PRIVATE);
    assert_eq!(too_many, Err(Errno::ENOMEM.into()));
    assert_eq!(counts(&machine), (4, 0));
    map(&mut machine, tid, 4, map::SHARED).unwrap();
    machine.store(tid, BASE, &[1]).unwrap();
    assert_eq!(counts(&machine), (3, 3));
    machine.exit(tid).unwrap();
    assert_eq!(counts(&machine), (4, 0));
}

#[test]
fn an_empty_pool_is_a_signal() {
    let (mut machine, tid) = machine(1);
    map(&mut machine, tid, 2, map::PRIVATE | map::NORESERVE).unwrap();
    machine.store(tid, BASE, &[1]).unwrap();
    let signal = Trap::Signal {
        signal: Signal::BusAdrerr,
        addr: BASE + HUGE,
    };
    assert_eq!(machine.store(tid, BASE + HUGE, &[1]), Err(signal));
}

#[test]
fn a_maker_takes_the_page_of_its_child() {
    let (mut machine, parent) = machine(1);
    map(&mut machine, parent, 1, map::PRIVATE).unwrap();
    machine.store(parent, BASE, &[1]).unwrap();
    let child = machine.fork(parent).unwrap();
    let signal = |addr| Trap::Signal {
        signal: Signal::BusAdrerr,
        addr,
    };
    assert_eq!(machine.store(child, BASE, &[2]), Err(signal(BASE)));
    assert_eq!(byte(&mut machine, child, BASE), 1);
    machine.store(parent, BASE, &[3]).unwrap();
    assert_eq!(
        machine.load(child, BASE, &mut [0]),
        Err(signal(BASE)),
        "the child lost the page"
    );
    assert_eq!(byte(&mut machine, parent, BASE), 3);
    machine.exit(child).unwrap();
    machine.exit(parent).unwrap();
    assert_eq!(counts(&machine), (1, 0));
}

#[test]
fn a_file_keeps_its_pages_until_truncated() {
    let (mut machine, tid) = machine(3);
    let fd = machine.memfd_create(tid, "x", 4).unwrap();
    assert_eq!(machine.ftruncate(tid, fd, 100), Err(Errno::EINVAL.into()));
    machine.ftruncate(tid, fd, 3 * HUGE).unwrap();
    let args = Mmap {
        addr: BASE,
        len: 3 * HUGE,
        prot: prot::READ | prot::WRITE,
        flags: map::SHARED | map::FIXED,
        fd,
        offset: 0,
        choice: None,
    };
    machine.mmap(tid, args).unwrap();
    machine.store(tid, BASE, &[1]).unwrap();
    machine.store(tid, BASE + HUGE, &[2]).unwrap();
    assert_eq!(counts(&machine), (1, 1));
    machine.munmap(tid, BASE, 3 * HUGE).unwrap();
    assert_eq!(counts(&machine), (1, 1));
    machine.ftruncate(tid, fd, HUGE).unwrap();
    assert_eq!(counts(&machine), (2, 0));
    machine.fallocate(tid, fd, 3, 0, HUGE).unwrap();
    assert_eq!(counts(&machine), (3, 0));
    machine.close(tid, fd).unwrap();
    assert_eq!(counts(&machine), (3, 0));
}
