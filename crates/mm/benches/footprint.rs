//! What populated pages cost besides their bytes: `cargo bench -p onionskin-mm --bench footprint`.
//!
//! Each line maps and fills 10,000 pages; what it shows as the most memory at one time, divided by
//! 10,000, is the price of a page, its share of page tables included.
#![forbid(unsafe_code)]

use divan::{AllocProfiler, Bencher};
use mm::uapi::{map, prot};
use mm::{Arch, Kernel, Machine, Mmap, Profile};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

const BASE: u64 = 0x10_0000_0000;
const PAGES: u64 = 10_000;

fn main() {
    divan::main();
}

/// Makes a machine and fills pages with a byte each, so that none needs bytes of its own.
fn populate(flags: u64, byte: u8) -> Machine {
    let mut machine = Machine::new(Profile::new(Kernel::V6_18, Arch::X86_64));
    let tid = machine.spawn();
    let page = machine.profile().page_size();
    let args = Mmap {
        addr: BASE,
        len: PAGES * page,
        prot: prot::READ | prot::WRITE,
        flags: flags | map::ANONYMOUS | map::FIXED,
        fd: -1,
        offset: 0,
        choice: None,
    };
    machine.mmap(tid, args).expect("the range is free");
    let bytes = vec![byte; usize::try_from(page).expect("a page fits")];
    for index in 0..PAGES {
        machine
            .store(tid, BASE + index * page, &bytes)
            .expect("it is writable");
    }
    machine
}

/// Private pages of one repeated byte.
#[divan::bench(sample_count = 3, sample_size = 1)]
fn private(bencher: Bencher<'_, '_>) {
    bencher.bench_local(|| populate(map::PRIVATE, 7));
}

/// Private pages of zeros.
#[divan::bench(sample_count = 3, sample_size = 1)]
fn zeros(bencher: Bencher<'_, '_>) {
    bencher.bench_local(|| populate(map::PRIVATE, 0));
}

/// Shared pages of one repeated byte: the page cache has them as well.
#[divan::bench(sample_count = 3, sample_size = 1)]
fn shared(bencher: Bencher<'_, '_>) {
    bencher.bench_local(|| populate(map::SHARED, 7));
}

/// Pages that a child shares after a fork: its tables and mappings come on top.
#[divan::bench(sample_count = 3, sample_size = 1)]
fn forked(bencher: Bencher<'_, '_>) {
    bencher.bench_local(|| {
        let mut machine = populate(map::PRIVATE, 7);
        let tid = machine
            .pids()
            .next()
            .and_then(|pid| machine.threads_of(pid).next());
        machine
            .fork(tid.expect("a process was made"))
            .expect("nothing is in the way");
        machine
    });
}
