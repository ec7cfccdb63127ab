//! `read` and `write` between descriptors and memory: the kernel's own accesses.
//!
//! Linux reference: 6.18, `fs/read_write.c`, `mm/filemap.c` (`generic_perform_write`),
//! `mm/shmem.c` (`shmem_file_read_iter`, `shmem_write_begin`), `fs/hugetlbfs/inode.c`.

use space::Errno;

use super::pipe;
use crate::access::{Kind, reach_by_kernel, within_page};
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
        let (world, process) = self.halves(tid)?;
        let descriptor = process.descriptor(fd)?;
        let mm = &mut process.mm;
        match descriptor {
            Descriptor::PipeWrite(_) => Err(Errno::EBADF.into()),
            Descriptor::Uffd(_) => Err(Errno::EINVAL.into()),
            Descriptor::PipeRead(id) => {
                checked_buffer(world, addr, len)?;
                let len = narrow(len.min(most(world)));
                locked(world, tid, Lock::Pipe(id), |world| {
                    pipe::read(world, mm, tid, id, addr, len)
                })
            }
            Descriptor::File { file, .. } => {
                if i64::try_from(offset).is_err() {
                    return Err(Errno::EINVAL.into());
                }
                checked_buffer(world, addr, len)?;
                checked_offset(offset, len)?;
                let len = len.min(most(world));
                read_file(world, mm, tid, file, (addr, len), offset)
            }
        }
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
        let (world, process) = self.halves(tid)?;
        let descriptor = process.descriptor(fd)?;
        let mm = &mut process.mm;
        match descriptor {
            Descriptor::PipeRead(_)
            | Descriptor::File {
                read_only: true, ..
            } => Err(Errno::EBADF.into()),
            Descriptor::Uffd(_) => Err(Errno::EINVAL.into()),
            Descriptor::PipeWrite(id) => {
                checked_buffer(world, addr, len)?;
                let len = narrow(len.min(most(world)));
                if len == 0 {
                    return Ok(0);
                }
                locked(world, tid, Lock::Pipe(id), |world| {
                    pipe::write(world, mm, tid, id, addr, len)
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
                    write_file(world, mm, tid, file, (addr, len), offset)
                })
            }
        }
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
    (addr, len): (u64, u64),
    offset: u64,
) -> Result<u64, Stop> {
    let page_size = world.page_size();
    let mut done = 0;
    while done < len {
        let at = offset + done;
        let size = world.files.get(file).size;
        if at >= size {
            break;
        }
        let index = at >> world.page_shift();
        if let Some(Cached::Swap(_)) = world.files.get(file).pages.get(&index) {
            shmem::get_or_make(world, file, index);
        }
        let pfn = match page_to_read(world, file, at) {
            Ok(pfn) => pfn,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno.into()),
        };
        let in_page = at & (page_size - 1);
        let chunk = (page_size - in_page).min(size - at).min(len - done);
        let mut bytes = vec![0; narrow(chunk)];
        let content = &world.frames.frame(pfn).content;
        content.read(narrow(in_page), &mut bytes);
        match gup::copy_out(world, mm, tid, addr + done, &bytes) {
            Ok(()) => done += chunk,
            Err((_, Stop::Blocked(wait))) => return Err(Stop::Blocked(wait)),
            Err((copied, stop)) => {
                done += u64::try_from(copied).expect("a length fits");
                if done == 0 {
                    return Err(stop);
                }
                break;
            }
        }
    }
    Ok(done)
}

/// `generic_perform_write` to shmem. The page is there, and the file reaches to it, before a byte
/// is copied.
fn write_file(
    world: &mut World,
    mm: &mut Mm,
    tid: Tid,
    id: FileId,
    (addr, len): (u64, u64),
    offset: u64,
) -> Result<u64, Stop> {
    let page_size = world.page_size();
    let mut done = 0;
    while done < len {
        let at = offset + done;
        let in_page = at & (page_size - 1);
        let chunk = (page_size - in_page).min(len - done);
        // shmem_write_begin
        let file = world.files.get(id);
        let sealed = file.seals & (flag::SEAL_WRITE | flag::SEAL_FUTURE_WRITE) != 0;
        let grows = file.seals & flag::SEAL_GROW != 0 && at + chunk > file.size;
        if sealed || grows {
            return if done > 0 {
                Ok(done)
            } else {
                Err(Errno::EPERM.into())
            };
        }
        let pfn = shmem::get_or_make(world, id, at >> world.page_shift());
        let broken = world.frames.frame(pfn).flags.contains(FrameFlags::HWPOISON);
        if broken {
            return if done > 0 {
                Ok(done)
            } else {
                Err(Errno::EIO.into())
            };
        }
        if world.profile.kernel >= Kernel::V6_18 {
            // The first copy takes no faults; where it copies nothing, shmem_write_end has the file
            // reach to here all the same.
            let file = world.files.get_mut(id);
            file.size = file.size.max(at);
        }
        let mut bytes = vec![0; narrow(chunk)];
        let (copied, stop) = copy_some(world, mm, tid, addr + done, &mut bytes);
        let size = world.frames.page_size();
        let content = &mut world.frames.frame_mut(pfn).content;
        content.write(narrow(in_page), &bytes[..copied], size);
        // shmem_write_end
        world.frames.folio_mut(pfn).flags |= FolioFlags::DIRTY;
        let copied = u64::try_from(copied).expect("a length fits");
        let file = world.files.get_mut(id);
        file.size = file.size.max(at + copied);
        done += copied;
        match stop {
            None => {}
            Some(Stop::Blocked(wait)) => return Err(Stop::Blocked(wait)),
            Some(stop) if done == 0 => return Err(stop),
            // The next round tries the rest: the file may reach to what is read by now.
            Some(_) if copied > 0 => {}
            Some(_) => {
                break;
            }
        }
    }
    Ok(done)
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
        let at = addr + u64::try_from(done).expect("a length fits");
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
