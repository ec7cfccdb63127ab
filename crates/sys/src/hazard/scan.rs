//! Looking at a process, and putting the signs together.

use std::collections::BTreeSet;

use space::{Errno, Mapping, PageRange, PageSize, Protection, RangeSet, Vaddr};

use super::descriptors::descriptor_holders;
use super::kernel_shared::{is_aio_ring, is_io_uring, partner};
use super::kind::Kind;
use super::moved::is_gone;
use super::ring::{Ring, RingError, pages_of};
use super::{Danger, Hazards, Unproven, unaccounted_pins};
use crate::procfs::{Descriptor, Process, ProcfsError, Stat};

/// Looks for signs that memory of process `pid` is written past its page tables.
///
/// # Errors
///
/// Those of reading `/proc`; what may not be read about descriptors is no error, but makes the
/// whole memory unproven.
pub fn inspect(pid: u32) -> Result<Hazards, ProcfsError> {
    let process = Process::open(pid)?;
    let mut mappings = Vec::new();
    let page_size = crate::procfs::base_page_size();
    living_task(&process)?.maps(page_size, &mut Vec::new(), &mut mappings)?;
    inspect_process(&process, &mappings, page_size)
}

/// As [`inspect`], for a process that is open already and whose mappings are known.
///
/// # Errors
///
/// Those of [`inspect`].
pub fn inspect_process(
    process: &Process,
    mappings: &[Mapping],
    page_size: PageSize,
) -> Result<Hazards, ProcfsError> {
    let task = living_task(process)?;
    let mut found = Findings::new(task.pid(), mappings, page_size);
    found.kernel_shared();
    match descriptor_holders(process) {
        Ok(holders) => {
            for holder in &holders {
                found.descriptors(holder)?;
            }
        }
        Err(error) => found.unreadable(error)?,
    }
    found.direct_io();
    found.workers(process)?;
    found.pins(&task)?;
    Ok(found.hazards)
}

/// Returns a task of the process that has its memory still: the first thread may have ended.
pub(super) fn living_task(process: &Process) -> Result<Process, ProcfsError> {
    for tid in process.tasks()? {
        let task = match process.task(tid) {
            Err(ProcfsError::Gone { .. }) => continue,
            other => other?,
        };
        if task.status().is_ok_and(|status| status.resident.is_some()) {
            return Ok(task);
        }
    }
    Process::open(process.pid())
}

/// Returns where the process may write, and so have others write for it.
fn writable(mappings: &[Mapping]) -> Vec<PageRange> {
    let ranges: RangeSet = mappings
        .iter()
        .filter(|mapping| mapping.protection.contains(Protection::WRITE))
        .map(|mapping| mapping.range)
        .collect();
    ranges.ranges().to_vec()
}

/// What is known so far.
struct Findings<'a> {
    /// A task that has the memory.
    memory_task: u32,
    mappings: &'a [Mapping],
    page_size: PageSize,
    writable: Vec<PageRange>,
    hazards: Hazards,
    /// Files that are read and written past the page cache.
    direct: Vec<String>,
    /// How many descriptors of an io_uring there are.
    rings: usize,
    /// Registered buffers. One that two rings share is counted once.
    buffers: BTreeSet<(Vaddr, u64)>,
}

impl<'a> Findings<'a> {
    fn new(memory_task: u32, mappings: &'a [Mapping], page_size: PageSize) -> Self {
        Self {
            memory_task,
            mappings,
            page_size,
            writable: writable(mappings),
            hazards: Hazards {
                mapped: mappings.iter().map(|mapping| mapping.range).collect(),
                ..Hazards::default()
            },
            direct: Vec::new(),
            rings: 0,
            buffers: BTreeSet::new(),
        }
    }

    fn unproven(&mut self, danger: Danger, reason: String) {
        let known = &mut self.hazards.unproven;
        if !known.iter().any(|other| other.reason == reason) {
            let ranges = self.writable.clone();
            known.push(Unproven {
                ranges,
                reason,
                danger,
            });
        }
    }

    /// Mappings with the kernel or a device on the other side.
    fn kernel_shared(&mut self) {
        for mapping in self.mappings {
            let Some(partner) = partner(mapping) else {
                continue;
            };
            let reason = format!("{} ({})", partner.reason, mapping.name);
            self.hazards.pinned.push((mapping.range, reason.clone()));
            if partner.danger == Danger::EvenFrozen {
                self.hazards.unproven.push(Unproven {
                    ranges: vec![mapping.range],
                    reason,
                    danger: partner.danger,
                });
            }
        }
    }

