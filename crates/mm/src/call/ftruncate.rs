//! `ftruncate`.
//!
//! Linux reference: 6.18, `fs/open.c` (`do_sys_ftruncate`), `mm/shmem.c` (`shmem_setattr`),
//! `fs/hugetlbfs/inode.c` (`hugetlbfs_setattr`).

use space::Errno;

use crate::file::shmem;
use crate::lock::Lock;
use crate::machine::{Descriptor, Fd, Machine, Tid};
use crate::stop::Stop;
use crate::uapi::file as flag;

impl Machine {
    /// Sets the size of a file.
    ///
    /// # Errors
    ///
    /// `EBADF`; `EINVAL` for a negative size, what is no file or not open for writing, or a part of a
    /// huge page; `EPERM` where a seal forbids it. The thread may sleep until another one has written
    /// to the file.
    pub fn ftruncate(&mut self, tid: Tid, fd: Fd, size: u64) -> Result<(), Stop> {
        if i64::try_from(size).is_err() {
            return Err(Errno::EINVAL.into());
        }
        let (world, process) = self.halves(tid)?;
        let Descriptor::File {
            file: id,
            read_only: false,
        } = process.descriptor(fd)?
        else {
            return Err(Errno::EINVAL.into());
        };
        world.locks.check(Lock::File(id), tid)?;
        let file = world.files.get(id);
        let huge = file.is_hugetlb();
        if huge && size & ((1 << file.page_shift(0)) - 1) != 0 {
            return Err(Errno::EINVAL.into());
        }
        let shrinks = size < file.size && file.seals & flag::SEAL_SHRINK != 0;
        let grows = size > file.size && file.seals & flag::SEAL_GROW != 0;
        if shrinks || grows {
            return Err(Errno::EPERM.into());
        }
        if huge {
            self.hugetlb_truncate(id, size);
        } else {
            shmem::truncate(self, id, size);
        }
        Ok(())
    }
}
