//! Tests of userfaultfd: what programs see.

use space::Errno;

use super::{UffdCopy, UffdMsg};
use crate::readout::pagemap::PagemapBits;
use crate::tests::{anon, machine};
use crate::uapi::uffd::{Features, NONBLOCK, fault, mode, register};
use crate::uapi::{madv, prot};
use crate::{Fd, Machine, PageRegion, PagemapScan, Signal, Stop, Tid, Trap};

const PAGE: u64 = 4096;
const BASE: u64 = 0x10_0000_0000;
const RW: u64 = prot::READ | prot::WRITE;

fn userfaultfd(machine: &mut Machine, tid: Tid, features: Features) -> Fd {
    let fd = machine.userfaultfd(tid, NONBLOCK).unwrap();
    let (result, _) = machine.uffd_api(tid, fd, 0xaa, features.bits());
    assert_eq!(result, Ok(()));
    fd
}

fn word(machine: &Machine, tid: Tid, addr: u64) -> PagemapBits {
    let mut words = [0];
    let pid = machine.pid_of(tid).unwrap();
    machine.pagemap(pid, addr, &mut words).unwrap();
    PagemapBits::from_bits_truncate(words[0])
}

#[test]
fn nothing_works_before_the_handshake_which_is_made_once() {
    let (mut machine, tid) = machine();
    anon(&mut machine, tid, BASE, 1, RW);
    let fd = machine.userfaultfd(tid, NONBLOCK).unwrap();
    let early = machine.uffd_register(tid, fd, BASE, PAGE, register::MISSING);
    assert_eq!(early, Err(Errno::EINVAL));
    assert_eq!(
        machine.uffd_api(tid, fd, 0xaa, 1 << 40).0,
        Err(Errno::EINVAL)
    );
    let (result, left) = machine.uffd_api(tid, fd, 0xaa, 0);
    assert_eq!((result, left.features), (Ok(()), 0x1_ffff));
    assert_eq!(machine.uffd_api(tid, fd, 0xaa, 0).0, Err(Errno::EINVAL));
    let range = machine.uffd_register(tid, fd, BASE, PAGE, register::MISSING);
    assert_eq!(range, Ok(0x13c));
    let range = machine.uffd_register(tid, fd, BASE, PAGE, register::WP);
    assert_eq!(range, Ok(0x17c));
}

#[test]
fn a_missing_page_waits_for_a_copy() {
    let (mut machine, tid) = machine();
    let reader = machine.spawn_thread(tid).unwrap();
    anon(&mut machine, tid, BASE, 4, RW);
    let fd = userfaultfd(&mut machine, tid, Features::THREAD_ID);
    machine
        .uffd_register(tid, fd, BASE + PAGE, PAGE, register::MISSING)
        .unwrap();
    let mut byte = [0];
    let Err(Trap::Blocked(wait)) = machine.load(reader, BASE + PAGE + 5, &mut byte) else {
        panic!("the page is there");
    };
    let message = machine.uffd_read(tid, fd).unwrap();
    let expected = UffdMsg::Pagefault {
        flags: 0,
        address: BASE + PAGE,
        ptid: reader.0,
    };
    assert_eq!(message, expected);
    assert_eq!(machine.uffd_read(tid, fd), Err(Errno::EAGAIN.into()));
    machine.store(tid, BASE, &[7; 6]).unwrap();
    let args = UffdCopy {
        dst: BASE + PAGE,
        src: BASE,
        len: PAGE,
        mode: mode::DONTWAKE,
    };
    let left = machine.uffd_copy(tid, fd, args);
    assert_eq!((left.result, left.out), (Ok(()), Some(4096)));
    assert!(machine.is_blocked(wait));
    machine.uffd_wake(tid, fd, BASE + PAGE, PAGE).unwrap();
    assert!(!machine.is_blocked(wait));
    machine.load(reader, BASE + PAGE + 5, &mut byte).unwrap();
    assert_eq!(byte, [7]);
    let again = machine.uffd_copy(tid, fd, args);
    assert_eq!(again.result, Err(Stop::Failed(Errno::EEXIST)));
    assert_eq!(again.out, Some(-17));
}

#[test]
fn a_protected_page_tells_of_its_first_write() {
    let (mut machine, tid) = machine();
    anon(&mut machine, tid, BASE, 2, RW);
    machine.store(tid, BASE, &[1]).unwrap();
    let fd = userfaultfd(
        &mut machine,
        tid,
        Features::SIGBUS | Features::WP_UNPOPULATED,
    );
    machine
        .uffd_register(tid, fd, BASE, 2 * PAGE, register::WP)
        .unwrap();
    machine
        .uffd_writeprotect(tid, fd, BASE, 2 * PAGE, mode::PROTECT)
        .unwrap();
    let protected = PagemapBits::UFFD_WP;
    assert!(word(&machine, tid, BASE).contains(protected | PagemapBits::PRESENT));
    assert!(word(&machine, tid, BASE + PAGE).contains(protected | PagemapBits::SWAP));
    let trap = Trap::Signal {
        signal: Signal::BusAdrerr,
        addr: BASE,
    };
    assert_eq!(machine.store(tid, BASE, &[2]), Err(trap));
    machine.uffd_writeprotect(tid, fd, BASE, PAGE, 0).unwrap();
    machine.store(tid, BASE, &[2]).unwrap();
    assert!(!word(&machine, tid, BASE).contains(protected));
    machine.close(tid, fd).unwrap();
    assert_eq!(word(&machine, tid, BASE + PAGE), PagemapBits::SOFT_DIRTY);
}

