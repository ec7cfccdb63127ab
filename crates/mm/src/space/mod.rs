//! A modelled process as the engine sees one: [`AddressSpace`] and [`Freeze`](::space::Freeze)
//! over a [`Machine`].
//!
//! [`Watched`] does to the model what `sys` does to a live process: it has a userfaultfd with
//! asynchronous write protection made in the process and keeps it for itself, registers whole
//! mappings, scans with `PAGEMAP_SCAN`, and reads as `process_vm_readv` does. Or it uses
//! soft-dirty bits. So the engine's own code for tracking and snapshots runs on the model.

mod entries;
mod freeze;
mod listing;
mod reader;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use space::{
    AddressSpace, ByteLen, Errno, Mapping, PageFlags, PageRange, PageRun, PageSize, PageSource,
    Rearm, Scan, Sharing, Tracked, Tracking, Vaddr,
};

use crate::machine::{Fd, Machine, Pid, Tid};
use crate::profile::Kernel;
use crate::readout::scan::PagemapScan;
use crate::uapi::pagemap::{ARGUMENT_SIZE, ScanFlags};
use crate::uapi::uffd::{API, Features, register as mode};
use entries::Samples;
pub use reader::Reader;

/// What is written to `clear_refs` to clear the soft-dirty bits.
const CLEAR_REFS_SOFT_DIRTY: i32 = 4;

/// A machine that is worked on from several sides.
pub type SharedMachine = Arc<Mutex<Machine>>;

/// One process of a machine, watched.
#[derive(Debug)]
pub struct Watched {
    reader: Arc<Reader>,
    /// Our own process and, in it, the userfaultfd of the watched one.
    protect: Option<(Tid, Fd)>,
    tracking: Tracking,
    /// Where pages lay when the soft-dirty bits were cleared.
    samples: Samples,
    frozen: bool,
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
    /// Those of making a userfaultfd in it, `EINVAL` where the profile has no asynchronous write
    /// protection or no soft-dirty bits and they were asked for.
    pub fn new(machine: SharedMachine, tid: Tid, tracking: Tracking) -> Result<Self, Errno> {
        let (pid, protect) = {
            let mut held = lock(&machine);
            let pid = held.pid_of(tid)?;
            let protect = match tracking {
                Tracking::WriteProtect => Some(take_uffd(&mut held, tid)?),
                Tracking::SoftDirty if !held.profile().soft_dirty => return Err(Errno::EINVAL),
                Tracking::SoftDirty | Tracking::None => None,
            };
            (pid, protect)
        };
        Ok(Self::over(Reader { machine, pid }, tracking, protect))
    }

    fn over(reader: Reader, tracking: Tracking, protect: Option<(Tid, Fd)>) -> Self {
        Self {
            reader: Arc::new(reader),
            protect,
            tracking,
            samples: Samples::default(),
            frozen: false,
        }
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        lock(&self.reader.machine)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some((us, _)) = self.protect {
            // The machine may have lost us in a test.
            _ = self.machine().exit(us);
        }
    }
}

/// Has a thread make a userfaultfd, and moves its descriptor to a process of our own.
fn take_uffd(machine: &mut Machine, tid: Tid) -> Result<(Tid, Fd), Errno> {
    let fd = machine.userfaultfd(tid, 0)?;
    let (_, process) = machine.halves(tid)?;
    let descriptor = process.fds.remove(&fd).ok_or(Errno::EBADF)?;
    let us = machine.spawn();
    let (_, own) = machine.halves(us)?;
    let fd = own.add_fd(descriptor);
    let features = Features::WP_ASYNC | Features::WP_HUGETLBFS_SHMEM;
    let (result, _) = machine.uffd_api(us, fd, API, features.bits());
    result.map(|()| (us, fd)).inspect_err(|_| {
        // It was made a moment ago.
        _ = machine.exit(us);
    })
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
            .map(|vma| listing::mapping(&machine, pid, vma))
            .collect()
    }

    fn file_pages(&mut self, mapping: &Mapping, out: &mut Vec<PageRange>) -> Result<(), Errno> {
        if mapping.sharing == Sharing::Private {
            out.push(mapping.range);
            return Ok(());
        }
        listing::data(&self.machine(), self.reader.pid, mapping, out)
    }

    fn track(&mut self, ranges: &[PageRange], outcome: &mut Vec<Tracked>) -> Result<(), Errno> {
        let mut machine = self.machine();
        for &range in ranges {
            let done = match (self.tracking, self.protect) {
                (Tracking::SoftDirty, _) => Ok(()),
                (Tracking::WriteProtect, Some(protect)) => {
                    register(&mut machine, self.reader.pid, protect, range)
                }
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
        if self.tracking == Tracking::SoftDirty {
            let known = Some(&self.samples);
            let now = entries::scan(&self.machine(), pid, scan, ranges, known, out)?;
            if scan.rearm == Rearm::Rearm {
                self.machine().clear_refs(pid, CLEAR_REFS_SOFT_DIRTY)?;
                self.samples = now;
            }
            return Ok(());
        }
        let mut machine = self.machine();
        if machine.profile().kernel < Kernel::V6_12 {
            return entries::scan(&machine, pid, scan, ranges, None, out).map(drop);
        }
        for range in ranges {
            pagemap_scan(&mut machine, pid, scan, *range, out)?;
        }
        Ok(())
    }
}

/// Registers the mapping that a range lies in, all of it, and takes old marks off.
fn register(
    machine: &mut Machine,
    pid: Pid,
    (us, fd): (Tid, Fd),
    range: PageRange,
) -> Result<(), Errno> {
    let around = machine
        .vmas(pid)?
        .find(|vma| vma.contains(range.start().0))
        .filter(|vma| range.end().0 <= vma.end);
    let view = around.ok_or(Errno::EAGAIN)?.view();
    let (start, len) = (view.start, view.end - view.start);
    // A mapping that grew is registered already, new part and old.
    if len != range.len().0 && crate::uffd::is_wp_async(&machine.world, &view) {
        return Ok(());
    }
    machine.uffd_register(us, fd, start, len, mode::WP)?;
    machine.uffd_writeprotect(us, fd, start, len, 0)
}

fn pagemap_scan(
    machine: &mut Machine,
    pid: Pid,
    scan: &Scan,
    range: PageRange,
    out: &mut Vec<PageRun>,
) -> Result<(), Errno> {
    let flags = match scan.rearm {
        Rearm::Keep => ScanFlags::empty(),
        Rearm::KeepIfTracked => ScanFlags::CHECK_WPASYNC,
        Rearm::Rearm => ScanFlags::WP_MATCHING,
    };
    // On kernels before 6.15 guard pages can't be told from swapped ones.
    let unknown = match machine.profile().kernel {
        Kernel::V6_1 | Kernel::V6_12 => PageFlags::GUARD,
        Kernel::V6_18 | Kernel::V7_3 => PageFlags::empty(),
    };
    let args = PagemapScan {
        size: ARGUMENT_SIZE,
        flags: flags.bits(),
        start: range.start().0,
        end: range.end().0,
        vec_len: Some(u64::MAX),
        max_pages: 0,
        category_inverted: 0,
        category_mask: scan.all_of.bits(),
        category_anyof_mask: scan.any_of.bits(),
        return_mask: (scan.report - unknown).bits(),
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
