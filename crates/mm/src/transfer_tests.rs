//! Tests of what moves bytes for system calls: files, pipes, pins, other processes' memory.

use super::tests::{anon, machine};
use super::{Iovec, Machine, Tid};
use crate::uapi::{madv, prot};
use ::space::Errno;

const PAGE: u64 = 4096;
const BASE: u64 = 0x10_0000_0000;
const RW: u64 = prot::READ | prot::WRITE;

fn byte(machine: &mut Machine, tid: Tid, addr: u64) -> u8 {
    let mut buf = [0];
    machine.load(tid, addr, &mut buf).unwrap();
    buf[0]
}

fn frame(machine: &Machine, tid: Tid, addr: u64) -> u64 {
    let mut words = [0];
    let pid = machine.pid_of(tid).unwrap();
    machine.pagemap(pid, addr, &mut words).unwrap();
    words[0] & ((1 << 55) - 1)
}

#[test]
fn a_file_is_written_up_to_the_fault() {
    let (mut machine, tid) = machine();
    anon(&mut machine, tid, BASE, 2, RW);
    let end = BASE + 2 * PAGE;
    machine.store(tid, BASE, &[5; 8192]).unwrap();
    let fd = machine.memfd_create(tid, "a", 0).unwrap();
    let efault = Err(Errno::EFAULT.into());
    // The file reaches to the offset although nothing was copied.
    assert_eq!(machine.write(tid, fd, end, 10, 5000), efault);
    assert_eq!(machine.world.files.iter().next().unwrap().size, 5000);
    assert_eq!(machine.write(tid, fd, end - 10, 4096, 10_000), Ok(10));
    assert_eq!(machine.world.files.iter().next().unwrap().size, 10_010);
    assert_eq!(machine.read(tid, fd, end - 10, 4096, 0), Ok(10));
    assert_eq!(byte(&mut machine, tid, end - 1), 0);
    assert_eq!(machine.read(tid, fd, BASE, 100, 10_000), Ok(10));
    assert_eq!(byte(&mut machine, tid, BASE), 5);
    assert_eq!(machine.read(tid, fd, end, 10, 20_000), Ok(0));
}

#[test]
fn a_pipe_keeps_references_of_pages() {
    let (mut machine, tid) = machine();
    anon(&mut machine, tid, BASE, 2, RW);
    machine.store(tid, BASE, &[5]).unwrap();
    let (read, write) = machine.pipe(tid).unwrap();
    let again = Err(Errno::EAGAIN.into());
    assert_eq!(machine.read(tid, read, BASE, 1, 0), again);
    assert_eq!(machine.vmsplice(tid, write, BASE, PAGE, 2), Ok(PAGE));
    // The page is exclusive, so that it is not copied: the pipe sees what is written.
    machine.store(tid, BASE, &[6]).unwrap();
    assert_eq!(machine.read(tid, read, BASE + PAGE, 1, 0), Ok(1));
    assert_eq!(byte(&mut machine, tid, BASE + PAGE), 6);
    machine.munmap(tid, BASE, 2 * PAGE).unwrap();
    assert_eq!(machine.world.frames.in_use(), 2, "the pipe has the page");
    machine.exit(tid).unwrap();
    assert_eq!(machine.world.frames.in_use(), 1);
}

#[test]
fn a_pipe_reference_makes_a_shared_page_be_copied() {
    let (mut machine, parent) = machine();
    anon(&mut machine, parent, BASE, 1, RW);
    machine.store(parent, BASE, &[5]).unwrap();
    let (_, write) = machine.pipe(parent).unwrap();
    let before = frame(&machine, parent, BASE);
    let child = machine.fork(parent).unwrap();
    machine.vmsplice(child, write, BASE, PAGE, 2).unwrap();
    machine.exit(child).unwrap();
    machine.store(parent, BASE, &[6]).unwrap();
    assert_ne!(frame(&machine, parent, BASE), before);
}

#[test]
fn a_device_and_the_program_see_the_same_page() {
    let (mut machine, parent) = machine();
    anon(&mut machine, parent, BASE, 2, RW);
    machine.store(parent, BASE + PAGE, &[1]).unwrap();
    let pin = machine.pin_buffer(parent, BASE + 100, PAGE).unwrap();
    let child = machine.fork(parent).unwrap();
    machine.store(parent, BASE + PAGE, &[2]).unwrap();
    let mut buf = [0];
    machine.pin_read(pin, PAGE - 100, &mut buf).unwrap();
    assert_eq!(buf, [2]);
    machine.pin_write(pin, 0, &[3]).unwrap();
    assert_eq!(byte(&mut machine, parent, BASE + 100), 3);
    assert_eq!(byte(&mut machine, child, BASE + 100), 0);
    assert_eq!(byte(&mut machine, child, BASE + PAGE), 1);
    assert_eq!(machine.pin_read(pin, PAGE, &mut buf), Err(Errno::EFAULT));
    machine.exit(parent).unwrap();
    machine.exit(child).unwrap();
    assert_eq!(machine.world.frames.in_use(), 1);
}

#[test]
fn reading_another_process_unshares() {
    let (mut machine, parent) = machine();
    anon(&mut machine, parent, BASE, 3, RW);
    machine.store(parent, BASE, &[9]).unwrap();
    let child = machine.fork(parent).unwrap();
    let remote = machine.pid_of(child).unwrap();
    let before = frame(&machine, child, BASE);
    let to = [Iovec {
        base: BASE + PAGE,
        len: 2 * PAGE,
    }];
    let from = [Iovec {
        base: BASE,
        len: 2 * PAGE,
    }];
    let copied = machine.process_vm_readv(parent, remote, &to, &from, 0);
    assert_eq!(copied, Ok(2 * PAGE));
    assert_eq!(byte(&mut machine, parent, BASE + PAGE), 9);
    assert_ne!(frame(&machine, child, BASE), before);
    machine.munmap(child, BASE + PAGE, PAGE).unwrap();
    let copied = machine.process_vm_writev(parent, remote, &to, &from, 0);
    assert_eq!(copied, Ok(PAGE));
    machine.madvise(child, BASE, PAGE, madv::DONTNEED).unwrap();
    machine.exit(child).unwrap();
    let gone = machine.process_vm_readv(parent, remote, &to, &from, 0);
    assert_eq!(gone, Err(Errno::ESRCH.into()));
}
