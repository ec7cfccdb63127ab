//! Rings with fixed buffers, as far as a program sees them: what io_uring itself checks.

use mm::pin::PinId;
use mm::{Machine, Tid};
use space::Errno;

use super::Halt;

/// A ring of a program; processes that forked share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RingId(usize);

/// The fixed buffer of a ring.
#[derive(Clone, Copy, Debug)]
struct Buffer {
    pin: PinId,
    start: u64,
    len: u64,
}

/// All rings of a program, with how many descriptors each has.
#[derive(Debug, Default)]
pub(super) struct Rings(Vec<(u32, Option<Buffer>)>);

impl Rings {
    pub(super) fn make(&mut self) -> RingId {
        self.0.push((1, None));
        RingId(self.0.len() - 1)
    }

    /// Another process has it, too.
    pub(super) fn share(&mut self, ring: RingId) {
        self.0[ring.0].0 += 1;
    }

    /// A process closed it, or ended.
    pub(super) fn close(&mut self, machine: &mut Machine, ring: RingId) {
        let (references, buffer) = &mut self.0[ring.0];
        *references -= 1;
        if *references == 0
            && let Some(buffer) = buffer.take()
        {
            let unpinned = machine.unpin_buffer(buffer.pin);
            debug_assert!(unpinned.is_ok(), "the ring's buffer is pinned");
        }
    }

    pub(super) fn pin(
        &mut self,
        machine: &mut Machine,
        tid: Tid,
        ring: RingId,
        (start, len): (u64, u64),
    ) -> Result<PinId, Halt> {
        let buffer = &mut self.0[ring.0].1;
        if buffer.is_some() {
            return Err(Errno::EBUSY.into());
        }
        let pin = machine.pin_buffer(tid, start, len)?;
        *buffer = Some(Buffer { pin, start, len });
        Ok(pin)
    }

    pub(super) fn unpin(&mut self, machine: &mut Machine, ring: RingId) -> Result<(), Errno> {
        let buffer = self.0[ring.0].1.take().ok_or(Errno::ENXIO)?;
        machine.unpin_buffer(buffer.pin)
    }

    /// The pin and the offset in it of a transfer.
    pub(super) fn transfer(
        &self,
        ring: RingId,
        start: u64,
        len: u64,
    ) -> Result<(PinId, u64), Errno> {
        let buffer = self.0[ring.0].1.ok_or(Errno::EFAULT)?;
        let end = start.checked_add(len).ok_or(Errno::EFAULT)?;
        if start < buffer.start || end > buffer.start + buffer.len {
            return Err(Errno::EFAULT);
        }
        Ok((buffer.pin, start - buffer.start))
    }
}
