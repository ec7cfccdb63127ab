//! `vmsplice`: references of a program's pages go into a pipe.
//!
//! The references are plain ones (`FOLL_GET`), so that a page that is shared by a fork stays
//! shared: a reader of the pipe sees what is written to it later, unless that makes a copy.
//!
//! Linux reference: 6.18, `fs/splice.c` (`vmsplice_to_pipe`, `iter_to_pipe`).

use space::Errno;

use super::moved::{Moved, Piece};
use super::pipe::{self, EPIPE};
use super::rw::{checked_buffer, locked, narrow, wide};
use crate::access::within_page;
use crate::gup::{Fast, Foll};
use crate::lock::Lock;
use crate::machine::{Descriptor, Fd, Machine, Mm, Tid, World};
use crate::pipe::{BUFFERS, Buffer, PipeId};
use crate::stop::Stop;

/// `SPLICE_F_ALL`.
const FLAGS: u64 = 0xf;
/// How many pages are taken at once.
const BATCH: usize = 16;

impl Machine {
    /// `vmsplice` of one range into the writing end of a pipe, or from the reading end (which copies).
    /// Nobody waits, as with `SPLICE_F_NONBLOCK`.
    ///
    /// # Errors
    ///
    /// `EINVAL` for unknown flags, `EBADF` for what is no pipe, `EFAULT`, `EAGAIN` for a pipe that
    /// is full or empty, `EPIPE` without readers.
    pub fn vmsplice(
        &mut self,
        tid: Tid,
        fd: Fd,
        addr: u64,
        len: u64,
        flags: u64,
    ) -> Result<u64, Stop> {
        if flags & !FLAGS != 0 {
            return Err(Errno::EINVAL.into());
        }
        self.moving(tid, fd, |world, mm, moved| {
            if i64::try_from(len).is_err() {
                return Err(Errno::EINVAL.into());
            }
            checked_buffer(world, addr, len)?;
            if len == 0 {
                return Ok(0);
            }
            match moved.descriptor {
                Descriptor::PipeRead(id) => locked(world, tid, Lock::Pipe(id), |world| {
                    pipe::read(world, mm, tid, id, (addr, len), moved)
                }),
                Descriptor::PipeWrite(id) => locked(world, tid, Lock::Pipe(id), |world| {
                    to_pipe(world, mm, tid, id, (addr, len), moved)
                }),
                Descriptor::File { .. } | Descriptor::Uffd(_) => Err(Errno::EBADF.into()),
            }
        })
    }
}

/// `vmsplice_to_pipe`.
fn to_pipe(
    world: &mut World,
    mm: &mut Mm,
    tid: Tid,
    id: PipeId,
    (addr, len): (u64, u64),
    moved: &mut Moved,
) -> Result<u64, Stop> {
    if moved.piece == Piece::None {
        if world.pipes.get_mut(id).readers == 0 {
            return Err(EPIPE.into());
        }
        if world.pipes.get_mut(id).buffers.len() >= BUFFERS {
            return Err(Errno::EAGAIN.into());
        }
    }
    while moved.done < len {
        let batch = match take_batch(world, mm, tid, (addr, len), moved) {
            Ok(batch) => batch,
            Err(Stop::Failed(_)) if moved.done > 0 => break,
            Err(stop) => return Err(stop),
        };
        for at in 0..batch.len() {
            let pipe = world.pipes.get_mut(id);
            if pipe.buffers.len() >= BUFFERS {
                put_all(world, &batch[at..]);
                return Ok(moved.done);
            }
            pipe.buffers.push_back(batch[at]);
            moved.done += wide(batch[at].len);
        }
    }
    Ok(moved.done)
}

/// `iov_iter_get_pages2`: references of the next pages, as many as can be had at once. Those that there
/// are stay taken while the thread sleeps for another one.
fn take_batch(
    world: &mut World,
    mm: &mut Mm,
    tid: Tid,
    (addr, len): (u64, u64),
    moved: &mut Moved,
) -> Result<Vec<Buffer>, Stop> {
    let (mut buffers, mut walk) = match std::mem::take(&mut moved.piece) {
        Piece::Taken { buffers, walk } => (buffers, walk),
        _ => (Vec::new(), Fast::default()),
    };
    let mut taken = moved.done + buffers.iter().map(|buffer| wide(buffer.len)).sum::<u64>();
    while buffers.len() < BATCH && taken < len {
        let pfn = match walk.page(world, mm, tid, addr + taken, Foll::empty()) {
            Ok(pfn) => pfn,
            Err(stop @ Stop::Blocked(_)) => {
                moved.piece = Piece::Taken { buffers, walk };
                return Err(stop);
            }
            Err(_) if !buffers.is_empty() => break,
            Err(stop) => return Err(stop),
        };
        let (offset, size) = within_page(world, addr + taken, narrow(len - taken));
        world.frames.get(pfn, 1);
        buffers.push(Buffer {
            pfn,
            offset,
            len: size,
            own: false,
        });
        taken += wide(size);
    }
    Ok(buffers)
}

/// Gives references back that a pipe did not get.
pub(super) fn put_all(world: &mut World, buffers: &[Buffer]) {
    for buffer in buffers {
        world.frames.put(buffer.pfn, 1);
    }
}
