//! `fallocate`: memory for a part of a file, or a hole in it.
//!
//! Linux reference: 6.18, `fs/open.c` (`vfs_fallocate`), `mm/shmem.c` (`shmem_fallocate`),
//! `fs/hugetlbfs/inode.c` (`hugetlbfs_fallocate`).

use space::Errno;

use crate::file::{FileId, hugetlb, shmem};
use crate::lock::Lock;
use crate::machine::{Descriptor, Fd, Machine, Tid};
use crate::stop::Stop;
use crate::uapi::file as flag;

/// `EFBIG` and `ESPIPE`, which only calls on files give.
const EFBIG: Errno = Errno(27);
const ESPIPE: Errno = Errno(29);

/// The modes that `vfs_fallocate` knows, each but the first two for file systems on disks
/// (`FALLOC_FL_MODE_MASK`).
const MODES: [u64; 7] = [0, flag::FALLOC_PUNCH_HOLE, 0x8, 0x10, 0x20, 0x40, 0x80];

impl Machine {
    /// `fallocate`.
    ///
    /// # Errors
    ///
    /// `EBADF`; `EINVAL` for an empty range; `EOPNOTSUPP` for other modes; `ESPIPE` and `ENODEV` for
    /// what is no file; `EFBIG`; `EPERM` where a seal forbids it; `ENOSPC` for an empty pool. The
    /// thread may sleep until another one has written to the file.
    pub fn fallocate(
        &mut self,
        tid: Tid,
        fd: Fd,
        mode: u64,
        offset: u64,
        len: u64,
    ) -> Result<(), Stop> {
        let (_, process) = self.halves(tid)?;
        let descriptor = process.descriptor(fd)?;
        let (Ok(_), Ok(1..)) = (i64::try_from(offset), i64::try_from(len)) else {
            return Err(Errno::EINVAL.into());
        };
        let kind = mode & !flag::FALLOC_KEEP_SIZE;
        let keeps_size = mode & flag::FALLOC_KEEP_SIZE != 0;
        let holds = match kind {
            flag::FALLOC_PUNCH_HOLE => keeps_size,
            // Collapsing, inserting and writing zeros are about the size itself.
            0x8 | 0x20 | 0x80 => !keeps_size,
            kind => MODES.contains(&kind),
        };
        if !holds {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let file = match descriptor {
            Descriptor::PipeRead(_)
            | Descriptor::File {
                read_only: true, ..
            } => return Err(Errno::EBADF.into()),
            Descriptor::PipeWrite(_) => return Err(ESPIPE.into()),
            Descriptor::Uffd(_) => return Err(Errno::ENODEV.into()),
            Descriptor::File { file, .. } => file,
        };
        if i64::try_from(offset + len).is_err() {
            return Err(EFBIG.into());
        }
        if kind != 0 && kind != flag::FALLOC_PUNCH_HOLE {
            return Err(Errno::EOPNOTSUPP.into());
        }
        self.world.locks.check(Lock::File(file), tid)?;
        let done = if kind == 0 {
            self.preallocate(file, offset, len, keeps_size)
        } else {
            self.punch_hole(file, offset, len)
        };
        done.map_err(Stop::Failed)
    }

    fn preallocate(
        &mut self,
        id: FileId,
        offset: u64,
        len: u64,
        keeps_size: bool,
    ) -> Result<(), Errno> {
        let file = self.world.files.get(id);
        let end = offset + len;
        if file.seals & flag::SEAL_GROW != 0 && end > file.size {
            return Err(Errno::EPERM);
        }
        if file.is_hugetlb() {
            hugetlb::allocate(&mut self.world, id, offset, len)?;
        } else {
            shmem::allocate(&mut self.world, id, offset, len)?;
        }
        let file = self.world.files.get_mut(id);
        if !keeps_size {
            file.size = file.size.max(end);
        }
        Ok(())
    }

    /// `vfs_fallocate` with `FALLOC_FL_PUNCH_HOLE`: drops the pages of a range of a file.
    ///
    /// # Errors
    ///
    /// `EPERM` where a seal forbids it.
    pub(crate) fn punch_hole(&mut self, id: FileId, offset: u64, len: u64) -> Result<(), Errno> {
        let file = self.world.files.get(id);
        if file.seals & (flag::SEAL_WRITE | flag::SEAL_FUTURE_WRITE) != 0 {
            return Err(Errno::EPERM);
        }
        if file.is_hugetlb() {
            self.hugetlb_punch_hole(id, offset, len);
        } else {
            shmem::punch_hole(self, id, offset, len);
        }
        Ok(())
    }
}
