//! `pipe`, and reading and writing its ends. Both are as with `O_NONBLOCK`: nobody waits.
//!
//! Linux reference: 6.18, `fs/pipe.c` (`anon_pipe_read`, `anon_pipe_write`).

use space::Errno;

use crate::folio::Owner;
use crate::gup;
use crate::machine::{Descriptor, Fd, Machine, Mm, Tid, World};
use crate::pipe::{BUFFERS, Buffer, PipeId};
use crate::stop::Stop;

/// `EPIPE`: nobody can read what is written.
pub(super) const EPIPE: Errno = Errno(32);

impl Machine {
    /// Makes a pipe; returns the reading and the writing end.
    ///
    /// # Errors
    ///
    /// `ESRCH` where there is no such thread.
    pub fn pipe(&mut self, tid: Tid) -> Result<(Fd, Fd), Errno> {
        let (world, process) = self.halves(tid)?;
        let id = world.pipes.create();
        let read = process.add_fd(Descriptor::PipeRead(id));
        let write = process.add_fd(Descriptor::PipeWrite(id));
        Ok((read, write))
    }
}

/// `anon_pipe_read`, and `vmsplice` from a pipe, which differ in nothing that is modelled.
pub(super) fn read(
    world: &mut World,
    mm: &mut Mm,
    tid: Tid,
    id: PipeId,
    addr: u64,
    len: usize,
) -> Result<u64, Stop> {
    let mut done = 0;
    while done < len {
        let pipe = world.pipes.get_mut(id);
        let Some(&buffer) = pipe.buffers.front() else {
            if done == 0 && pipe.writers > 0 {
                return Err(Errno::EAGAIN.into());
            }
            break;
        };
        let chars = buffer.len.min(len - done);
        let mut bytes = vec![0; chars];
        let content = &world.frames.frame(buffer.pfn).content;
        content.read(buffer.offset, &mut bytes);
        let at = addr.wrapping_add(u64::try_from(done).expect("a length fits"));
        match gup::copy_out(world, mm, tid, at, &bytes) {
            Ok(()) => {}
            Err((_, Stop::Failed(_))) if done > 0 => break,
            Err((_, stop)) => return Err(stop),
        }
        done += chars;
        let pipe = world.pipes.get_mut(id);
        if buffer.len == chars {
            pipe.buffers.pop_front();
            world.frames.put(buffer.pfn, 1);
        } else if let Some(front) = pipe.buffers.front_mut() {
            front.offset += chars;
            front.len -= chars;
        }
    }
    Ok(u64::try_from(done).expect("a length fits"))
}

/// `anon_pipe_write`.
pub(super) fn write(
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
    let page_size = world.frames.page_size();
    let at = |done: usize| addr.wrapping_add(u64::try_from(done).expect("a length fits"));
    let mut done = 0;
    // What is left over from whole pages may go to the last page.
    let odd = len % page_size;
    let last = world.pipes.get_mut(id).buffers.back().copied();
    let merges = |last: &Buffer| last.own && odd > 0 && last.offset + last.len + odd <= page_size;
    if let Some(last) = last.filter(merges) {
        let mut bytes = vec![0; odd];
        gup::copy_in(world, mm, tid, addr, &mut bytes)?;
        let content = &mut world.frames.frame_mut(last.pfn).content;
        content.write(last.offset + last.len, &bytes, page_size);
        if let Some(last) = world.pipes.get_mut(id).buffers.back_mut() {
            last.len += odd;
        }
        done = odd;
    }
    while done < len {
        if world.pipes.get_mut(id).buffers.len() >= BUFFERS {
            if done == 0 {
                return Err(Errno::EAGAIN.into());
            }
            break;
        }
        let chunk = (len - done).min(page_size);
        let mut bytes = vec![0; chunk];
        match gup::copy_in(world, mm, tid, at(done), &mut bytes) {
            Ok(()) => {}
            Err(Stop::Failed(_)) if done > 0 => break,
            Err(stop) => return Err(stop),
        }
        let pfn = world.frames.alloc(0, Owner::Kernel);
        world
            .frames
            .frame_mut(pfn)
            .content
            .write(0, &bytes, page_size);
        world.pipes.get_mut(id).buffers.push_back(Buffer {
            pfn,
            offset: 0,
            len: chunk,
            own: true,
        });
        done += chunk;
    }
    Ok(u64::try_from(done).expect("a length fits"))
}