    /// All descriptors in the table of task `holder`.
    fn descriptors(&mut self, holder: &Process) -> Result<(), ProcfsError> {
        let descriptors = match holder.descriptors() {
            Ok(descriptors) => descriptors,
            Err(error) => return self.unreadable(error),
        };
        let mut rings = Vec::new();
        for descriptor in &descriptors {
            match self.descriptor(holder, descriptor) {
                Ok(ring) => rings.extend(ring),
                Err(ProcfsError::Gone { .. }) => return Ok(()),
                Err(error) => self.unreadable(error)?,
            }
        }
        for ring in rings {
            self.registered_files(holder, &ring, &descriptors);
        }
        Ok(())
    }

    /// What can't be read about descriptors: unless one was just closed, anything may be there.
    fn unreadable(&mut self, error: ProcfsError) -> Result<(), ProcfsError> {
        match error {
            ProcfsError::Gone { .. } => {}
            ProcfsError::Read {
                errno: Errno::ENOENT,
                ..
            } => {}
            ProcfsError::Malformed { .. } => return Err(error),
            error @ ProcfsError::Read { .. } => self.unproven(
                Danger::EvenFrozen,
                format!("what the process has open is not known: {error}"),
            ),
        }
        Ok(())
    }

    /// Looks at one descriptor; returns the ring if it is one whose state is known.
    fn descriptor(
        &mut self,
        holder: &Process,
        descriptor: &Descriptor,
    ) -> Result<Option<Ring>, ProcfsError> {
        let number = descriptor.number;
        let target = &descriptor.target;
        let kind = match Kind::of_target(target) {
            Kind::Socket => holder
                .socket_protocol(number)
                .map_or(Kind::Ordinary, |protocol| Kind::of_protocol(&protocol)),
            other => other,
        };
        if let Some((danger, what)) = kind.danger() {
            self.unproven(danger, format!("{what} (descriptor {number}: {target})"));
        }
        match kind {
            Kind::IoUring => return self.ring(holder, number),
            Kind::Userfaultfd => self.hazards.userfaultfds.push(number),
            _ if target.starts_with('/') && holder.descriptor_info(number)?.is_direct() => {
                self.direct.push(target.clone());
            }
            _ => {}
        }
        Ok(None)
    }

    /// An io_uring: its rings, its poller, its registered buffers.
    fn ring(&mut self, holder: &Process, number: u32) -> Result<Option<Ring>, ProcfsError> {
        self.rings += 1;
        let (inode, ring) = read_ring(holder, number)?;
        if !self.is_mapped(inode) {
            self.unproven(
                Danger::WhileTracked,
                format!(
                    "the rings of an io_uring are mapped nowhere, so that the kernel may write \
                     completions into other memory (descriptor {number})"
                ),
            );
        }
        let ring = match ring {
            Ok(ring) => ring,
            Err(error) => {
                let reason = format!("an io_uring's buffers are not known: {error}");
                self.unproven(
                    Danger::EvenFrozen,
                    format!("{reason} (descriptor {number})"),
                );
                return Ok(None);
            }
        };
        if let Some(poller) = ring.poller {
            self.poller(poller);
        }
        let registered: Vec<PageRange> = ring.buffer_pages(self.page_size).collect();
        if self.is_any_gone(&registered) {
            self.unproven(
                Danger::WhileTracked,
                format!(
                    "memory that was registered with io_uring is not where it was, so that the \
                     kernel may write into other memory (descriptor {number})"
                ),
            );
        }
        for range in registered {
            let reason = format!("a buffer is registered with io_uring (descriptor {number})");
            self.hazards.pinned.push((range, reason));
        }
        self.buffers.extend(ring.buffers.iter().copied());
        Ok(Some(ring))
    }

    /// Tells whether any memory that was registered is not where it was. What is registered may have been
    /// mapped since the mappings were read, so they are read again where some seems gone.
    fn is_any_gone(&self, registered: &[PageRange]) -> bool {
        let any_gone = |mappings: &[Mapping]| {
            let mut ranges = registered.iter();
            ranges.any(|&range| is_gone(self.memory_task, mappings, range, self.page_size))
        };
        let by_now = || {
            let mut mappings = Vec::new();
            let task = Process::open(self.memory_task);
            let read =
                task.and_then(|task| task.maps(self.page_size, &mut Vec::new(), &mut mappings));
            read.map_or(true, |()| any_gone(&mappings))
        };
        any_gone(self.mappings) && by_now()
    }

    fn poller(&mut self, tid: u32) {
        self.unproven(
            Danger::EvenFrozen,
            format!("thread {tid} of the kernel carries out requests of an io_uring (SQPOLL)"),
        );
    }

