//! `vmsplice`: references of a program's pages go into a pipe.
//!
//! The references are plain ones (`FOLL_GET`), so that a page that is shared by a fork stays
//! shared: a reader of the pipe sees what is written to it later, unless that makes a copy.
//!
//! Linux reference: 6.18, `fs/splice.c` (`vmsplice_to_pipe`, `iter_to_pipe`).

use space::Errno;

use super::pipe::{self, EPIPE};
use super::rw::{checked_buffer, locked, narrow};
use crate::access::within_page;
use crate::gup::{self, Foll};
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
        let (world, process) = self.halves(tid)?;
        let descriptor = process.descriptor(fd)?;
        if i64::try_from(len).is_err() {
            return Err(Errno::EINVAL.into());
        }
        checked_buffer(world, addr, len)?;
        if len == 0 {
            return Ok(0);
        }
        let len = narrow(len);
        match descriptor {
            Descriptor::PipeRead(id) => locked(world, tid, Lock::Pipe(id), |world| {
                pipe::read(world, &mut process.mm, tid, id, addr, len)
            }),
            Descriptor::PipeWrite(id) => locked(world, tid, Lock::Pipe(id), |world| {
                to_pipe(world, &mut process.mm, tid, id, addr, len)
            }),
            Descriptor::File { .. } | Descriptor::Uffd(_) => Err(Errno::EBADF.into()),
        }
    }
}

/// `vmsplice_to_pipe`.
fn to_pipe(
    world: &mut World,
    mm: &mut Mm,
    tid: Tid,
    id: PipeId,
    addr: u64,
    len: usize,
) -> Result<u64, Stop> {
    if world.pipes.get_mut(id).readers == 0 {
        return Err(EPIPE.into());
    }
    let mut done = 0;
    let result = |done: usize| Ok(u64::try_from(done).expect("a length fits"));
    if world.pipes.get_mut(id).buffers.len() >= BUFFERS {
        return Err(Errno::EAGAIN.into());
    }
    while done < len {
        let mut batch = Vec::new();
        let mut taken = done;
        let mut stop = None;
        while batch.len() < BATCH && taken < len {
            let at = addr + u64::try_from(taken).expect("a length fits");
            match gup::get_user_page_fast(world, mm, tid, at, Foll::empty()) {
                Ok(pfn) => {
                    let (offset, size) = within_page(world, at, len - taken);
                    world.frames.get(pfn, 1);
                    batch.push(Buffer {
                        pfn,
                        offset,
                        len: size,
                        own: false,
                    });
                    taken += size;
                }
                Err(why) => {
                    stop = Some(why);
                    break;
                }
            }
        }
        if let Some(Stop::Blocked(wait)) = stop {
            put_all(world, &batch);
            return Err(Stop::Blocked(wait));
        }
        if let (true, Some(why)) = (batch.is_empty(), stop) {
            return if done > 0 { result(done) } else { Err(why) };
        }
        for at in 0..batch.len() {
            let pipe = world.pipes.get_mut(id);
            if pipe.buffers.len() >= BUFFERS {
                put_all(world, &batch[at..]);
                return result(done);
            }
            pipe.buffers.push_back(batch[at]);
            done += batch[at].len;
        }
    }
    result(done)
}

fn put_all(world: &mut World, buffers: &[Buffer]) {
    for buffer in buffers {
        world.frames.put(buffer.pfn, 1);
    }
}
