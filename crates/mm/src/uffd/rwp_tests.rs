//! Read-write protection (7.3).

use space::Errno;

use crate::uapi::uffd::{Features, NONBLOCK, fault, mode, register};
use crate::uapi::{map, prot};
use crate::uffd::UffdMsg;
use crate::{Arch, Fd, Kernel, Machine, Mmap, Profile, Tid, Trap};

const BASE: u64 = 0x10_0000_0000;
const PAGE: u64 = 4096;

fn protected(kernel: Kernel, features: Features) -> (Machine, Tid, Fd, Result<(), Errno>) {
    let mut machine = Machine::new(Profile::new(kernel, Arch::X86_64));
    let tid = machine.spawn();
    let args = Mmap {
        addr: BASE,
        len: 4 * PAGE,
        prot: prot::READ | prot::WRITE,
        flags: map::PRIVATE | map::ANONYMOUS | map::FIXED,
        fd: -1,
        offset: 0,
        choice: None,
    };
    machine.mmap(tid, args).unwrap();
    machine.store(tid, BASE, &[7]).unwrap();
    let fd = machine.userfaultfd(tid, NONBLOCK).unwrap();
    let known = machine.uffd_api(tid, fd, 0xAA, features.bits()).0;
    let done = known.and_then(|()| {
        machine.uffd_register(tid, fd, BASE, 4 * PAGE, register::RWP)?;
        machine.uffd_rwprotect(tid, fd, BASE, 4 * PAGE, mode::PROTECT)
    });
    machine.check().unwrap();
    (machine, tid, fd, done)
}

#[test]
fn a_load_of_a_protected_page_is_told_and_waits() {
    let (mut machine, tid, fd, done) = protected(Kernel::V7_3, Features::RWP);
    done.unwrap();
    let mut byte = [0];
    let asleep = machine.load(tid, BASE, &mut byte);
    assert!(matches!(asleep, Err(Trap::Blocked(_))), "{asleep:?}");
    let UffdMsg::Pagefault { flags, address, .. } = machine.uffd_read(tid, fd).unwrap() else {
        panic!("a fault was expected");
    };
    assert_eq!((flags, address), (fault::RWP, BASE));
    machine.uffd_rwprotect(tid, fd, BASE, PAGE, 0).unwrap();
    machine.load(tid, BASE, &mut byte).unwrap();
    assert_eq!(byte, [7]);
    machine.check().unwrap();
}

#[test]
fn asynchronous_protection_goes_with_the_first_access_and_can_be_turned_on_later() {
    let (mut machine, tid, fd, done) = protected(Kernel::V7_3, Features::RWP);
    done.unwrap();
    let mut byte = [0];
    machine.load(tid, BASE, &mut byte).unwrap_err();
    let async_bit = Features::RWP_ASYNC.bits();
    let both = machine.uffd_set_mode(tid, fd, async_bit, async_bit);
    assert_eq!(both, Err(Errno::EINVAL));
    machine.uffd_set_mode(tid, fd, async_bit, 0).unwrap();
    machine.load(tid, BASE, &mut byte).unwrap();
    assert_eq!(byte, [7]);
    machine.store(tid, BASE, &[8]).unwrap();
    machine.check().unwrap();
}

#[test]
fn no_kernel_before_has_it() {
    let (mut machine, tid, fd, done) = protected(Kernel::V6_18, Features::RWP);
    assert_eq!(done, Err(Errno::EINVAL));
    assert!(machine.uffd_set_mode(tid, fd, 0, 0).is_err());
}
