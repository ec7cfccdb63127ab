//! `process_vm_readv` and `process_vm_writev`.
//!
//! The pages of the other process are pinned while they are copied, so reading one that is shared
//! by a fork gives that process a page of its own.
//!
//! Linux reference: 6.18, `mm/process_vm_access.c`, `lib/iov_iter.c` (`import_iovec`).

use space::Errno;

use super::rw::{checked_buffer, copy_some};
use crate::access::within_page;
use crate::folio::Pfn;
use crate::gup::{self, Foll};
use crate::machine::{Machine, Pid, Tid};
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
/// How many pages are pinned at once (`PVM_MAX_USER_PAGES`, for pages of any size).
const BATCH: u64 = 16;

/// What is copied of one's own memory, and how far that has come.
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
        if flags != 0 {
            return Err(Errno::EINVAL.into());
        }
        let mut local = self.import(local)?;
        let total = local.left;
        if total == 0 {
            return Ok(0);
        }
        if ranges.len() > RANGES_MAX || ranges.iter().any(|range| i64::try_from(range.len).is_err())
        {
            return Err(Errno::EINVAL.into());
        }
        if ranges.iter().all(|range| range.len == 0) {
            return Ok(0);
        }
        self.process(remote)?;
        for range in ranges {
            if local.left == 0 {
                break;
            }
            match self.copy_range(tid, remote, &mut local, *range, writes) {
                Ok(()) => {}
                Err(Stop::Failed(_)) if local.left < total => break,
                Err(stop) => return Err(stop),
            }
        }
        Ok(total - local.left)
    }

    /// `import_iovec`.
    fn import(&self, ranges: &[Iovec]) -> Result<Local, Errno> {
        if ranges.len() > RANGES_MAX || ranges.iter().any(|range| i64::try_from(range.len).is_err())
        {
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

    /// `process_vm_rw_single_vec`.
    fn copy_range(
        &mut self,
        tid: Tid,
        remote: Pid,
        local: &mut Local,
        range: Iovec,
        writes: bool,
    ) -> Result<(), Stop> {
        let page_size = self.world.page_size();
        let mut at = range.base;
        let end = range.base.wrapping_add(range.len);
        while at < end && local.left > 0 {
            let base = at & !(page_size - 1);
            let pages = self.pin_batch(tid, remote, base, end, writes)?;
            let pinned = u64::try_from(pages.len()).expect("a batch is small");
            let behind = (base + pinned * page_size).min(end);
            let copied = self.copy_pages(tid, local, &pages, (base, at, behind), writes);
            for &pfn in &pages {
                self.world.frames.unpin(pfn);
            }
            copied?;
            at = behind;
        }
        Ok(())
    }

    /// `pin_user_pages_remote`: as many pages from `base` on as can be pinned.
    fn pin_batch(
        &mut self,
        tid: Tid,
        remote: Pid,
        base: u64,
        end: u64,
        writes: bool,
    ) -> Result<Vec<Pfn>, Stop> {
        let (world, process) = self.halves_of(remote)?;
        let mut foll = Foll::PIN;
        foll.set(Foll::WRITE, writes);
        let page_size = world.page_size();
        process.mm.has_pinned = true;
        let mut pages = Vec::new();
        for page in 0..BATCH {
            let addr = base + page * page_size;
            if addr >= end {
                break;
            }
            match gup::get_user_page(world, &mut process.mm, tid, addr, foll) {
                Ok(pfn) => {
                    world.frames.pin(pfn);
                    pages.push(pfn);
                }
                Err(Stop::Failed(_)) if !pages.is_empty() => break,
                Err(Stop::Failed(_)) => return Err(Errno::EFAULT.into()),
                Err(stop) => {
                    for pfn in pages {
                        world.frames.unpin(pfn);
                    }
                    return Err(stop);
                }
            }
        }
        Ok(pages)
    }

    /// `process_vm_rw_pages`.
    fn copy_pages(
        &mut self,
        tid: Tid,
        local: &mut Local,
        pages: &[Pfn],
        (base, start, behind): (u64, u64, u64),
        writes: bool,
    ) -> Result<(), Stop> {
        let (world, process) = self.halves(tid)?;
        let page_shift = world.page_shift();
        let page_size = world.frames.page_size();
        let mut at = start;
        while at < behind {
            let room = usize::try_from(behind - at).expect("a batch is small");
            let (offset, room) = within_page(world, at, room);
            let room = u64::try_from(room).expect("a page fits");
            let Some(own) = local.next(room) else {
                return Ok(());
            };
            let index = usize::try_from((at - base) >> page_shift).expect("a batch is small");
            let mut bytes = vec![0; usize::try_from(own.len).expect("a page fits")];
            if writes {
                let (done, stop) = copy_some(world, &mut process.mm, tid, own.base, &mut bytes);
                let content = &mut world.frames.frame_mut(pages[index]).content;
                content.write(offset, &bytes[..done], page_size);
                if let Some(stop) = stop {
                    local.advance(u64::try_from(done).expect("a page fits"));
                    return Err(stop);
                }
            } else {
                let content = &world.frames.frame(pages[index]).content;
                content.read(offset, &mut bytes);
                let copied = gup::copy_out(world, &mut process.mm, tid, own.base, &bytes);
                if let Err((done, stop)) = copied {
                    local.advance(u64::try_from(done).expect("a page fits"));
                    return Err(stop);
                }
            }
            local.advance(own.len);
            at += own.len;
        }
        Ok(())
    }
}
