//! `memfd_create` and seals.
//!
//! Linux reference: 6.18, `mm/memfd.c`.

use space::Errno;

use crate::file::{FileId, FileKind, hugetlb};
use crate::folio::Folio;
use crate::lock::Lock;
use crate::machine::{Descriptor, Fd, Machine, Tid};
use crate::stop::Stop;
use crate::uapi::{file as flag, map};
use crate::vma::VmaFlags;

/// The longest name (`MFD_NAME_MAX_LEN`).
const NAME_MAX: usize = 249;

impl Machine {
    /// Makes a file in memory; returns a descriptor.
    ///
    /// # Errors
    ///
    /// `EINVAL` for unknown flags or a long name, `ENODEV` for a size that huge pages don't have.
    pub fn memfd_create(&mut self, tid: Tid, name: &str, flags: u64) -> Result<Fd, Errno> {
        let mut known = flag::MFD_CLOEXEC
            | flag::MFD_ALLOW_SEALING
            | flag::MFD_HUGETLB
            | flag::MFD_NOEXEC_SEAL
            | flag::MFD_EXEC;
        if flags & flag::MFD_HUGETLB != 0 {
            known |= map::HUGE_MASK << map::HUGE_SHIFT;
        }
        let both = flag::MFD_EXEC | flag::MFD_NOEXEC_SEAL;
        if flags & !known != 0 || flags & both == both || name.len() > NAME_MAX {
            return Err(Errno::EINVAL);
        }
        let (world, process) = self.halves(tid)?;
        let name = format!("/memfd:{name} (deleted)");
        let file = if flags & flag::MFD_HUGETLB == 0 {
            world.files.create(FileKind::Shmem, name, 0)
        } else {
            let log = (flags >> map::HUGE_SHIFT) & map::HUGE_MASK;
            let shift = world.frames.pools.shift_of(log).ok_or(Errno::ENODEV)?;
            hugetlb::make_file(world, shift, name, 0)
        };
        world.files.get_mut(file).seals = if flags & flag::MFD_NOEXEC_SEAL != 0 {
            flag::SEAL_EXEC
        } else if flags & flag::MFD_ALLOW_SEALING != 0 {
            0
        } else {
            flag::SEAL_SEAL
        };
        Ok(process.add_fd(Descriptor::File {
            file,
            read_only: false,
        }))
    }

    /// `fcntl(F_ADD_SEALS)` (`memfd_add_seals`).
    ///
    /// # Errors
    ///
    /// `EBADF`; `EPERM` for what is not open for writing, or takes no more seals; `EINVAL` for
    /// unknown seals and what is no file; `EBUSY` for a seal against writing while the file is
    /// mapped shared or pages of it are pinned. The thread may sleep until another one has written to
    /// the file.
    pub fn add_seals(&mut self, tid: Tid, fd: Fd, seals: u32) -> Result<(), Stop> {
        let (_, process) = self.halves(tid)?;
        let file = match process.descriptor(fd)? {
            Descriptor::File {
                read_only: true, ..
            }
            | Descriptor::PipeRead(_) => return Err(Errno::EPERM.into()),
            Descriptor::File { file, .. } => Some(file),
            Descriptor::Uffd(_) | Descriptor::PipeWrite(_) => None,
        };
        if seals & !flag::SEALS_ALL != 0 {
            return Err(Errno::EINVAL.into());
        }
        let file = file.ok_or(Errno::EINVAL)?;
        self.world.locks.check(Lock::File(file), tid)?;
        let old = self.world.files.get(file).seals;
        if old & flag::SEAL_SEAL != 0 {
            return Err(Errno::EPERM.into());
        }
        let mut seals = seals;
        if seals & flag::SEAL_EXEC != 0 && old & flag::SEAL_EXEC == 0 {
            // What may be executed is never written again.
            seals |=
                flag::SEAL_SHRINK | flag::SEAL_GROW | flag::SEAL_WRITE | flag::SEAL_FUTURE_WRITE;
        }
        if seals & !old & flag::SEAL_WRITE != 0
            && (self.is_shared_writable(file) || self.has_pins(file))
        {
            return Err(Errno::EBUSY.into());
        }
        self.world.files.get_mut(file).seals |= seals;
        Ok(())
    }

    /// `fcntl(F_GET_SEALS)`.
    ///
    /// # Errors
    ///
    /// `EBADF`; `EINVAL` for what is no file.
    pub fn get_seals(&mut self, tid: Tid, fd: Fd) -> Result<u32, Errno> {
        let (world, process) = self.halves(tid)?;
        match process.descriptor(fd)? {
            Descriptor::File { file, .. } => Ok(world.files.get(file).seals),
            _ => Err(Errno::EINVAL),
        }
    }

    /// `mapping_deny_writable`: whether somebody may write through a mapping.
    fn is_shared_writable(&mut self, file: FileId) -> bool {
        let (_, mut processes) = self.all();
        processes.any(|process| {
            process
                .mm
                .vmas
                .iter()
                .any(|vma| vma.file == Some(file) && vma.has(VmaFlags::SHARED | VmaFlags::MAYWRITE))
        })
    }

    /// `memfd_wait_for_pins`: whether pages have references beside mappings and the page cache.
    fn has_pins(&self, file: FileId) -> bool {
        let world = &self.world;
        let pinned = |folio: &Folio| folio.refcount != folio.mapcount + folio.cache_references();
        let file = world.files.get(file);
        file.pages
            .keys()
            .filter_map(|&index| file.page(index))
            .any(|pfn| pinned(world.frames.folio(pfn)))
    }

    /// Opens a descriptor's file once more, for reading only (by `/proc/self/fd`).
    ///
    /// # Errors
    ///
    /// `EBADF` where there is no such descriptor, `ENXIO` where it is no file.
    pub fn reopen_read_only(&mut self, tid: Tid, fd: Fd) -> Result<Fd, Errno> {
        let (world, process) = self.halves(tid)?;
        let Descriptor::File { file, .. } = process.descriptor(fd)? else {
            return Err(Errno::ENXIO);
        };
        world.files.get_ref(file);
        Ok(process.add_fd(Descriptor::File {
            file,
            read_only: true,
        }))
    }
}
