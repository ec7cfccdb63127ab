//! The application: a modelled process that does something to its memory at every turn, and keeps
//! a log of what it wrote.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use lab::generate::Random;
use mm::machine::Pid;
use mm::pin::PinId;
use mm::profile::HugePool;
use mm::readout::pagemap::PagemapBits;
use mm::space::{SharedMachine, Watched};
use mm::uapi::uffd::register;
use mm::uapi::{madv, map, prot};
use mm::vma::VmaFlags;
use mm::{Fd, Machine, Mmap, Mremap, Profile, Stop, Tid, Trap};
use space::{Errno, PageRange, PageSource, RangeSet, Tracking, Vaddr};

use crate::run::Plan;
use crate::sink::{Value, value_of};

/// Some pages beside each other.
const SMALL: u64 = 0x10_0000_0000;
const SMALL_PAGES: u64 = 64;
/// Mappings of as much as one page table maps each.
const TABLES: u64 = 0x20_0000_0000;
const TABLES_COUNT: u64 = 3;
/// A terabyte with next to nothing in it.
const SPARSE: u64 = 0x2000_0000_0000;
const SPARSE_LEN: u64 = 1 << 40;
/// hugetlb pages, and memory for transparent huge pages.
const HUGE: u64 = 0x40_0000_0000;
const RW: u64 = prot::READ | prot::WRITE;
const FILE_PAGES: u64 = 32;

/// What the frozen memory held.
pub(crate) struct Truth {
    /// The pages that can be read.
    pub(crate) values: BTreeMap<u64, Value>,
    /// The machine at that instant.
    machine: Machine,
    /// The same, for reading: that brings pages.
    scratch: Watched,
    pid: Pid,
    /// The pages that the application ever uses.
    pub(crate) places: Vec<u64>,
}

impl Truth {
    /// What a page holds that the application itself never uses.
    pub(crate) fn value(&self, page: u64, page_size: u64) -> Option<Value> {
        let mut bytes = vec![0; usize::try_from(page_size).unwrap()];
        let range = PageRange::new(Vaddr(page), Vaddr(page + page_size)).unwrap();
        self.scratch.read(&[range], &mut bytes).ok()?;
        Some(value_of(&bytes))
    }

    /// Tells whether reading what is not there waits for the application's own handler.
    pub(crate) fn is_foreign(&self, page: u64) -> bool {
        waits(&self.machine, self.pid, page)
    }

    /// The mapping of a page and what pagemap says of it, for messages.
    pub(crate) fn describe(&self, page: u64) -> String {
        let vmas = self.machine.vmas(self.pid).unwrap();
        let vma = vmas.into_iter().find(|vma| vma.contains(page));
        let word = word(&self.machine, self.pid, page);
        format!("{vma:?} {word:?}")
    }
}

pub(crate) struct App {
    pub(crate) machine: SharedMachine,
    pub(crate) tid: Tid,
    pub(crate) random: Random,
    pub(crate) frozen: bool,
    pub(crate) busy: bool,
    pid: Pid,
    page: u64,
    /// What one page table maps.
    table: u64,
    /// The size of the hugetlb or transparent huge page, if there is one.
    huge: Option<Huge>,
    places: Vec<u64>,
    /// The words that were written to private memory and are there still, by address.
    log: BTreeMap<u64, u64>,
    pins: Vec<(PinId, u64, u64)>,
    files: Vec<Fd>,
    handler: Fd,
    children: Vec<Tid>,
    number: u64,
}

/// Something that an application does.
type Step = fn(&mut App);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Huge {
    Hugetlb,
    Transparent,
}

fn word(machine: &Machine, pid: Pid, page: u64) -> PagemapBits {
    let mut word = [0];
    machine.pagemap(pid, page, &mut word).unwrap();
    PagemapBits::from_bits_truncate(word[0])
}

fn waits(machine: &Machine, pid: Pid, page: u64) -> bool {
    let mut vmas = machine.vmas(pid).unwrap();
    vmas.any(|vma| vma.contains(page) && vma.has(VmaFlags::UFFD_MISSING))
}

