//! Pins as io_uring's fixed buffers make them: long-term, for reading and writing.
//!
//! Linux reference: 6.18, `io_uring/rsrc.c` (`io_buffer_validate`, `io_pin_pages`), `mm/gup.c`.

use space::Errno;

use crate::folio::Pfn;
use crate::gup::{self, Foll};
use crate::machine::{Machine, Pid, Tid};
use crate::pin::{Pin, PinId};
use crate::profile::Kernel;
use crate::stop::Stop;

/// `EOVERFLOW`: the end of a buffer is behind the last address.
const EOVERFLOW: Errno = Errno(75);
/// The longest buffer.
const LEN_MAX: u64 = 1 << 30;

impl Machine {
    /// Registers a range as a fixed buffer (`FOLL_PIN | FOLL_WRITE | FOLL_LONGTERM`).
    ///
    /// # Errors
    ///
    /// `EINVAL` for a length below zero (6.12 and later), `EFAULT` for an empty or very long buffer, and where a page
    /// can't be pinned for writing.
    pub fn pin_buffer(&mut self, tid: Tid, addr: u64, len: u64) -> Result<PinId, Stop> {
        let (world, process) = self.halves(tid)?;
        // copy_iovec_from_user; io_copy_iov of 6.1 takes any length.
        if i64::try_from(len).is_err() && world.profile.kernel >= Kernel::V6_12 {
            return Err(Errno::EINVAL.into());
        }
        if addr == 0 || len == 0 || len > LEN_MAX {
            return Err(Errno::EFAULT.into());
        }
        let page_size = world.page_size();
        if addr.checked_add(len + page_size - 1).is_none() {
            return Err(EOVERFLOW.into());
        }
        let mm = &mut process.mm;
        let foll = Foll::WRITE | Foll::PIN | Foll::LONGTERM;
        let first = addr & !(page_size - 1);
        let mut pages: Vec<Pfn> = Vec::new();
        let mut walk = gup::Fast::default();
        let mut at = first;
        while at < addr + len {
            match walk.page(world, mm, tid, at, foll) {
                Ok(pfn) => {
                    world.frames.pin(pfn);
                    pages.push(pfn);
                }
                Err(stop) => {
                    for pfn in pages {
                        world.frames.unpin(pfn);
                    }
                    return Err(stop);
                }
            }
            at += page_size;
        }
        mm.has_pinned = true;
        Ok(world.pins.add(pages, addr - first, len, mm.pid))
    }

    /// Another process has the ring of a pin, too: the pin outlives the one that made it.
    ///
    /// # Errors
    ///
    /// `EBADF` for a pin that is not there.
    pub fn share_pin(&mut self, pin: PinId, pid: Pid) -> Result<(), Errno> {
        self.world.pins.share(pin, pid).ok_or(Errno::EBADF)
    }

    /// What a device finds in the pinned pages.
    ///
    /// # Errors
    ///
    /// `EBADF` for a pin that is not there, `EFAULT` outside of it.
    pub fn pin_read(&self, pin: PinId, offset: u64, buf: &mut [u8]) -> Result<(), Errno> {
        let world = &self.world;
        let pin = world.pins.get(pin).ok_or(Errno::EBADF)?;
        let page_size = world.frames.page_size();
        for (pfn, from, range) in parts(pin, offset, buf.len(), page_size)? {
            let content = &world.frames.frame(pfn).content;
            content.read(from, &mut buf[range]);
        }
        Ok(())
    }

    /// Has a device write to the pinned pages. No page table entry tells of it.
    ///
    /// # Errors
    ///
    /// `EBADF` for a pin that is not there, `EFAULT` outside of it.
    pub fn pin_write(&mut self, pin: PinId, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        let world = &mut self.world;
        let page_size = world.frames.page_size();
        let pin = world.pins.get(pin).ok_or(Errno::EBADF)?;
        for (pfn, from, range) in parts(pin, offset, bytes.len(), page_size)? {
            let content = &mut world.frames.frame_mut(pfn).content;
            content.write(from, &bytes[range], page_size);
        }
        Ok(())
    }

    /// Gives the pinned pages back.
    ///
    /// # Errors
    ///
    /// `EBADF` for a pin that is not there.
    pub fn unpin_buffer(&mut self, pin: PinId) -> Result<(), Errno> {
        let pin = self.world.pins.take(pin).ok_or(Errno::EBADF)?;
        for pfn in pin.pages {
            self.world.frames.unpin(pfn);
        }
        Ok(())
    }
}

/// The frames of a range of a buffer: each with the offset in it and the part of the range.
fn parts(
    pin: &Pin,
    offset: u64,
    len: usize,
    page_size: usize,
) -> Result<Vec<(Pfn, usize, std::ops::Range<usize>)>, Errno> {
    let end = offset.checked_add(u64::try_from(len).map_err(|_| Errno::EFAULT)?);
    if end.is_none_or(|end| end > pin.len) {
        return Err(Errno::EFAULT);
    }
    let start = usize::try_from(pin.offset + offset).map_err(|_| Errno::EFAULT)?;
    let mut parts = Vec::new();
    let mut done = 0;
    while done < len {
        let at = start + done;
        let from = at % page_size;
        let chunk = (page_size - from).min(len - done);
        parts.push((pin.pages[at / page_size], from, done..done + chunk));
        done += chunk;
    }
    Ok(parts)
}
