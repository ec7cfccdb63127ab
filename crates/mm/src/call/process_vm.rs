//! `process_vm_readv` and `process_vm_writev`.
//!
//! The pages of the other process are pinned while they are copied, so reading one that is shared
//! by a fork gives that process a page of its own. They stay pinned while the thread sleeps in memory of
//! its own: what is put in their place meanwhile is not reached.
//!
//! Linux reference: 6.18, `mm/process_vm_access.c`, `lib/iov_iter.c` (`import_iovec`).

use std::collections::VecDeque;

use space::Errno;

use super::rw::{checked_buffer, copy_to_frame, narrow, wide};
use crate::access::within_page;
use crate::folio::Pfn;
use crate::gup::{self, Foll};
use crate::machine::{Machine, Pid, Progress, Tid, World};
use crate::stop::Stop;

/// A range of memory (`struct iovec`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Iovec {
    /// First address.
    pub base: u64,
    /// How many bytes.
    pub len: u64,
}

/// How many ranges a call takes (`UIO_MAXIOV`).
const RANGES_MAX: usize = 1024;

/// How many pages are pinned at once: pointers to them fill this many pages
/// (`PVM_MAX_KMALLOC_PAGES`).
const BATCH_PAGES: u64 = 2;

/// What is copied of one's own memory, and how far that has come.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Local {
    ranges: Vec<Iovec>,
    left: u64,
}

impl Local {
    /// The next bytes that lie together, at most `max`.
    fn next(&mut self, max: u64) -> Option<Iovec> {
        while self.ranges.first().is_some_and(|range| range.len == 0) {
            self.ranges.remove(0);
        }
        let range = self.ranges.first()?;
        Some(Iovec {
            base: range.base,
            len: range.len.min(max).min(self.left),
        })
        .filter(|range| range.len > 0)
    }

    fn advance(&mut self, len: u64) {
        self.left -= len;
        if let Some(range) = self.ranges.first_mut() {
            range.base += len;
            range.len -= len;
        }
    }
}

/// A call, and how far it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProcessVm {
    remote: Pid,
    writes: bool,
    local: Local,
    /// How many bytes of one's own memory were asked for.
    total: u64,
    /// What is left of the other side's ranges, the one at hand first.
    ranges: VecDeque<Iovec>,
    /// Pages of the other process that are pinned.
    pinned: Vec<Pfn>,
    /// Which of them is copied, once all are pinned that are pinned at once.
    page: Option<usize>,
}

impl ProcessVm {
    /// Gives pages back that are pinned.
    pub(crate) fn release(mut self, world: &mut World) {
        self.unpin(world);
    }

    fn unpin(&mut self, world: &mut World) {
        self.page = None;
        for pfn in self.pinned.drain(..) {
            world.frames.unpin(pfn);
        }
    }
}

impl Machine {
    /// Copies from the memory of another process to one's own; returns the number of bytes.
    ///
    /// # Errors
    ///
    /// `EINVAL` for flags and bad ranges, `ESRCH`, `EFAULT` where nothing could be copied.
    pub fn process_vm_readv(
        &mut self,
        tid: Tid,
        remote: Pid,
        to: &[Iovec],
        from: &[Iovec],
        flags: u64,
    ) -> Result<u64, Stop> {
        self.process_vm(tid, remote, to, from, flags, false)
    }

    /// Copies from one's own memory to that of another process; returns the number of bytes.
    ///
    /// # Errors
    ///
    /// As [`process_vm_readv`](Self::process_vm_readv).
    pub fn process_vm_writev(
        &mut self,
        tid: Tid,
        remote: Pid,
        from: &[Iovec],
        to: &[Iovec],
        flags: u64,
    ) -> Result<u64, Stop> {
        self.process_vm(tid, remote, from, to, flags, true)
    }

    /// `process_vm_rw`.
    fn process_vm(
        &mut self,
        tid: Tid,
        remote: Pid,
        local: &[Iovec],
        ranges: &[Iovec],
        flags: u64,
        writes: bool,
    ) -> Result<u64, Stop> {
        let is_this = |progress: &mut Progress| matches!(progress, Progress::ProcessVm(_));
        let slept = self.task_mut(tid)?.progress.take_if(is_this);
        let mut call = if let Some(Progress::ProcessVm(call)) = slept {
            call
        } else {
            if flags != 0 {
                return Err(Errno::EINVAL.into());
            }
            let local = self.import(local)?;
            if local.left == 0 {
                return Ok(0);
            }
            if !are_valid(ranges) {
                return Err(Errno::EINVAL.into());
            }
            if ranges.iter().all(|range| range.len == 0) {
                return Ok(0);
            }
            self.process(remote)?;
            Box::new(ProcessVm {
                remote,
                writes,
                total: local.left,
                local,
                ranges: ranges.iter().copied().collect(),
                pinned: Vec::new(),
                page: None,
            })
        };
        let copied = self.copy_ranges(tid, &mut call);
        if let Err(Stop::Blocked(_)) = copied {
            self.task_mut(tid)?.progress = Some(Progress::ProcessVm(call));
            return copied.map(|()| 0);
        }
        call.unpin(&mut self.world);
        match copied {
            Err(stop) if call.local.left == call.total => Err(stop),
            _ => Ok(call.total - call.local.left),
        }
    }

