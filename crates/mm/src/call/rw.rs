//! `read` and `write` between descriptors and memory: the kernel's own accesses.
//!
//! Linux reference: 6.18, `fs/read_write.c`, `mm/filemap.c` (`generic_perform_write`),
//! `mm/shmem.c` (`shmem_file_read_iter`, `shmem_write_begin`), `fs/hugetlbfs/inode.c`.

use space::Errno;

use super::moved::{Moved, Piece};
use super::pipe;
use crate::access::{Kind, reach_by_kernel, readable, within_page};
use crate::file::{Cached, FileId, shmem};
use crate::folio::{FolioFlags, FrameFlags, Pfn, ZERO_PFN};
use crate::gup;
use crate::lock::Lock;
use crate::machine::{Descriptor, Fd, Machine, Mm, Tid, World};
use crate::profile::Kernel;
use crate::stop::Stop;
use crate::uapi::file as flag;

/// No call moves more bytes than this (`MAX_RW_COUNT`), a page less than 2 GiB.
fn most(world: &World) -> u64 {
    (1 << 31) - world.page_size()
}

/// A length in bytes as an index.
pub(crate) fn narrow(len: u64) -> usize {
    usize::try_from(len).expect("a length of a call fits usize")
}

/// An index as a length in bytes.
pub(super) fn wide(len: usize) -> u64 {
    u64::try_from(len).expect("a length fits")
}

/// `access_ok`: a buffer lies below the kernel's half.
///
/// # Errors
///
/// `EFAULT` where it does not.
pub(super) fn checked_buffer(world: &World, addr: u64, len: u64) -> Result<(), Errno> {
    let end = addr.checked_add(len).ok_or(Errno::EFAULT)?;
    if end > world.profile.arch.task_size() {
        return Err(Errno::EFAULT);
    }
    Ok(())
}