impl App {
    pub(crate) fn new(seed: u64, plan: Plan) -> Self {
        let mut random = Random::new(seed);
        let mut profile = Profile::new(plan.kernel, plan.arch);
        profile.swap_pages = random.one_of(&[0, 256]);
        let (page, table) = (profile.page_size(), profile.geometry().pmd_size());
        // Large huge pages take long to copy.
        let rare = if table > 1 << 24 { 150 } else { 8 };
        let huge = match seed % rare {
            3 => Some(Huge::Hugetlb),
            5 => Some(Huge::Transparent),
            _ => None,
        };
        if huge == Some(Huge::Hugetlb) {
            profile.huge_pools = vec![HugePool {
                shift: table.trailing_zeros(),
                pages: 3,
                overcommit: 0,
            }];
        }
        let mut machine = Machine::new(profile);
        let tid = machine.spawn();
        let pid = machine.pid_of(tid).unwrap();
        let files = ["one", "two"].map(|name| machine.memfd_create(tid, name, 0).unwrap());
        for fd in files {
            machine.ftruncate(tid, fd, FILE_PAGES * page).unwrap();
        }
        let handler = machine.userfaultfd(tid, 0).unwrap();
        machine
            .uffd_api(tid, handler, mm::uapi::uffd::API, 0)
            .0
            .unwrap();
        let mut app = Self {
            machine: Arc::new(Mutex::new(machine)),
            tid,
            random,
            frozen: false,
            busy: plan.busy,
            pid,
            page,
            table,
            huge,
            places: Vec::new(),
            log: BTreeMap::new(),
            pins: Vec::new(),
            files: files.to_vec(),
            handler,
            children: Vec::new(),
            number: 0,
        };
        app.settle(plan.busy);
        app
    }

    /// Maps what there is from the start, and touches some of it.
    fn settle(&mut self, busy: bool) {
        let page = self.page;
        self.places
            .extend((0..SMALL_PAGES).map(|index| SMALL + index * page));
        let in_table = [0, page, self.table / 2, self.table - page];
        for slot in 0..TABLES_COUNT {
            let start = TABLES + slot * self.table;
            self.places.extend(in_table.map(|offset| start + offset));
            self.map_anonymous(start, self.table, 0);
        }
        let spots = [0, 1, 3, 7].map(|part| SPARSE + part * (SPARSE_LEN / 8));
        self.places
            .extend(spots.iter().flat_map(|&at| [at, at + page]));
        self.map_anonymous(SPARSE, SPARSE_LEN, map::NORESERVE);
        if let Some(huge) = self.huge {
            self.places.extend(in_table.map(|offset| HUGE + offset));
            match huge {
                Huge::Hugetlb => self.map_anonymous(HUGE, self.table, map::HUGETLB),
                Huge::Transparent => {
                    self.map_anonymous(HUGE, self.table, 0);
                    let (tid, table) = (self.tid, self.table);
                    self.machine()
                        .madvise(tid, HUGE, table, madv::HUGEPAGE)
                        .unwrap();
                }
            }
        }
        if busy {
            (0..10).for_each(|_| self.map());
        } else {
            self.map_anonymous(SMALL, SMALL_PAGES * page, 0);
        }
        (0..60).for_each(|_| self.store());
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap()
    }

    /// The application goes on for a bit, if it may.
    pub(crate) fn tick(&mut self) {
        if self.frozen || !self.busy || self.random.below(3) > 0 {
            return;
        }
        for _ in 0..self.random.below(4) {
            self.step();
        }
    }

    pub(crate) fn step(&mut self) {
        let weighted: &[(u64, Step)] = &[
            (40, Self::store),
            (8, Self::load),
            (3, Self::read_file),
            (5, Self::drop_pages),
            (4, Self::map),
            (2, Self::unmap),
            (4, Self::protect),
            (4, Self::remap),
            (2, Self::swap_tables),
            (1, Self::move_table),
            (4, Self::write_file),
            (2, Self::punch_hole),
            (1, Self::truncate),
            (3, Self::set_flag),
            (1, Self::free),
            (3, Self::page_out),
            (3, Self::guard),
            (2, Self::pin),
            (5, Self::device_writes),
            (1, Self::fork),
            (4, Self::child_stores),
            (1, Self::child_ends),
            (2, Self::register),
            (2, Self::populate),
            (1, Self::collapse),
        ];
        let step = self.random.weighted(weighted);
        step(self);
    }