    /// `import_iovec`.
    fn import(&self, ranges: &[Iovec]) -> Result<Local, Errno> {
        if !are_valid(ranges) {
            return Err(Errno::EINVAL);
        }
        for range in ranges {
            checked_buffer(&self.world, range.base, range.len)?;
        }
        let most = (1 << 31) - self.world.page_size();
        let all = ranges
            .iter()
            .fold(0_u64, |sum, range| sum.saturating_add(range.len));
        Ok(Local {
            ranges: ranges.to_vec(),
            left: all.min(most),
        })
    }

    /// `process_vm_rw_single_vec` for each range.
    fn copy_ranges(&mut self, tid: Tid, call: &mut ProcessVm) -> Result<(), Stop> {
        while let Some(range) = call.ranges.front()
            && call.local.left > 0
        {
            if range.len == 0 {
                call.ranges.pop_front();
                continue;
            }
            self.pin_batch(tid, call)?;
            self.copy_pages(tid, call)?;
            call.unpin(&mut self.world);
        }
        Ok(())
    }

    /// `pin_user_pages_remote`: as many pages of the range at hand as can be pinned.
    fn pin_batch(&mut self, tid: Tid, call: &mut ProcessVm) -> Result<(), Stop> {
        if call.page.is_some() {
            return Ok(());
        }
        let (world, process) = self.halves_of(call.remote)?;
        let mut foll = Foll::PIN;
        foll.set(Foll::WRITE, call.writes);
        let page_size = world.page_size();
        let most = BATCH_PAGES * page_size / 8;
        process.mm.has_pinned = true;
        let range = call.ranges[0];
        let base = range.base & !(page_size - 1);
        let end = range.base.saturating_add(range.len);
        for page in wide(call.pinned.len())..most {
            let addr = base + page * page_size;
            if addr >= end {
                break;
            }
            match gup::get_user_page(world, &mut process.mm, tid, addr, foll) {
                Ok(pfn) => {
                    world.frames.pin(pfn);
                    call.pinned.push(pfn);
                }
                Err(Stop::Failed(_)) if page > 0 => break,
                Err(Stop::Failed(_)) => return Err(Errno::EFAULT.into()),
                Err(stop) => return Err(stop),
            }
        }
        call.page = Some(0);
        Ok(())
    }

    /// `process_vm_rw_pages`.
    fn copy_pages(&mut self, tid: Tid, call: &mut ProcessVm) -> Result<(), Stop> {
        let (world, process) = self.halves(tid)?;
        let page_size = world.frames.page_size();
        while let Some(page) = call.page
            && let Some(&pfn) = call.pinned.get(page)
        {
            let range = &mut call.ranges[0];
            let (offset, room) =
                within_page(world, range.base, narrow(range.len.min(wide(page_size))));
            let Some(own) = call.local.next(wide(room)) else {
                return Ok(());
            };
            let piece = (pfn, offset, narrow(own.len));
            let (copied, stop) = if call.writes {
                copy_to_frame(world, &mut process.mm, tid, own.base, piece)
            } else {
                match gup::copy_out(world, &mut process.mm, tid, own.base, piece) {
                    Ok(()) => (piece.2, None),
                    Err((copied, stop)) => (copied, Some(stop)),
                }
            };
            call.local.advance(wide(copied));
            range.base += wide(copied);
            range.len -= wide(copied);
            if let Some(stop) = stop {
                return Err(stop);
            }
            if range.len == 0 || world.offset_in_page(range.base) == 0 {
                call.page = Some(page + 1);
            }
        }
        Ok(())
    }
}

/// Tells whether a call takes so many ranges, of such lengths.
fn are_valid(ranges: &[Iovec]) -> bool {
    ranges.len() <= RANGES_MAX && ranges.iter().all(|range| i64::try_from(range.len).is_ok())
}
