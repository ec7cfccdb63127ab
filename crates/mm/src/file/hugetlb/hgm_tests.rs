//! High-granularity mapping: what its series and the arguments about it say it does.

use space::Errno;

use crate::profile::{Hgm, HgmCounting, HugePool};
use crate::uapi::uffd::{Features, NONBLOCK, fault, register};
use crate::uapi::{file, madv, map, prot};
use crate::uffd::UffdMsg;
use crate::{Arch, Fd, Kernel, Machine, Mmap, Profile, Signal, Stop, Tid, Trap};

const PAGE: u64 = 4096;
const HUGE: u64 = 2 << 20;
/// Where the pages are written.
const WRITER: u64 = 0x10_0000_0000;
/// Where they are mapped by `UFFDIO_CONTINUE`.
const READER: u64 = 0x20_0000_0000;

struct Setup {
    machine: Machine,
    tid: Tid,
    file: Fd,
    uffd: Fd,
}

fn setup(always_small: bool, references_max: u32) -> Setup {
    let mut profile = Profile::new(Kernel::V6_18, Arch::X86_64);
    profile.memory_failure = true;
    profile.huge_pools[0] = HugePool {
        shift: 21,
        pages: 4,
        overcommit: 0,
    };
    profile.hgm = Some(Hgm {
        always_small,
        references_max,
    });
    let mut machine = Machine::new(profile);
    let tid = machine.spawn();
    let file = machine.memfd_create(tid, "m", file::MFD_HUGETLB).unwrap();
    machine.ftruncate(tid, file, HUGE).unwrap();
    for addr in [WRITER, READER] {
        let args = Mmap {
            addr,
            len: HUGE,
            prot: prot::READ | prot::WRITE,
            flags: map::SHARED | map::FIXED,
            fd: file,
            offset: 0,
            choice: None,
        };
        machine.mmap(tid, args).unwrap();
    }
    for page in 0..512_u64 {
        let byte = u8::try_from(page % 251).unwrap();
        machine.store(tid, WRITER + page * PAGE, &[byte]).unwrap();
    }
    let uffd = machine.userfaultfd(tid, NONBLOCK).unwrap();
    let features = Features::MINOR_HUGETLBFS.bits();
    machine.uffd_api(tid, uffd, 0xAA, features).0.unwrap();
    machine
        .uffd_register(tid, uffd, READER, HUGE, register::MINOR)
        .unwrap();
    machine.madvise(tid, READER, HUGE, madv::SPLIT).unwrap();
    machine.check().unwrap();
    Setup {
        machine,
        tid,
        file,
        uffd,
    }
}

impl Setup {
    fn map(&mut self, at: u64, len: u64) -> Result<(), Stop> {
        let done = self
            .machine
            .uffd_continue(self.tid, self.uffd, READER + at, len, 0);
        self.machine.check().unwrap();
        done.result
    }

    fn load(&mut self, at: u64) -> Result<u8, Trap> {
        let mut byte = [0];
        self.machine.load(self.tid, READER + at, &mut byte)?;
        self.machine.check().unwrap();
        Ok(byte[0])
    }

    fn counts(&self, page: u64, counting: HgmCounting) -> (u64, u64, bool) {
        let counts = self.machine.hgm_counts(self.tid, self.file, page, counting);
        let counts = counts.unwrap();
        (counts.references, counts.mapcount, counts.looks_shared)
    }
}

#[test]
fn only_shared_memory_of_hugetlb_is_split() {
    let Setup {
        mut machine, tid, ..
    } = setup(false, u32::MAX);
    let half = machine.madvise(tid, READER, HUGE / 2, madv::SPLIT);
    assert_eq!(half, Err(Errno::EINVAL.into()));
    let args = Mmap {
        addr: 0x30_0000_0000,
        len: HUGE,
        prot: prot::READ | prot::WRITE,
        flags: map::PRIVATE | map::ANONYMOUS | map::FIXED | map::HUGETLB,
        fd: -1,
        offset: 0,
        choice: None,
    };
    machine.mmap(tid, args).unwrap();
    let private = machine.madvise(tid, 0x30_0000_0000, HUGE, madv::SPLIT);
    assert_eq!(private, Err(Errno::EINVAL.into()));
    let mut today = Machine::new(Profile::new(Kernel::V6_18, Arch::X86_64));
    let tid = today.spawn();
    let unknown = today.madvise(tid, 0, 0, madv::SPLIT);
    assert_eq!(unknown, Err(Errno::EINVAL.into()));
}

