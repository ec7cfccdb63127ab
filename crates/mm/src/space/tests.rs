use std::time::Duration;

use space::Freeze;

use super::*;
use crate::uapi::{map, prot};
use crate::{Arch, Mmap, Profile};

const BASE: u64 = 0x10_0000_0000;

fn watched(tracking: Tracking, kernel: Kernel, len: u64) -> (SharedMachine, Tid, Watched) {
    let mut machine = Machine::new(Profile::new(kernel, Arch::X86_64));
    let tid = machine.spawn();
    let args = Mmap {
        addr: BASE,
        len,
        prot: prot::READ | prot::WRITE,
        flags: map::PRIVATE | map::ANONYMOUS | map::FIXED | map::NORESERVE,
        fd: -1,
        offset: 0,
        choice: None,
    };
    machine.mmap(tid, args).unwrap();
    let machine = Arc::new(Mutex::new(machine));
    let watched = Watched::new(Arc::clone(&machine), tid, tracking).unwrap();
    (machine, tid, watched)
}

fn range(from: u64, to: u64) -> PageRange {
    PageRange::new(Vaddr(BASE + (from << 12)), Vaddr(BASE + (to << 12))).unwrap()
}

fn arm(watched: &mut Watched, all: PageRange) -> Vec<PageRun> {
    let scan = Scan {
        all_of: PageFlags::WRITTEN,
        any_of: PageFlags::PRESENT | PageFlags::SWAPPED,
        report: PageFlags::WRITTEN,
        rearm: Rearm::Rearm,
    };
    let mut out = Vec::new();
    watched.scan(&scan, &[all], &mut out).unwrap();
    out
}

#[test]
fn what_is_written_after_arming_is_reported_once() {
    for (tracking, kernel) in [
        (Tracking::WriteProtect, Kernel::V6_18),
        (Tracking::SoftDirty, Kernel::V6_1),
    ] {
        // A terabyte, of which next to nothing is there.
        let (machine, tid, mut watched) = watched(tracking, kernel, 1 << 40);
        let all = range(0, 1 << 28);
        let mut outcome = Vec::new();
        watched.track(&[all], &mut outcome).unwrap();
        assert_eq!(outcome, [Tracked::Yes(all)]);
        for page in [1, 2, 1 << 20] {
            machine
                .lock()
                .unwrap()
                .store(tid, BASE + (page << 12), &[1])
                .unwrap();
        }
        let found: Vec<_> = arm(&mut watched, all).iter().map(|run| run.range).collect();
        assert_eq!(
            found,
            [range(1, 3), range(1 << 20, (1 << 20) + 1)],
            "{tracking:?}"
        );
        assert_eq!(arm(&mut watched, all), [], "{tracking:?}");
        machine
            .lock()
            .unwrap()
            .store(tid, BASE + (2 << 12), &[2])
            .unwrap();
        let found: Vec<_> = arm(&mut watched, all).iter().map(|run| run.range).collect();
        assert_eq!(found, [range(2, 3)], "{tracking:?}");
    }
}

#[test]
fn a_twin_keeps_what_the_process_overwrites() {
    let (machine, tid, mut watched) = watched(Tracking::None, Kernel::V6_18, 1 << 16);
    machine.lock().unwrap().store(tid, BASE, b"before").unwrap();
    watched.stop(Duration::ZERO).unwrap();
    assert!(watched.is_frozen());
    let twin = watched.fork(Duration::ZERO).unwrap();
    watched.resume().unwrap();
    machine.lock().unwrap().store(tid, BASE, b"behind").unwrap();
    let mut page = vec![0; 4096];
    twin.read(&[range(0, 1)], &mut page).unwrap();
    assert_eq!(&page[..6], b"before");
    watched.read(&[range(0, 1)], &mut page).unwrap();
    assert_eq!(&page[..6], b"behind");
    let pids = |machine: &SharedMachine| machine.lock().unwrap().pids().count();
    assert_eq!(pids(&machine), 2);
    watched.reap(twin).unwrap();
    assert_eq!(pids(&machine), 1);
}

#[test]
fn the_process_does_not_see_the_descriptor_and_outlives_us() {
    let (machine, tid, mut watched) = watched(Tracking::WriteProtect, Kernel::V6_18, 1 << 16);
    let all = range(0, 16);
    watched.track(&[all], &mut Vec::new()).unwrap();
    let mut held = machine.lock().unwrap();
    assert_eq!(held.close(tid, 3), Err(Errno::EBADF));
    held.store(tid, BASE, &[1]).unwrap();
    drop(held);
    arm(&mut watched, all);
    drop(watched);
    let mut held = machine.lock().unwrap();
    held.store(tid, BASE, &[2]).unwrap();
    assert!(
        held.vmas(held.pid_of(tid).unwrap())
            .unwrap()
            .all(|vma| vma.uffd.is_none())
    );
    held.check().unwrap();
}

#[test]
fn pages_that_came_with_their_table_count_as_written() {
    let size = 1 << 21;
    // Alone, or behind a page of zeros that lies in both tables at the same place.
    for zeros in [0, 1] {
        let (machine, tid, mut watched) = watched(Tracking::SoftDirty, Kernel::V6_1, 2 * size);
        let start = BASE.next_multiple_of(size);
        for at in [start, start + size] {
            let mut machine = machine.lock().unwrap();
            (0..zeros).for_each(|_| machine.load(tid, at, &mut [0; 8]).unwrap());
            machine.store(tid, at + (zeros << 12), &[1]).unwrap();
        }
        let all = range(0, 1024);
        arm(&mut watched, all);
        let moved = crate::Mremap {
            old: start,
            old_len: size,
            new_len: size,
            flags: crate::uapi::mremap::MAYMOVE | crate::uapi::mremap::FIXED,
            new: start + size,
            choice: None,
        };
        machine.lock().unwrap().mremap(tid, moved).unwrap();
        let found: Vec<_> = arm(&mut watched, all).iter().map(|run| run.range).collect();
        assert_eq!(found, [range(512, 513 + zeros)], "{zeros}");
    }
}