/// `rw_verify_area`: an offset that neither is nor becomes negative.
fn checked_offset(offset: u64, len: u64) -> Result<(), Errno> {
    match offset.checked_add(len) {
        Some(end) if i64::try_from(end).is_ok() => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

impl Machine {
    /// `read` into memory, of a pipe (as with `O_NONBLOCK`) or of a file (`pread`, with the
    /// offset). Faults that userfaultfd resolves are waited for.
    ///
    /// # Errors
    ///
    /// `EBADF` for what can't be read, `EFAULT` where nothing could be copied, `EINVAL` for an offset
    /// out of range, `EAGAIN` for an empty pipe, `EIO` for broken memory of a file.
    pub fn read(
        &mut self,
        tid: Tid,
        fd: Fd,
        addr: u64,
        len: u64,
        offset: u64,
    ) -> Result<u64, Stop> {
        self.moving(tid, fd, |world, mm, moved| match moved.descriptor {
            Descriptor::PipeWrite(_) => Err(Errno::EBADF.into()),
            Descriptor::Uffd(_) => Err(Errno::EINVAL.into()),
            Descriptor::PipeRead(id) => {
                checked_buffer(world, addr, len)?;
                let len = len.min(most(world));
                locked(world, tid, Lock::Pipe(id), |world| {
                    pipe::read(world, mm, tid, id, (addr, len), moved)
                })
            }
            Descriptor::File { file, .. } => {
                if i64::try_from(offset).is_err() {
                    return Err(Errno::EINVAL.into());
                }
                checked_buffer(world, addr, len)?;
                checked_offset(offset, len)?;
                let len = len.min(most(world));
                read_file(world, mm, tid, file, (addr, len, offset), moved)
            }
        })
    }

    /// `write` from memory to a pipe (as with `O_NONBLOCK`) or a file (`pwrite`, with the offset).
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); besides `EPERM` where a seal forbids it, `EINVAL` for files of
    /// huge pages, `EPIPE` without readers.
    pub fn write(
        &mut self,
        tid: Tid,
        fd: Fd,
        addr: u64,
        len: u64,
        offset: u64,
    ) -> Result<u64, Stop> {
        self.moving(tid, fd, |world, mm, moved| match moved.descriptor {
            Descriptor::PipeRead(_)
            | Descriptor::File {
                read_only: true, ..
            } => Err(Errno::EBADF.into()),
            Descriptor::Uffd(_) => Err(Errno::EINVAL.into()),
            Descriptor::PipeWrite(id) => {
                checked_buffer(world, addr, len)?;
                let len = len.min(most(world));
                if len == 0 {
                    return Ok(0);
                }
                locked(world, tid, Lock::Pipe(id), |world| {
                    pipe::write(world, mm, tid, id, (addr, len), moved)
                })
            }
            Descriptor::File { file, .. } => {
                if i64::try_from(offset).is_err() || world.files.get(file).is_hugetlb() {
                    return Err(Errno::EINVAL.into());
                }
                checked_buffer(world, addr, len)?;
                checked_offset(offset, len)?;
                let len = len.min(most(world));
                locked(world, tid, Lock::File(file), |world| {
                    write_file(world, mm, tid, file, (addr, len, offset), moved)
                })
            }
        })
    }
}

/// Does something with a lock, and keeps it if that has to sleep.
pub(super) fn locked<T>(
    world: &mut World,
    tid: Tid,
    lock: Lock,
    work: impl FnOnce(&mut World) -> Result<T, Stop>,
) -> Result<T, Stop> {
    world.locks.check(lock, tid)?;
    let result = work(world);
    world.locks.settle(lock, tid, &result);
    result
}

/// What a reader of a file finds at an offset.
fn page_to_read(world: &World, file: FileId, offset: u64) -> Result<Pfn, Errno> {
    let page_shift = world.page_shift();
    let file = world.files.get(file);
    let huge = file.page_shift(page_shift);
    let index = offset >> huge << (huge - page_shift);
    let Some(Cached::Page(first)) = file.pages.get(&index) else {
        return Ok(ZERO_PFN);
    };
    let pfn = if file.is_hugetlb() {
        first.plus((offset >> page_shift) - index)
    } else {
        *first
    };
    if world.frames.frame(pfn).flags.contains(FrameFlags::HWPOISON) {
        return Err(Errno::EIO);
    }
    Ok(pfn)
}

/// `shmem_file_read_iter`, `hugetlbfs_read_iter`.
fn read_file(
    world: &mut World,
    mm: &mut Mm,
    tid: Tid,
    file: FileId,
    (addr, len, offset): (u64, u64, u64),
    moved: &mut Moved,
) -> Result<u64, Stop> {
    let page_size = world.page_size();
    loop {
        let (pfn, end) = match std::mem::take(&mut moved.piece) {
            Piece::Page { pfn, end } => (pfn, end),
            _ => match next_to_read(world, file, (len, offset), moved.done) {
                Ok(None) => break,
                Ok(Some((pfn, end))) => {
                    world.frames.get(pfn, 1);
                    (pfn, end)
                }
                Err(_) if moved.done > 0 => break,
                Err(errno) => return Err(errno.into()),
            },
        };
        let in_page = (offset + moved.done) & (page_size - 1);
        let from = (pfn, narrow(in_page), narrow(end - moved.done));
        let copied = gup::copy_out(world, mm, tid, addr + moved.done, from);
        moved.done = match copied {
            Ok(()) => end,
            Err((copied, _)) => moved.done + wide(copied),
        };
        if let Err((_, stop @ Stop::Blocked(_))) = copied {
            moved.piece = Piece::Page { pfn, end };
            return Err(stop);
        }
        world.frames.put(pfn, 1);
        match copied {
            Ok(()) => {}
            Err((_, stop)) if moved.done == 0 => return Err(stop),
            Err(_) => break,
        }
    }
    Ok(moved.done)
}

/// What is read next of a file of which `done` bytes were: the page, and how many bytes are read when
/// all that is wanted of it was. `None` where the file or the call ends.
fn next_to_read(
    world: &mut World,
    file: FileId,
    (len, offset): (u64, u64),
    done: u64,
) -> Result<Option<(Pfn, u64)>, Errno> {
    let at = offset + done;
    let size = world.files.get(file).size;
    if done >= len || at >= size {
        return Ok(None);
    }
    let index = at >> world.page_shift();
    if let Some(Cached::Swap(_)) = world.files.get(file).pages.get(&index) {
        shmem::get_or_make(world, file, index);
    }
    let pfn = page_to_read(world, file, at)?;
    let left = world.page_size() - world.offset_in_page(at);
    let chunk = left.min(size - at).min(len - done);
    Ok(Some((pfn, done + chunk)))
}

/// `generic_perform_write` to shmem. Bytes are copied to a page without faults. Where that copies
/// nothing, the file reaches to here all the same (`shmem_write_end`); then the source is touched, and
/// all is tried again. Before 6.18 the source is touched first, too.
fn write_file(
    world: &mut World,
    mm: &mut Mm,
    tid: Tid,
    id: FileId,
    (addr, len, offset): (u64, u64, u64),
    moved: &mut Moved,
) -> Result<u64, Stop> {
    let touches_first = world.profile.kernel < Kernel::V6_18;
    let ends = |done, stop| if done > 0 { Ok(done) } else { Err(stop) };
    let mut touches = touches_first || matches!(moved.piece, Piece::Touch(_));
    while moved.done < len {
        let at = offset + moved.done;
        let in_page = world.offset_in_page(at);
        let chunk = (world.page_size() - in_page).min(len - moved.done);
        let from = addr + moved.done;
        if touches {
            match touch(world, mm, tid, (from, chunk), &mut moved.piece) {
                Ok(()) => {}
                Err(stop @ Stop::Blocked(_)) => return Err(stop),
                Err(stop) => return ends(moved.done, stop),
            }
        }
        let pfn = match page_to_write(world, id, at, chunk) {
            Ok(pfn) => pfn,
            Err(errno) => return ends(moved.done, errno.into()),
        };
        let to = (pfn, narrow(in_page), narrow(chunk));
        let copied = copy_without_faults(world, mm, from, to);
        // shmem_write_end
        world.frames.folio_mut(pfn).flags |= FolioFlags::DIRTY;
        let copied = wide(copied);
        let file = world.files.get_mut(id);
        file.size = file.size.max(at + copied);
        moved.done += copied;
        touches = touches_first || copied == 0;
    }
    Ok(moved.done)
}

/// `shmem_write_begin`: the page that bytes go to, from the cache or a new one.
fn page_to_write(world: &mut World, id: FileId, at: u64, len: u64) -> Result<Pfn, Errno> {
    let file = world.files.get(id);
    let sealed = file.seals & (flag::SEAL_WRITE | flag::SEAL_FUTURE_WRITE) != 0;
    let grows = file.seals & flag::SEAL_GROW != 0 && at + len > file.size;
    if sealed || grows {
        return Err(Errno::EPERM);
    }
    let pfn = shmem::get_or_make(world, id, at >> world.page_shift());
    if world.frames.frame(pfn).flags.contains(FrameFlags::HWPOISON) {
        return Err(Errno::EIO);
    }
    Ok(pfn)
}

/// `fault_in_iov_iter_readable`: loads from each page of a range, and fails if it can't from the first.
/// What slept goes on at the page that it slept at.
fn touch(
    world: &mut World,
    mm: &mut Mm,
    tid: Tid,
    (start, len): (u64, u64),
    piece: &mut Piece,
) -> Result<(), Stop> {
    let page_size = world.page_size();
    let mut at = match std::mem::take(piece) {
        Piece::Touch(at) => at,
        _ => start,
    };
    while at < start + len {
        match reach_by_kernel(world, mm, tid, at, Kind::Load).map_err(Stop::from) {
            Ok(_) => {}
            Err(stop @ Stop::Blocked(_)) => {
                *piece = Piece::Touch(at);
                return Err(stop);
            }
            Err(stop) if at == start => return Err(stop),
            Err(_) => break,
        }
        at = (at & !(page_size - 1)) + page_size;
    }
    Ok(())
}

/// `copy_folio_from_iter_atomic`: copies bytes of a program to a frame as far as its pages are there;
/// returns how many.
fn copy_without_faults(
    world: &mut World,
    mm: &mut Mm,
    addr: u64,
    (to, start, len): (Pfn, usize, usize),
) -> usize {
    let mut done = 0;
    while done < len {
        let at = addr + wide(done);
        let Some(pfn) = readable(world, mm, at) else {
            break;
        };
        let (offset, count) = within_page(world, at, len - done);
        let frames = &mut world.frames;
        frames.copy_bytes((pfn, offset), (to, start + done), count);
        done += count;
    }
    done
}

/// `copy_page_from_iter` to a frame, until an access ends otherwise; returns how many bytes, and how.
pub(super) fn copy_to_frame(
    world: &mut World,
    mm: &mut Mm,
    tid: Tid,
    addr: u64,
    (to, start, len): (Pfn, usize, usize),
) -> (usize, Option<Stop>) {
    let mut done = 0;
    while done < len {
        let at = addr + wide(done);
        let pfn = match reach_by_kernel(world, mm, tid, at, Kind::Load) {
            Ok(pfn) => pfn,
            Err(trap) => return (done, Some(trap.into())),
        };
        let (offset, count) = within_page(world, at, len - done);
        let frames = &mut world.frames;
        frames.copy_bytes((pfn, offset), (to, start + done), count);
        done += count;
    }
    (done, None)
}

/// Copies bytes of a program until an access to it ends otherwise; returns how many, and how.
pub(super) fn copy_some(
    world: &mut World,
    mm: &mut Mm,
    tid: Tid,
    addr: u64,
    buf: &mut [u8],
) -> (usize, Option<Stop>) {
    let mut done = 0;
    while done < buf.len() {
        let at = addr + wide(done);
        let pfn = match reach_by_kernel(world, mm, tid, at, Kind::Load) {
            Ok(pfn) => pfn,
            Err(trap) => return (done, Some(trap.into())),
        };
        let (offset, len) = within_page(world, at, buf.len() - done);
        let content = &world.frames.frame(pfn).content;
        content.read(offset, &mut buf[done..done + len]);
        done += len;
    }
    (done, None)
}
