//! A modelled process as the engine sees one: [`AddressSpace`] over a [`Machine`].
//!
//! [`Watched`] does to the model what `sys` does to a live process: it has a userfaultfd with
//! asynchronous write protection made in the process, registers whole mappings, scans with
//! `PAGEMAP_SCAN`, and reads as `process_vm_readv` does. Or it uses soft-dirty bits. So the engine's
//! own code for tracking and snapshots can be run on the model.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use space::{
    AddressSpace, ByteLen, Errno, Mapping, MappingFlags, PageCount, PageFlags, PageRange, PageRun,
    PageSize, PageSource, Protection, Rearm, Scan, Sharing, Tracked, Tracking, Vaddr,
};

use crate::gup::{self, Foll};
use crate::machine::{Fd, Machine, Pid, Tid};
use crate::readout::pagemap::PagemapBits;
use crate::readout::scan::PagemapScan;
use crate::vma::{Vma, VmaFlags};

const UFFD_API: u64 = 0xaa;
const UFFD_FEATURE_WP_ASYNC: u64 = 1 << 15;
const UFFDIO_REGISTER_MODE_WP: u64 = 2;
const PM_SCAN_WP_MATCHING: u64 = 1;
const PM_SCAN_CHECK_WPASYNC: u64 = 2;
const PM_SCAN_ARG_SIZE: u64 = 96;
const CLEAR_REFS_SOFT_DIRTY: i32 = 4;

/// A machine that is worked on from several sides.
pub type SharedMachine = Arc<Mutex<Machine>>;

/// One process of a machine, watched.
#[derive(Debug)]
pub struct Watched {
    reader: Arc<Reader>,
    tid: Tid,
    /// The userfaultfd in the process.
    uffd: Option<Fd>,
    tracking: Tracking,
}

/// Reads the memory of a process of a machine.
#[derive(Debug)]
pub struct Reader {
    machine: SharedMachine,
    pid: Pid,
}

fn lock(machine: &SharedMachine) -> MutexGuard<'_, Machine> {
    // A model that panicked in a test is looked at as it is.
    machine.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watched {
    /// Watches the process of a thread.
    ///
    /// # Errors
    ///
    /// Those of making a userfaultfd in it, `EINVAL` where the profile has no soft-dirty bits and
    /// they were asked for.
    pub fn new(machine: SharedMachine, tid: Tid, tracking: Tracking) -> Result<Self, Errno> {
        let (pid, uffd) = {
            let mut held = lock(&machine);
            let pid = held.pid_of(tid)?;
            let uffd = match tracking {
                Tracking::WriteProtect => Some(armed_uffd(&mut held, tid)?),
                Tracking::SoftDirty if !held.profile().soft_dirty => return Err(Errno::EINVAL),
                Tracking::SoftDirty | Tracking::None => None,
            };
            (pid, uffd)
        };
        Ok(Self {
            reader: Arc::new(Reader { machine, pid }),
            tid,
            uffd,
            tracking,
        })
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        lock(&self.reader.machine)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(fd) = self.uffd {
            // The process may be gone, and its descriptors with it.
            let _ = self.machine().close(self.tid, fd);
        }
    }
}

fn armed_uffd(machine: &mut Machine, tid: Tid) -> Result<Fd, Errno> {
    let fd = machine.userfaultfd(tid, 0)?;
    let (result, _) = machine.uffd_api(tid, fd, UFFD_API, UFFD_FEATURE_WP_ASYNC);
    result.map(|()| fd)
}

impl PageSource for Reader {
    fn read(&self, ranges: &[PageRange], buf: &mut [u8]) -> Result<ByteLen, Errno> {
        let mut machine = lock(&self.machine);
        let tid = machine.threads_of(self.pid).next().ok_or(Errno::ESRCH)?;
        let (world, process) = machine.halves_of(self.pid)?;
        let page_size = world.frames.page_size();
        let mut done = 0;
        for range in ranges {
            for addr in (range.start().0..range.end().0).step_by(page_size) {
                let vma = process.mm.vmas.lookup(addr);
                let allowed = vma.is_some_and(|vma| gup::check_vma_flags(vma, Foll::FORCE).is_ok());
                let pfn = if allowed {
                    gup::get_page(world, &mut process.mm, tid, addr, Foll::empty()).ok()
                } else {
                    None
                };
                match pfn {
                    Some(pfn) => {
                        let page = &mut buf[done..done + page_size];
                        world.frames.frame(pfn).content.read(0, page);
                    }
                    None if done == 0 => return Err(Errno::EFAULT),
                    None => return Ok(bytes(done)),
                }
                done += page_size;
            }
        }
        Ok(bytes(done))
    }
}

fn bytes(len: usize) -> ByteLen {
    ByteLen(u64::try_from(len).expect("a length of memory fits"))
}

impl PageSource for Watched {
    fn read(&self, ranges: &[PageRange], buf: &mut [u8]) -> Result<ByteLen, Errno> {
        self.reader.read(ranges, buf)
    }
}