    /// Tells whether it has hugetlb pages, of which there are few.
    pub(crate) fn has_hugetlb(&self) -> bool {
        self.huge == Some(Huge::Hugetlb)
    }

    fn number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn place(&mut self) -> u64 {
        self.random.one_of(&self.places)
    }

    /// Some pages from a place on: a few, or all that one table maps.
    fn span(&mut self) -> (u64, u64) {
        let start = self.place();
        if start < SMALL + SMALL_PAGES * self.page {
            let room = (SMALL + SMALL_PAGES * self.page - start) / self.page;
            (start, (1 + self.random.below(room.min(12))) * self.page)
        } else if self.random.below(3) == 0 && start.is_multiple_of(self.table) {
            (start, self.table)
        } else {
            (start, self.page)
        }
    }

    /// What is written in these pages is known no more.
    fn forget(&mut self, start: u64, len: u64) {
        let gone: Vec<_> = self
            .log
            .range(start..start + len)
            .map(|(&at, _)| at)
            .collect();
        for at in gone {
            self.log.remove(&at);
        }
    }

    /// One of the words of a page that count.
    fn word_of(&mut self, page: u64) -> u64 {
        page + self.random.one_of(&[0, self.page - 8])
    }

    fn store(&mut self) {
        let page = self.place();
        self.store_to(page);
    }

    /// Stores a new number to a page; tells whether it could.
    pub(crate) fn store_to(&mut self, page: u64) -> bool {
        let (addr, number, tid) = (self.word_of(page), self.number(), self.tid);
        let mut stored = self.machine().store(tid, addr, &number.to_le_bytes());
        if matches!(stored, Err(Trap::Blocked(_))) {
            self.serve(page);
            stored = self.machine().store(tid, addr, &number.to_le_bytes());
        }
        if stored.is_err() {
            return false;
        }
        let machine = self.machine();
        let vma = machine
            .vmas(self.pid)
            .unwrap()
            .find(|vma| vma.contains(page))
            .unwrap();
        let shared = vma.has(VmaFlags::MAYSHARE);
        drop(machine);
        if !shared {
            self.log.insert(addr, number);
        }
        true
    }

    fn load(&mut self) {
        let (page, tid) = (self.place(), self.tid);
        let loaded = self.machine().load(tid, page, &mut [0; 8]);
        if matches!(loaded, Err(Trap::Blocked(_))) {
            self.serve(page);
        }
    }

    /// The handler of the application's own userfaultfd brings a page of zeros.
    fn serve(&mut self, page: u64) {
        let (tid, fd, len) = (self.tid, self.handler, self.page);
        let served = self.machine().uffd_zeropage(tid, fd, page, len, 0).result;
        // Shared memory may be in its file already, and then nobody waits for it.
        assert!(
            matches!(served, Ok(()) | Err(Stop::Failed(Errno::EEXIST))),
            "{served:?}"
        );
    }

    /// Before somebody else reads a page: the handler of the application runs, unless it stands
    /// still, and then nobody may ask for what is not there.
    pub(crate) fn before_read(&mut self, page: u64) {
        let there = PagemapBits::PRESENT | PagemapBits::SWAP;
        let missing = {
            let machine = self.machine();
            waits(&machine, self.pid, page) && !word(&machine, self.pid, page).intersects(there)
        };
        if missing {
            assert!(
                !self.frozen,
                "page {page:#x}: waits for somebody else's handler"
            );
            self.serve(page);
        }
    }

    /// The kernel stores, for a system call.
    fn read_file(&mut self) {
        let (page, tid) = (self.place(), self.tid);
        if waits(&self.machine(), self.pid, page) {
            return;
        }
        let fd = self.random.one_of(&self.files);
        self.forget(page, self.page);
        let offset = self.random.below(FILE_PAGES) * self.page;
        let len = self.page;
        _ = self.machine().read(tid, fd, page, len, offset);
    }