#[test]
fn a_scan_arms_what_it_tells() {
    let (mut machine, tid) = machine();
    let pid = machine.pid_of(tid).unwrap();
    anon(&mut machine, tid, BASE, 8, RW);
    let fd = userfaultfd(&mut machine, tid, Features::WP_ASYNC);
    machine
        .uffd_register(tid, fd, BASE, 8 * PAGE, register::WP)
        .unwrap();
    let scan = PagemapScan {
        size: 96,
        flags: 1,
        start: BASE,
        end: BASE + 8 * PAGE,
        vec_len: Some(4),
        max_pages: 0,
        category_inverted: 0,
        category_mask: 2,
        category_anyof_mask: 0,
        return_mask: 2,
    };
    assert_eq!(machine.pagemap_scan(pid, &scan).result, Ok(1));
    assert_eq!(machine.pagemap_scan(pid, &scan).result, Ok(0));
    machine.store(tid, BASE + PAGE, &[1]).unwrap();
    machine.store(tid, BASE + 4 * PAGE, &[1; 4097]).unwrap();
    let limited = PagemapScan {
        max_pages: 2,
        ..scan
    };
    let reply = machine.pagemap_scan(pid, &limited);
    let region = |from, to| PageRegion {
        start: BASE + from * PAGE,
        end: BASE + to * PAGE,
        categories: 2,
    };
    assert_eq!(reply.regions, [region(1, 2), region(4, 5)]);
    assert_eq!(reply.walk_end, Some(BASE + 5 * PAGE));
    assert_eq!(machine.pagemap_scan(pid, &scan).regions, [region(5, 6)]);
}

#[test]
fn unmapping_waits_until_its_event_was_read() {
    let (mut machine, tid) = machine();
    let reader = machine.spawn_thread(tid).unwrap();
    anon(&mut machine, tid, BASE, 4, RW);
    let features = Features::EVENT_UNMAP | Features::EVENT_REMOVE;
    let fd = userfaultfd(&mut machine, tid, features);
    machine
        .uffd_register(tid, fd, BASE, 4 * PAGE, register::MISSING)
        .unwrap();
    let Err(Stop::Blocked(wait)) = machine.munmap(tid, BASE, PAGE) else {
        panic!("nobody read the event");
    };
    let busy = machine.uffd_zeropage(reader, fd, BASE + PAGE, PAGE, 0);
    assert_eq!(busy.out, Some(-11));
    let message = machine.uffd_read(reader, fd).unwrap();
    let (start, end) = (BASE, BASE + PAGE);
    assert_eq!(message, UffdMsg::Unmap { start, end });
    assert!(!machine.is_blocked(wait));
    assert_eq!(machine.munmap(tid, BASE, PAGE), Ok(()));
    machine
        .uffd_zeropage(reader, fd, BASE + PAGE, PAGE, 0)
        .result
        .unwrap();
    let discard = |machine: &mut Machine| machine.madvise(tid, BASE + PAGE, PAGE, madv::DONTNEED);
    assert!(matches!(discard(&mut machine), Err(Stop::Blocked(_))));
    assert!(word(&machine, tid, BASE + PAGE).contains(PagemapBits::PRESENT));
    machine.uffd_read(reader, fd).unwrap();
    assert_eq!(discard(&mut machine), Ok(()));
    assert!(!word(&machine, tid, BASE + PAGE).contains(PagemapBits::PRESENT));
}

#[test]
fn a_child_is_registered_with_a_userfaultfd_of_its_own() {
    let (mut machine, tid) = machine();
    let reader = machine.spawn_thread(tid).unwrap();
    anon(&mut machine, tid, BASE, 1, RW);
    let fd = userfaultfd(&mut machine, tid, Features::EVENT_FORK);
    machine
        .uffd_register(tid, fd, BASE, PAGE, register::MISSING)
        .unwrap();
    assert!(matches!(machine.fork(tid), Err(Stop::Blocked(_))));
    let UffdMsg::Fork { fd: new, child } = machine.uffd_read(reader, fd).unwrap() else {
        panic!("another event");
    };
    let child_tid = machine.fork(tid).unwrap();
    assert_eq!(machine.pid_of(child_tid), Ok(child));
    assert!(matches!(
        machine.store(child_tid, BASE, &[1]),
        Err(Trap::Blocked(_))
    ));
    let UffdMsg::Pagefault { flags, .. } = machine.uffd_read(reader, new).unwrap() else {
        panic!("another event");
    };
    assert_eq!(flags, fault::WRITE);
    machine
        .uffd_zeropage(reader, new, BASE, PAGE, 0)
        .result
        .unwrap();
    machine.store(child_tid, BASE, &[1]).unwrap();
}

#[test]
fn a_moved_page_keeps_its_frame() {
    let (mut machine, tid) = machine();
    anon(&mut machine, tid, BASE, 4, RW);
    machine.store(tid, BASE, &[3]).unwrap();
    let fd = userfaultfd(&mut machine, tid, Features::empty());
    machine
        .uffd_register(tid, fd, BASE + 2 * PAGE, 2 * PAGE, register::MISSING)
        .unwrap();
    let mut args = UffdCopy {
        dst: BASE + 2 * PAGE,
        src: BASE,
        len: 2 * PAGE,
        mode: 0,
    };
    let left = machine.uffd_move(tid, fd, args);
    assert_eq!(left.out, Some(4096));
    assert_eq!(left.result, Err(Stop::Failed(Errno::EAGAIN)));
    let mut byte = [0];
    machine.load(tid, BASE + 2 * PAGE, &mut byte).unwrap();
    assert_eq!(byte, [3]);
    args.dst += PAGE;
    args.len = PAGE;
    let left = machine.uffd_move(tid, fd, args);
    assert_eq!(left.out, Some(-2));
    args.mode = mode::ALLOW_SRC_HOLES;
    assert_eq!(machine.uffd_move(tid, fd, args).out, Some(4096));
}
