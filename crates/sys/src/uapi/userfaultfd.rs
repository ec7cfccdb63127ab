//! userfaultfd (`include/uapi/linux/userfaultfd.h`), as far as write tracking needs it.

/// Makes `userfaultfd(2)` allowed without privilege; asynchronous write protection still sees
/// the kernel's own writes, since there is nothing to deliver.
pub(crate) const UFFD_USER_MODE_ONLY: u64 = 1;

pub(crate) const UFFD_API: u64 = 0xAA;
/// The kind of all its ioctls, the same number.
const IOCTL_KIND: u8 = 0xAA;
/// Write protection of hugetlb and shared memory (Linux 5.19).
pub(crate) const UFFD_FEATURE_WP_HUGETLBFS_SHMEM: u64 = 1 << 12;
/// Write faults clear the protection and go on (Linux 6.7); implies `WP_UNPOPULATED`.
pub(crate) const UFFD_FEATURE_WP_ASYNC: u64 = 1 << 15;

/// Faults of writes to protected pages.
pub(crate) const UFFDIO_REGISTER_MODE_WP: u64 = 1 << 1;

/// `struct uffdio_api`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UffdioApi {
    pub(crate) api: u64,
    pub(crate) features: u64,
    pub(crate) ioctls: u64,
}

/// `struct uffdio_range`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UffdioRange {
    pub(crate) start: u64,
    pub(crate) len: u64,
}

/// `struct uffdio_register`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UffdioRegister {
    pub(crate) range: UffdioRange,
    pub(crate) mode: u64,
    pub(crate) ioctls: u64,
}

/// `struct uffdio_writeprotect`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UffdioWriteprotect {
    pub(crate) range: UffdioRange,
    /// 0 takes protection off.
    pub(crate) mode: u64,
}

pub(crate) const UFFDIO_API: u64 = super::iowr::<UffdioApi>(IOCTL_KIND, 0x3F);
pub(crate) const UFFDIO_REGISTER: u64 = super::iowr::<UffdioRegister>(IOCTL_KIND, 0x00);
pub(crate) const UFFDIO_WRITEPROTECT: u64 = super::iowr::<UffdioWriteprotect>(IOCTL_KIND, 0x06);

const _: () = assert!(UFFDIO_API == 0xc018_aa3f);
const _: () = assert!(UFFDIO_REGISTER == 0xc020_aa00);
const _: () = assert!(UFFDIO_WRITEPROTECT == 0xc018_aa06);