    /// Tells whether the rings of the io_uring with that inode are mapped; a kernel that does
    /// not tell the inode is given the benefit of any mapped ring.
    fn is_mapped(&self, inode: Option<u64>) -> bool {
        self.mappings
            .iter()
            .filter(|mapping| is_io_uring(mapping))
            .any(|mapping| inode.is_none_or(|inode| inode == mapping.inode))
    }

    /// A file may be registered with an io_uring and closed: then nothing tells whether it is
    /// read past the page cache.
    fn registered_files(&mut self, holder: &Process, ring: &Ring, descriptors: &[Descriptor]) {
        for file in &ring.files {
            let mut open = descriptors.iter();
            if !open.any(|descriptor| is_named(file, holder, descriptor)) && may_be_direct(file) {
                self.unproven(
                    Danger::EvenFrozen,
                    format!("{file} is registered with io_uring only: its flags are not known"),
                );
            }
        }
    }

    /// Direct I/O pins what it reads into. A call of its own is over when its task stands still;
    /// requests of AIO and io_uring go on.
    fn direct_io(&mut self) {
        if self.direct.is_empty() {
            return;
        }
        self.direct.sort();
        self.direct.dedup();
        let reason = format!(
            "direct I/O may write into pinned pages: {}",
            self.direct.join(", ")
        );
        let asynchronous = self.rings > 0 || self.mappings.iter().any(is_aio_ring);
        let danger = if asynchronous {
            Danger::EvenFrozen
        } else {
            Danger::WhileTracked
        };
        self.unproven(danger, reason);
    }

    /// Threads that run in the kernel for io_uring.
    fn workers(&mut self, process: &Process) -> Result<(), ProcfsError> {
        for tid in process.tasks()? {
            let stat = match process.task(tid).and_then(|task| task.stat()) {
                Ok(stat) => stat,
                Err(ProcfsError::Gone { .. }) => continue,
                Err(ProcfsError::Read {
                    errno: Errno::ENOENT,
                    ..
                }) => continue,
                Err(error) => return Err(error),
            };
            // It gives itself its name when it first runs, and has the flag from the beginning.
            if stat.flags & Stat::IO_WORKER == 0 {
                continue;
            }
            self.hazards.workers.push(tid);
            if stat.name.starts_with("iou-sqp-") {
                self.poller(tid);
            }
        }
        Ok(())
    }

    /// Pinned memory that no registered buffer explains.
    fn pins(&mut self, task: &Process) -> Result<(), ProcfsError> {
        let Some(pinned) = task.status()?.pinned else {
            return Ok(());
        };
        let buffers: Vec<PageRange> = self
            .buffers
            .iter()
            .filter_map(|&(start, len)| pages_of(start, len, self.page_size))
            .collect();
        let left = unaccounted_pins(pinned, &buffers, |range| {
            let mapping = self
                .mappings
                .iter()
                .find(|mapping| mapping.range.covers(range))?;
            (mapping.page_size > self.page_size).then_some(mapping.page_size)
        });
        if left.0 > 0 {
            self.unproven(
                Danger::EvenFrozen,
                format!(
                    "{} KiB are pinned for an unknown user (VmPin)",
                    left.0 / 1024
                ),
            );
        }
        Ok(())
    }
}

/// Tells whether an io_uring's name for a file is that of the one behind a descriptor. Old kernels
/// (6.12 still) write no path but the last part of it, and a socket's protocol.
fn is_named(file: &str, holder: &Process, descriptor: &Descriptor) -> bool {
    let target = descriptor.target.as_str();
    if target == file {
        return true;
    }
    if file.starts_with('/') {
        return false;
    }
    if Kind::of_target(target) == Kind::Socket {
        return holder.socket_protocol(descriptor.number).as_deref() == Some(file);
    }
    let path = target.strip_suffix(" (deleted)").unwrap_or(target);
    let last = path.rsplit('/').next().unwrap_or(path);
    last == file || last.strip_prefix("anon_inode:") == Some(file)
}

/// Tells whether something with an io_uring's name for it may be read past the page cache. A pipe is
/// not (it has no name on old kernels), nor is `kind:[number]`, as sockets and the like are called.
fn may_be_direct(file: &str) -> bool {
    file.starts_with('/') || !(file.is_empty() || file.contains(":["))
}

/// Reads a ring's inode and state, more than once while it is busy.
fn read_ring(
    holder: &Process,
    number: u32,
) -> Result<(Option<u64>, Result<Ring, RingError>), ProcfsError> {
    const TRIES: u32 = 16;
    let mut tries = 0;
    loop {
        let info = holder.descriptor_info(number)?;
        let ring = Ring::parse(&info.details);
        tries += 1;
        if ring != Err(RingError::Busy) || tries == TRIES {
            return Ok((info.inode, ring));
        }
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests;