impl AddressSpace for Watched {
    type Reader = Reader;

    fn reader(&self) -> Arc<Reader> {
        Arc::clone(&self.reader)
    }

    fn page_size(&self) -> PageSize {
        let bytes = self.machine().profile().page_size();
        PageSize::new(bytes).expect("an architecture's page size is one")
    }

    fn tracking(&self) -> Tracking {
        self.tracking
    }

    fn absent_is_written(&self) -> bool {
        // Seen on 6.12, 6.18 and 7.3, holes in the page tables included.
        self.tracking == Tracking::WriteProtect
    }

    fn mappings(&mut self) -> Result<Vec<Mapping>, Errno> {
        let machine = self.machine();
        let pid = self.reader.pid;
        machine
            .vmas(pid)?
            .map(|vma| mapping(&machine, pid, vma))
            .collect()
    }

    fn file_pages(&mut self, mapping: &Mapping, out: &mut Vec<PageRange>) -> Result<(), Errno> {
        if mapping.sharing == Sharing::Private {
            out.push(mapping.range);
            return Ok(());
        }
        let page_size = self.page_size();
        let machine = self.machine();
        let (start, end) = (mapping.range.start().0, mapping.range.end().0);
        for vma in machine.vmas(self.reader.pid)? {
            let Some(file) = vma.file.filter(|_| vma.start < end && start < vma.end) else {
                continue;
            };
            let first = vma.index_of(vma.start.max(start), page_size.shift());
            let behind = vma.index_of(vma.end.min(end), page_size.shift());
            let file = machine.world.files.get(file);
            let pages = 1_u64 << (vma.page_shift - page_size.shift());
            for &index in file.pages.range(first..behind).map(|(index, _)| index) {
                let at = vma.start + ((index - vma.pgoff) << page_size.shift());
                let range = PageRange::from_pages(Vaddr(at), PageCount(pages), page_size);
                out.extend(range);
            }
        }
        Ok(())
    }

    fn track(&mut self, ranges: &[PageRange], outcome: &mut Vec<Tracked>) -> Result<(), Errno> {
        let mut machine = self.machine();
        for &range in ranges {
            let done = match (self.tracking, self.uffd) {
                (Tracking::SoftDirty, _) => Ok(()),
                (Tracking::WriteProtect, Some(fd)) => register(&mut machine, self.tid, fd, range),
                _ => Err(Errno::ENOSYS),
            };
            outcome.push(match done {
                Ok(()) => Tracked::Yes(range),
                Err(errno) => Tracked::No(range, errno),
            });
        }
        Ok(())
    }

    fn scan(
        &mut self,
        scan: &Scan,
        ranges: &[PageRange],
        out: &mut Vec<PageRun>,
    ) -> Result<(), Errno> {
        let pid = self.reader.pid;
        let mut machine = self.machine();
        if self.tracking == Tracking::SoftDirty {
            soft_dirty_scan(&machine, pid, scan, ranges, out)?;
            return match scan.rearm {
                Rearm::Rearm => machine.clear_refs(pid, CLEAR_REFS_SOFT_DIRTY),
                Rearm::Keep | Rearm::KeepIfTracked => Ok(()),
            };
        }
        for range in ranges {
            pagemap_scan(&mut machine, pid, scan, *range, out)?;
        }
        Ok(())
    }
}

/// Registers the mapping that a range lies in, all of it, and takes old marks off.
fn register(machine: &mut Machine, tid: Tid, fd: Fd, range: PageRange) -> Result<(), Errno> {
    let pid = machine.pid_of(tid)?;
    let around = machine
        .vmas(pid)?
        .find(|vma| vma.contains(range.start().0))
        .filter(|vma| range.end().0 <= vma.end)
        .map(|vma| (vma.start, vma.bytes(), vma.has(VmaFlags::UFFD_WP)));
    let (start, len, registered) = around.ok_or(Errno::EAGAIN)?;
    if registered {
        return Ok(());
    }
    machine.uffd_register(tid, fd, start, len, UFFDIO_REGISTER_MODE_WP)?;
    machine.uffd_writeprotect(tid, fd, start, len, 0)
}

fn pagemap_scan(
    machine: &mut Machine,
    pid: Pid,
    scan: &Scan,
    range: PageRange,
    out: &mut Vec<PageRun>,
) -> Result<(), Errno> {
    let flags = match scan.rearm {
        Rearm::Keep => 0,
        Rearm::KeepIfTracked => PM_SCAN_CHECK_WPASYNC,
        Rearm::Rearm => PM_SCAN_WP_MATCHING,
    };
    let args = PagemapScan {
        size: PM_SCAN_ARG_SIZE,
        flags,
        start: range.start().0,
        end: range.end().0,
        vec_len: Some(u64::MAX),
        max_pages: 0,
        category_inverted: 0,
        category_mask: scan.all_of.bits(),
        category_anyof_mask: scan.any_of.bits(),
        return_mask: scan.report.bits(),
    };
    let reply = machine.pagemap_scan(pid, &args);
    reply.result?;
    out.extend(reply.regions.iter().filter_map(|region| {
        Some(PageRun {
            range: PageRange::new(Vaddr(region.start), Vaddr(region.end))?,
            flags: PageFlags::from_bits_retain(region.categories),
        })
    }));
    Ok(())
}