    fn drop_pages(&mut self) {
        let (start, len) = self.span();
        self.forget(start, len);
        let advice = self
            .random
            .one_of(&[madv::DONTNEED, madv::DONTNEED, madv::REMOVE]);
        self.advise(start, len, advice);
    }

    fn advise(&mut self, start: u64, len: u64, advice: i32) {
        let tid = self.tid;
        _ = self.machine().madvise(tid, start, len, advice);
    }

    fn map_anonymous(&mut self, addr: u64, len: u64, flags: u64) {
        let args = Mmap {
            addr,
            len,
            prot: RW,
            flags: map::PRIVATE | map::ANONYMOUS | map::FIXED | flags,
            fd: -1,
            offset: 0,
            choice: None,
        };
        self.map_over(args);
    }

    fn map_over(&mut self, args: Mmap) {
        let tid = self.tid;
        self.forget(args.addr, args.len);
        let mapped = self.machine().mmap(tid, args);
        // A huge page that was moved here can't be cut.
        assert!(mapped.is_ok() || self.has_hugetlb(), "{mapped:?}");
    }

    /// Maps something over whatever is there.
    fn map(&mut self) {
        let (start, len) = self.span();
        if (HUGE..SPARSE).contains(&start) {
            return;
        }
        let kind = self.random.below(10);
        if kind < 6 {
            return self.map_anonymous(start, len, 0);
        }
        let file = self.random.one_of(&[0, 0, map::ANONYMOUS]);
        let (flags, fd) = match kind {
            6..=7 => (map::PRIVATE, self.random.one_of(&self.files)),
            _ if file == 0 => (map::SHARED, self.random.one_of(&self.files)),
            _ => (map::SHARED | map::ANONYMOUS, -1),
        };
        let offset = self.random.below(FILE_PAGES) * self.page;
        let args = Mmap {
            addr: start,
            len,
            prot: RW,
            flags: flags | map::FIXED,
            fd,
            offset,
            choice: None,
        };
        self.map_over(args);
    }

    fn unmap(&mut self) {
        let (start, len) = self.span();
        if start < TABLES {
            self.forget(start, len);
            let tid = self.tid;
            let unmapped = self.machine().munmap(tid, start, len);
            assert!(unmapped.is_ok() || self.has_hugetlb(), "{unmapped:?}");
        }
    }

    fn protect(&mut self) {
        let (start, len) = self.span();
        let protection = self.random.one_of(&[0, prot::READ, RW, RW, RW]);
        let tid = self.tid;
        _ = self.machine().mprotect(tid, start, len, protection);
    }

    /// Tells whether a device has some of these pages: it keeps writing to them wherever they go,
    /// and then where it writes can't be told any more.
    fn is_pinned(&self, start: u64, len: u64) -> bool {
        let overlaps =
            |&(_, at, pinned): &(PinId, u64, u64)| at < start + len && start < at + pinned;
        self.pins.iter().any(overlaps)
    }

    fn remap(&mut self) {
        let (old, len) = self.span();
        if self.is_pinned(old, len) || old >= SPARSE {
            return;
        }
        let whole = len == self.table;
        let new = if whole {
            TABLES + self.random.below(TABLES_COUNT) * self.table
        } else {
            let room = SMALL_PAGES - len / self.page;
            SMALL + self.random.below(room + 1) * self.page
        };
        let extra = self.random.one_of(&[0, 0, mm::uapi::mremap::DONTUNMAP]);
        let new_len = if extra == 0 && !whole {
            (1 + self.random.below(len / self.page)) * self.page
        } else {
            len
        };
        self.remap_to(old, len, new, new_len, extra);
    }

    fn remap_to(&mut self, old: u64, old_len: u64, new: u64, new_len: u64, extra: u64) {
        self.forget(old, old_len);
        self.forget(new, new_len);
        let args = Mremap {
            old,
            old_len,
            new_len,
            flags: mm::uapi::mremap::MAYMOVE | mm::uapi::mremap::FIXED | extra,
            new,
            choice: None,
        };
        let tid = self.tid;
        _ = self.machine().mremap(tid, args);
    }