#[test]
fn continue_maps_ever_smaller_pieces_and_the_rest_is_told_of() {
    let mut setup = setup(false, u32::MAX);
    let (mut at, mut len) = (0, HUGE / 2);
    while len >= PAGE {
        setup.map(at, len).unwrap();
        (at, len) = (at + len, len / 2);
    }
    assert_eq!(at, HUGE - PAGE, "the last page is left out");
    for page in 0..511_u64 {
        let byte = setup.load(page * PAGE).unwrap();
        assert_eq!(u64::from(byte), page % 251);
    }
    assert_eq!(setup.map(0, PAGE), Err(Errno::EEXIST.into()));
    let asleep = setup.load(HUGE - PAGE);
    assert!(matches!(asleep, Err(Trap::Blocked(_))), "{asleep:?}");
    let message = setup.machine.uffd_read(setup.tid, setup.uffd).unwrap();
    let UffdMsg::Pagefault { flags, address, .. } = message else {
        panic!("{message:?}");
    };
    assert_eq!((flags, address), (fault::MINOR, READER + HUGE - PAGE));
    setup.map(HUGE - PAGE, PAGE).unwrap();
    assert_eq!(setup.load(HUGE - PAGE), Ok(9));
}

#[test]
fn a_whole_page_is_mapped_whole_unless_nothing_ever_is() {
    for always_small in [false, true] {
        let mut setup = setup(always_small, u32::MAX);
        setup.map(0, HUGE).unwrap();
        let pieces = if always_small { 512 } else { 1 };
        // The file has one reference, the writer's mapping another one.
        let expected = (2 + pieces, 1 + pieces, true);
        assert_eq!(setup.counts(0, HgmCounting::TotalReferences), expected);
    }
}

#[test]
fn collapse_fills_the_holes_and_counts_go_back() {
    let mut setup = setup(false, u32::MAX);
    let before = setup.counts(0, HgmCounting::ThpLike);
    setup.map(PAGE, 2 * PAGE).unwrap();
    setup
        .machine
        .madvise(setup.tid, READER, HUGE, madv::COLLAPSE)
        .unwrap();
    assert_eq!(setup.load(HUGE - PAGE), Ok(9), "no event");
    assert_eq!(setup.counts(0, HgmCounting::ThpLike), (3, 2, true));
    setup
        .machine
        .madvise(setup.tid, READER, HUGE, madv::DONTNEED)
        .unwrap();
    assert_eq!(setup.counts(0, HgmCounting::ThpLike), before);
    setup.map(0, PAGE).unwrap();
    setup.machine.munmap(setup.tid, READER, HUGE).unwrap();
    setup.machine.check().unwrap();
    assert_eq!(setup.counts(0, HgmCounting::ThpLike), before);
}

#[test]
fn designs_count_differently() {
    let mut setup = setup(false, u32::MAX);
    setup.machine.munmap(setup.tid, WRITER, HUGE).unwrap();
    setup.map(0, 4 * PAGE).unwrap();
    // One process maps four pieces, each once. Who counts pieces takes them for four mappings.
    assert_eq!(setup.counts(0, HgmCounting::PerEntry), (5, 1, false));
    assert_eq!(setup.counts(0, HgmCounting::TotalReferences), (5, 4, true));
    assert_eq!(setup.counts(0, HgmCounting::ThpLike), (5, 1, false));
    assert_eq!(setup.counts(9, HgmCounting::ThpLike), (5, 0, false));
    assert_eq!(setup.counts(0, HgmCounting::OneLogical), (2, 1, false));
}

#[test]
fn references_do_not_overflow() {
    let mut setup = setup(false, 5);
    let done = setup
        .machine
        .uffd_continue(setup.tid, setup.uffd, READER, 4 * PAGE, 0);
    assert_eq!(done.out, Some(3 * 4096), "then it is too many");
    setup.machine.check().unwrap();
    assert_eq!(setup.map(3 * PAGE, PAGE), Err(Errno::ENOMEM.into()));
}

#[test]
fn only_the_broken_piece_is_lost() {
    let mut setup = setup(false, u32::MAX);
    setup.map(0, HUGE).unwrap();
    setup
        .machine
        .madvise(setup.tid, READER + 7 * PAGE, PAGE, madv::HWPOISON)
        .unwrap();
    setup.machine.check().unwrap();
    assert_eq!(setup.load(6 * PAGE), Ok(6));
    let trap = setup.load(7 * PAGE);
    let signal = Signal::BusMceerrAr { lsb: 12 };
    let addr = READER + 7 * PAGE;
    assert_eq!(trap, Err(Trap::Signal { signal, addr }));
    // The other mapping has no small entries: there it is the whole page.
    let mut byte = [0];
    let whole = setup.machine.load(setup.tid, WRITER, &mut byte);
    let signal = Signal::BusMceerrAr { lsb: 21 };
    assert_eq!(
        whole,
        Err(Trap::Signal {
            signal,
            addr: WRITER
        })
    );
    // Collapsing leaves what is broken as it is.
    setup
        .machine
        .madvise(setup.tid, READER, HUGE, madv::COLLAPSE)
        .unwrap();
    assert_eq!(setup.load(6 * PAGE), Ok(6));
    setup.load(7 * PAGE).unwrap_err();
}
