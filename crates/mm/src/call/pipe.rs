//! `pipe`, and reading and writing its ends. Both are as with `O_NONBLOCK`: nobody waits.
//!
//! Linux reference: 6.18, `fs/pipe.c` (`anon_pipe_read`, `anon_pipe_write`).

use space::Errno;

use super::moved::{Moved, Piece};
use super::rw::{copy_some, narrow, wide};
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
    (addr, len): (u64, u64),
    moved: &mut Moved,
) -> Result<u64, Stop> {
    while moved.done < len {
        let pipe = world.pipes.get_mut(id);
        let Some(&buffer) = pipe.buffers.front() else {
            if moved.done == 0 && pipe.writers > 0 {
                return Err(Errno::EAGAIN.into());
            }
            break;
        };
        let chars = buffer.len.min(narrow(len - moved.done));
        let before = match std::mem::take(&mut moved.piece) {
            Piece::Part(copied) => copied,
            _ => 0,
        };
        let from = (buffer.pfn, buffer.offset + before, chars - before);
        let at = addr.wrapping_add(moved.done + wide(before));
        match gup::copy_out(world, mm, tid, at, from) {
            Ok(()) => {}
            Err((copied, stop @ Stop::Blocked(_))) => {
                moved.piece = Piece::Part(before + copied);
                return Err(stop);
            }
            Err(_) if moved.done > 0 => break,
            Err((_, stop)) => return Err(stop),
        }
        moved.done += wide(chars);
        let pipe = world.pipes.get_mut(id);
        if buffer.len == chars {
            pipe.buffers.pop_front();
            world.frames.put(buffer.pfn, 1);
        } else if let Some(front) = pipe.buffers.front_mut() {
            front.offset += chars;
            front.len -= chars;
        }
    }
    Ok(moved.done)
}

/// `anon_pipe_write`.
pub(super) fn write(
    world: &mut World,
    mm: &mut Mm,
    tid: Tid,
    id: PipeId,
    (addr, len): (u64, u64),
    moved: &mut Moved,
) -> Result<u64, Stop> {
    if moved.piece == Piece::None && world.pipes.get_mut(id).readers == 0 {
        return Err(EPIPE.into());
    }
    let page_size = world.frames.page_size();
    // What is left over from whole pages may go to the last page.
    let odd = narrow(len) % page_size;
    let last = world.pipes.get_mut(id).buffers.back().copied();
    let merges = |last: &Buffer| last.own && odd > 0 && last.offset + last.len + odd <= page_size;
    if let Some(last) = last.filter(merges).filter(|_| moved.done == 0) {
        let bytes = copy_piece(world, mm, tid, (addr, odd), moved)?;
        let content = &mut world.frames.frame_mut(last.pfn).content;
        content.write(last.offset + last.len, &bytes, page_size);
        if let Some(last) = world.pipes.get_mut(id).buffers.back_mut() {
            last.len += odd;
        }
        moved.done = wide(odd);
    }
    while moved.done < len {
        if world.pipes.get_mut(id).buffers.len() >= BUFFERS {
            if moved.done == 0 {
                return Err(Errno::EAGAIN.into());
            }
            break;
        }
        let chunk = narrow(len - moved.done).min(page_size);
        let bytes = match copy_piece(world, mm, tid, (addr, chunk), moved) {
            Ok(bytes) => bytes,
            Err(Stop::Failed(_)) if moved.done > 0 => break,
            Err(stop) => return Err(stop),
        };
        let pfn = world.frames.alloc(0, Owner::Kernel);
        let content = &mut world.frames.frame_mut(pfn).content;
        content.write(0, &bytes, page_size);
        world.pipes.get_mut(id).buffers.push_back(Buffer {
            pfn,
            offset: 0,
            len: chunk,
            own: true,
        });
        moved.done += wide(chunk);
    }
    Ok(moved.done)
}

/// `copy_page_from_iter`: the next `len` bytes of a program, all of them.
fn copy_piece(
    world: &mut World,
    mm: &mut Mm,
    tid: Tid,
    (addr, len): (u64, usize),
    moved: &mut Moved,
) -> Result<Vec<u8>, Stop> {
    let mut bytes = match std::mem::take(&mut moved.piece) {
        Piece::Bytes(bytes) => bytes,
        _ => Vec::new(),
    };
    let before = bytes.len();
    bytes.resize(len, 0);
    let at = addr.wrapping_add(moved.done + wide(before));
    let (copied, stop) = copy_some(world, mm, tid, at, &mut bytes[before..]);
    match stop {
        None => Ok(bytes),
        Some(stop) => {
            if let Stop::Blocked(_) = stop {
                bytes.truncate(before + copied);
                moved.piece = Piece::Bytes(bytes);
            }
            Err(stop)
        }
    }
}