    /// Two mappings of a page table's size change places.
    fn swap_tables(&mut self) {
        let table = self.table;
        if self.is_pinned(TABLES, TABLES_COUNT * table) {
            return;
        }
        let free = self.random.below(TABLES_COUNT);
        let slot = |index: u64| TABLES + ((free + index) % TABLES_COUNT) * table;
        for (from, to) in [(1, 0), (2, 1), (0, 2)] {
            self.remap_to(slot(from), table, slot(to), table, 0);
        }
        self.map_anonymous(slot(0), table, 0);
    }

    /// A mapping of a page table's size takes the place of another.
    fn move_table(&mut self) {
        let table = self.table;
        if self.is_pinned(TABLES, TABLES_COUNT * table) {
            return;
        }
        let from = self.random.below(TABLES_COUNT);
        let to = (from + 1) % TABLES_COUNT;
        self.remap_to(TABLES + from * table, table, TABLES + to * table, table, 0);
        if self.random.below(2) == 0 {
            self.map_anonymous(TABLES + from * table, table, 0);
        }
    }

    fn write_file(&mut self) {
        let (fd, tid) = (self.random.one_of(&self.files), self.tid);
        let offset = self.random.below(FILE_PAGES) * self.page;
        // From the page that holds a number, if one can be read.
        let from = self.place();
        if !waits(&self.machine(), self.pid, from) {
            let len = self.page;
            _ = self.machine().write(tid, fd, from, len, offset);
        }
    }

    fn punch_hole(&mut self) {
        let (fd, tid) = (self.random.one_of(&self.files), self.tid);
        let offset = self.random.below(FILE_PAGES) * self.page;
        let mode = mm::uapi::file::FALLOC_PUNCH_HOLE | mm::uapi::file::FALLOC_KEEP_SIZE;
        let len = self.page;
        self.machine()
            .fallocate(tid, fd, mode, offset, len)
            .unwrap();
    }

    /// A file is cut, and private copies of its pages go as well.
    fn truncate(&mut self) {
        let (fd, tid) = (self.random.one_of(&self.files), self.tid);
        let size = (FILE_PAGES - self.random.below(12)) * self.page;
        self.log.clear();
        self.machine().ftruncate(tid, fd, size).unwrap();
    }

    fn set_flag(&mut self) {
        let (start, len) = self.span();
        let advice = self.random.one_of(&[
            madv::DONTFORK,
            madv::DOFORK,
            madv::WIPEONFORK,
            madv::KEEPONFORK,
            madv::DONTDUMP,
            madv::DODUMP,
        ]);
        self.advise(start, len, advice);
    }

    fn free(&mut self) {
        let (start, len) = self.span();
        self.forget(start, len);
        self.advise(start, len, madv::FREE);
    }

    fn page_out(&mut self) {
        let (start, len) = self.span();
        self.advise(start, len, madv::PAGEOUT);
    }

    fn guard(&mut self) {
        let (start, len) = self.span();
        let advice = self
            .random
            .one_of(&[madv::GUARD_INSTALL, madv::GUARD_REMOVE]);
        // A whole table of guards would be read page by page.
        if len < self.table {
            self.forget(start, len);
            self.advise(start, len, advice);
        }
    }

    fn pin(&mut self) {
        let (start, len) = self.span();
        let tid = self.tid;
        let waiting = (start..start + len).step_by(usize::try_from(self.page).unwrap());
        if len == self.table
            || waiting
                .into_iter()
                .any(|page| waits(&self.machine(), self.pid, page))
        {
            return;
        }
        let pinned = self.machine().pin_buffer(tid, start, len);
        if let Ok(pin) = pinned {
            self.pins.push((pin, start, len));
        }
    }

