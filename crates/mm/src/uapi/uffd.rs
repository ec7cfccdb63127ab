//! Numbers of `userfaultfd` (`include/uapi/linux/userfaultfd.h`).

use bitflags::bitflags;

/// What `UFFDIO_API` must be given.
pub const API: u64 = 0xaa;

/// `O_CLOEXEC`, as a flag of `userfaultfd`.
pub const CLOEXEC: u64 = 0x8_0000;
/// `O_NONBLOCK`, as a flag of `userfaultfd`.
pub const NONBLOCK: u64 = 0x800;
/// `UFFD_USER_MODE_ONLY`: faults of the kernel end in SIGBUS or `EFAULT`.
pub const USER_MODE_ONLY: u64 = 1;

bitflags! {
    /// `UFFD_FEATURE_*`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Features: u64 {
        /// Write protection tells its faults apart.
        const PAGEFAULT_FLAG_WP = 1;
        /// Children are told about, and registered.
        const EVENT_FORK = 1 << 1;
        /// Moved mappings are told about, and stay registered.
        const EVENT_REMAP = 1 << 2;
        /// Removed pages are told about.
        const EVENT_REMOVE = 1 << 3;
        /// Missing pages of hugetlbfs.
        const MISSING_HUGETLBFS = 1 << 4;
        /// Missing pages of shmem.
        const MISSING_SHMEM = 1 << 5;
        /// Unmapped ranges are told about.
        const EVENT_UNMAP = 1 << 6;
        /// A fault ends in SIGBUS and no event.
        const SIGBUS = 1 << 7;
        /// Faults name the thread.
        const THREAD_ID = 1 << 8;
        /// Minor faults of hugetlbfs.
        const MINOR_HUGETLBFS = 1 << 9;
        /// Minor faults of shmem.
        const MINOR_SHMEM = 1 << 10;
        /// Faults tell the address of the access, not of the page.
        const EXACT_ADDRESS = 1 << 11;
        /// Write protection of hugetlbfs and shmem.
        const WP_HUGETLBFS_SHMEM = 1 << 12;
        /// Protecting what is not there leaves a marker also in private memory.
        const WP_UNPOPULATED = 1 << 13;
        /// `UFFDIO_POISON`.
        const POISON = 1 << 14;
        /// A write to what is protected lifts the protection and tells nobody.
        const WP_ASYNC = 1 << 15;
        /// `UFFDIO_MOVE`.
        const MOVE = 1 << 16;
        /// `UFFDIO_RWPROTECT` (7.3).
        const RWP = 1 << 17;
        /// An access to what is read-and-write protected lifts the protection (7.3).
        const RWP_ASYNC = 1 << 18;
    }
}

/// `UFFDIO_REGISTER_MODE_*`.
pub mod register {
    /// Missing pages.
    pub const MISSING: u64 = 1;
    /// Write protection.
    pub const WP: u64 = 2;
    /// Pages of a file that are there but not mapped.
    pub const MINOR: u64 = 4;
    /// Read and write protection (7.3).
    pub const RWP: u64 = 8;
}

/// The calls, as bits of the masks that `UFFDIO_API` and `UFFDIO_REGISTER` return.
pub mod ioctl {
    /// `UFFDIO_REGISTER`.
    pub const REGISTER: u64 = 1;
    /// `UFFDIO_UNREGISTER`.
    pub const UNREGISTER: u64 = 1 << 1;
    /// `UFFDIO_WAKE`.
    pub const WAKE: u64 = 1 << 2;
    /// `UFFDIO_COPY`.
    pub const COPY: u64 = 1 << 3;
    /// `UFFDIO_ZEROPAGE`.
    pub const ZEROPAGE: u64 = 1 << 4;
    /// `UFFDIO_MOVE`.
    pub const MOVE: u64 = 1 << 5;
    /// `UFFDIO_WRITEPROTECT`.
    pub const WRITEPROTECT: u64 = 1 << 6;
    /// `UFFDIO_CONTINUE`.
    pub const CONTINUE: u64 = 1 << 7;
    /// `UFFDIO_POISON`.
    pub const POISON: u64 = 1 << 8;
    /// `UFFDIO_RWPROTECT` (7.3).
    pub const RWPROTECT: u64 = 1 << 9;
    /// `UFFDIO_SET_MODE` (7.3).
    pub const SET_MODE: u64 = 1 << 10;
    /// `UFFDIO_API`.
    pub const API: u64 = 1 << 63;
}

/// Modes of the calls on ranges (`UFFDIO_*_MODE_*`).
pub mod mode {
    /// `COPY`, `ZEROPAGE`, `CONTINUE`, `POISON`, `MOVE`: waiters sleep on.
    pub const DONTWAKE: u64 = 1;
    /// `COPY` and `CONTINUE`: the new page is write protected.
    pub const WP: u64 = 2;
    /// `COPY` and `CONTINUE`: the new page is read-and-write protected (7.3).
    pub const RWP: u64 = 4;
    /// `MOVE`: what is not there counts as moved.
    pub const ALLOW_SRC_HOLES: u64 = 2;
    /// `WRITEPROTECT` and `RWPROTECT`: protects; else the protection is lifted.
    pub const PROTECT: u64 = 1;
    /// `WRITEPROTECT` and `RWPROTECT`: waiters sleep on.
    pub const PROTECT_DONTWAKE: u64 = 2;
}

/// `UFFD_PAGEFAULT_FLAG_*`.
pub mod fault {
    /// A store.
    pub const WRITE: u64 = 1;
    /// To a page that is write protected.
    pub const WP: u64 = 2;
    /// The file's page is there.
    pub const MINOR: u64 = 4;
    /// To a page that is read-and-write protected (7.3).
    pub const RWP: u64 = 8;
}