/// What `sys` makes of pagemap's words where there is no scan.
fn soft_dirty_scan(
    machine: &Machine,
    pid: Pid,
    scan: &Scan,
    ranges: &[PageRange],
    out: &mut Vec<PageRun>,
) -> Result<(), Errno> {
    let page_size = PageSize::new(machine.profile().page_size()).expect("it is a page size");
    for range in ranges {
        for page in range.chunks(ByteLen(page_size.bytes())) {
            let mut word = [0];
            machine.pagemap(pid, page.start().0, &mut word)?;
            let flags = flags_of(PagemapBits::from_bits_truncate(word[0]));
            let wanted = flags.contains(scan.all_of)
                && (scan.any_of.is_empty() || flags.intersects(scan.any_of));
            if !wanted {
                continue;
            }
            let flags = flags & scan.report;
            match out.last_mut() {
                Some(last) if last.range.end() == page.start() && last.flags == flags => {
                    let longer = PageRange::new(last.range.start(), page.end());
                    last.range = longer.expect("a longer range is one");
                }
                _ => out.push(PageRun { range: page, flags }),
            }
        }
    }
    Ok(())
}

fn flags_of(bits: PagemapBits) -> PageFlags {
    let mut flags = PageFlags::empty();
    flags.set(PageFlags::PRESENT, bits.contains(PagemapBits::PRESENT));
    flags.set(PageFlags::SWAPPED, bits.contains(PagemapBits::SWAP));
    flags.set(PageFlags::FILE, bits.contains(PagemapBits::FILE));
    let dirty = PageFlags::SOFT_DIRTY | PageFlags::WRITTEN;
    flags.set(dirty, bits.contains(PagemapBits::SOFT_DIRTY));
    flags
}

/// A mapping as `smaps` shows it.
fn mapping(machine: &Machine, pid: Pid, vma: &Vma) -> Result<Mapping, Errno> {
    let range = PageRange::new(Vaddr(vma.start), Vaddr(vma.end)).expect("a mapping is a range");
    let mut protection = Protection::empty();
    protection.set(Protection::READ, vma.has(VmaFlags::READ));
    protection.set(Protection::WRITE, vma.has(VmaFlags::WRITE));
    protection.set(Protection::EXEC, vma.has(VmaFlags::EXEC));
    let shared = vma.has(VmaFlags::MAYSHARE);
    let mut flags = MappingFlags::empty();
    for (shown, has) in [
        (MappingFlags::HUGETLB, VmaFlags::HUGETLB),
        (MappingFlags::DONT_DUMP, VmaFlags::DONTDUMP),
        (MappingFlags::DONT_FORK, VmaFlags::DONTCOPY),
        (MappingFlags::WIPE_ON_FORK, VmaFlags::WIPEONFORK),
        (MappingFlags::GROWS_DOWN, VmaFlags::GROWSDOWN),
        (MappingFlags::LOCKED, VmaFlags::LOCKED),
    ] {
        flags.set(shown, vma.has(has));
    }
    flags.set(MappingFlags::USERFAULT, vma.uffd_armed());
    let waits = VmaFlags::UFFD_MISSING | VmaFlags::UFFD_MINOR;
    flags.set(MappingFlags::USERFAULT_WAITS, vma.flags.intersects(waits));
    flags.set(MappingFlags::UNLINKED, vma.file.is_some());
    let own_pages = vma.file.is_some() && !shared && has_own_pages(machine, pid, vma)?;
    flags.set(MappingFlags::HAS_OWN_PAGES, own_pages);
    Ok(Mapping {
        range,
        protection,
        sharing: if shared {
            Sharing::Shared
        } else {
            Sharing::Private
        },
        file_offset: vma
            .file
            .map_or(0, |_| vma.pgoff << machine.world.page_shift()),
        device: vma.file.map_or((0, 0), |_| (0, 1)),
        inode: vma.file.map_or(0, |file| u64::from(file.0) + 1),
        name: vma.file.map_or_else(String::new, |file| {
            machine.world.files.get(file).name.clone()
        }),
        flags,
        page_size: PageSize::new(1 << vma.page_shift).expect("a page size is one"),
    })
}

fn has_own_pages(machine: &Machine, pid: Pid, vma: &Vma) -> Result<bool, Errno> {
    let page_size = machine.profile().page_size();
    let pages = usize::try_from(vma.bytes() / page_size).expect("few pages");
    let mut words = vec![0; pages];
    machine.pagemap(pid, vma.start, &mut words)?;
    let there = PagemapBits::PRESENT | PagemapBits::FILE;
    Ok(words
        .iter()
        .map(|&word| PagemapBits::from_bits_truncate(word))
        .any(|bits| bits & there == PagemapBits::PRESENT))
}