    /// Writes reach pinned memory, and no bit of a page table changes.
    fn device_writes(&mut self) {
        if self.pins.is_empty() {
            return;
        }
        let number = self.number();
        let (pin, start, len) = self.random.one_of(&self.pins);
        let page = self.random.below(len / self.page) * self.page;
        self.forget(start + page, self.page);
        self.machine()
            .pin_write(pin, page, &number.to_le_bytes())
            .unwrap();
    }

    /// Gives all pinned memory back. Only between two snapshots: a device that was done before the
    /// freeze, and began before that was asked, is what nobody can know of.
    pub(crate) fn unpin(&mut self) {
        for (pin, ..) in std::mem::take(&mut self.pins) {
            self.machine().unpin_buffer(pin).unwrap();
        }
    }

    /// The addresses of pinned memory.
    pub(crate) fn pinned(&self) -> RangeSet {
        let range = |start, len| PageRange::new(Vaddr(start), Vaddr(start + len));
        self.pins
            .iter()
            .filter_map(|&(_, start, len)| range(start, len))
            .collect()
    }

    fn fork(&mut self) {
        if self.children.len() < 2 {
            let tid = self.tid;
            let child = self.machine().fork(tid);
            assert!(child.is_ok() || self.has_hugetlb(), "{child:?}");
            self.children.extend(child);
        }
    }

    fn child_stores(&mut self) {
        if self.children.is_empty() {
            return;
        }
        let (page, number) = (self.place(), self.number());
        let child = self.random.one_of(&self.children);
        _ = self.machine().store(child, page, &number.to_le_bytes());
    }

    fn child_ends(&mut self) {
        if let Some(child) = self.children.pop() {
            self.machine().exit(child).unwrap();
        }
    }

    /// Some memory is served by the application itself from now on, or is no more.
    fn register(&mut self) {
        let (start, len) = self.span();
        let (tid, fd) = (self.tid, self.handler);
        if start >= TABLES {
            return;
        }
        if self.random.below(2) == 0 {
            _ = self.machine().uffd_unregister(tid, fd, start, len);
        } else {
            _ = self
                .machine()
                .uffd_register(tid, fd, start, len, register::MISSING);
        }
    }

    fn populate(&mut self) {
        let (start, len) = self.span();
        let advice = self
            .random
            .one_of(&[madv::POPULATE_READ, madv::POPULATE_WRITE]);
        if len < self.table && !waits(&self.machine(), self.pid, start) {
            // Where it would wait half way, the call ends there.
            self.advise(start, self.page, advice);
        }
    }

    fn collapse(&mut self) {
        if self.huge == Some(Huge::Transparent) {
            let table = self.table;
            self.advise(HUGE, table, madv::COLLAPSE);
        }
    }

    /// Stores to so many of its private pages.
    pub(crate) fn write_pages(&mut self, count: usize) {
        let pages: Vec<u64> = self.places[..count].to_vec();
        for page in pages {
            assert!(self.store_to(page));
        }
    }

    /// What the memory holds now. Whatever the log of writes says must be in it.
    pub(crate) fn truth(&self) -> Truth {
        let machine = self.machine().clone();
        let scratch = Arc::new(Mutex::new(machine.clone()));
        let mut truth = Truth {
            values: BTreeMap::new(),
            scratch: Watched::new(scratch, self.tid, Tracking::None).unwrap(),
            machine,
            pid: self.pid,
            places: self.places.clone(),
        };
        for &page in &self.places {
            let there = word(&truth.machine, self.pid, page).contains(PagemapBits::PRESENT);
            if there || !truth.is_foreign(page) {
                let value = truth.value(page, self.page);
                truth.values.extend(value.map(|value| (page, value)));
            }
        }
        for (&addr, &number) in &self.log {
            let page = addr & !(self.page - 1);
            let known = truth.values.get(&page);
            let held = known.map(|value| if addr == page { value.0 } else { value.1 });
            let swapped = word(&truth.machine, self.pid, page).contains(PagemapBits::SWAP);
            let unseen = truth.is_foreign(page) && swapped;
            let text = || truth.describe(page);
            assert!(
                held == Some(number) || unseen,
                "{addr:#x}: {held:?}, not {number}: {}",
                text()
            );
        }
        truth
    }
}
