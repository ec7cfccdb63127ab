//! How fast simple operations are, and what a populated page costs besides its bytes.
//!
//! `cargo bench -p onionskin-mm`. An operation is one system call or one access; figures are for
//! one core.
#![forbid(unsafe_code)]

use divan::Bencher;
use divan::counter::ItemsCount;
use mm::uapi::{madv, map, prot};
use mm::{Arch, Kernel, Machine, Mmap, Profile, Tid};

const BASE: u64 = 0x10_0000_0000;
const PAGES: u64 = 64;
const RW: u64 = prot::READ | prot::WRITE;

fn main() {
    divan::main();
}

fn machine() -> (Machine, Tid, u64) {
    let mut machine = Machine::new(Profile::new(Kernel::V6_18, Arch::X86_64));
    let tid = machine.spawn();
    let page = machine.profile().page_size();
    let args = Mmap {
        addr: BASE,
        len: PAGES * page,
        prot: RW,
        flags: map::PRIVATE | map::ANONYMOUS | map::FIXED,
        fd: -1,
        offset: 0,
        choice: None,
    };
    machine.mmap(tid, args).expect("the range is free");
    (machine, tid, page)
}

/// Stores to pages that are there.
#[divan::bench]
fn store(bencher: Bencher<'_, '_>) {
    let (mut machine, tid, page) = machine();
    bencher.counter(ItemsCount::new(PAGES)).bench_local(|| {
        for index in 0..PAGES {
            machine
                .store(tid, BASE + index * page, &[1])
                .expect("it is writable");
        }
    });
}

/// Drops a page and reads it again: a call and a fault each.
#[divan::bench]
fn discard_and_load(bencher: Bencher<'_, '_>) {
    let (mut machine, tid, page) = machine();
    let mut buf = [0];
    bencher.counter(ItemsCount::new(2 * PAGES)).bench_local(|| {
        for index in 0..PAGES {
            let addr = BASE + index * page;
            machine.load(tid, addr, &mut buf).expect("it is readable");
            machine
                .madvise(tid, addr, page, madv::DONTNEED)
                .expect("it may be dropped");
        }
    });
}

/// Protects one page and lifts that: a split and a merge each.
#[divan::bench]
fn protect(bencher: Bencher<'_, '_>) {
    let (mut machine, tid, page) = machine();
    bencher.counter(ItemsCount::new(2 * PAGES)).bench_local(|| {
        for index in 0..PAGES {
            let addr = BASE + index * page;
            machine
                .mprotect(tid, addr, page, prot::READ)
                .expect("it is mapped");
            machine.mprotect(tid, addr, page, RW).expect("it is mapped");
        }
    });
}

/// Maps a page over another and stores to it.
#[divan::bench]
fn map_and_store(bencher: Bencher<'_, '_>) {
    let (mut machine, tid, page) = machine();
    bencher.counter(ItemsCount::new(2 * PAGES)).bench_local(|| {
        for index in 0..PAGES {
            let args = Mmap {
                addr: BASE + index * page,
                len: page,
                prot: RW,
                flags: map::PRIVATE | map::ANONYMOUS | map::FIXED,
                fd: -1,
                offset: 0,
                choice: None,
            };
            machine.mmap(tid, args).expect("it may be replaced");
            machine.store(tid, args.addr, &[1]).expect("it is writable");
        }
    });
}

/// A process with 64 pages forks, the child writes to each, and exits.
#[divan::bench]
fn fork_and_copy(bencher: Bencher<'_, '_>) {
    let (mut machine, tid, page) = machine();
    for index in 0..PAGES {
        machine
            .store(tid, BASE + index * page, &[1])
            .expect("it is writable");
    }
    bencher.counter(ItemsCount::new(PAGES + 2)).bench_local(|| {
        let child = machine.fork(tid).expect("nothing is in the way");
        for index in 0..PAGES {
            machine
                .store(child, BASE + index * page, &[2])
                .expect("it is writable");
        }
        machine.exit(child).expect("it is there");
    });
}
