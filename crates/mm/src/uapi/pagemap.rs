//! Numbers of `PAGEMAP_SCAN` (`include/uapi/linux/fs.h`).

use bitflags::bitflags;

bitflags! {
    /// `PAGE_IS_*`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Categories: u64 {
        /// The mapping can be protected by the scan.
        const WPALLOWED = 1;
        /// Not protected: written since it was.
        const WRITTEN = 1 << 1;
        /// A page of a file, or shared memory.
        const FILE = 1 << 2;
        /// In memory.
        const PRESENT = 1 << 3;
        /// On a swap device, or a marker.
        const SWAPPED = 1 << 4;
        /// The page of zeros.
        const PFNZERO = 1 << 5;
        /// Part of a huge page.
        const HUGE = 1 << 6;
        /// Written since `clear_refs`.
        const SOFT_DIRTY = 1 << 7;
        /// A guard (6.15).
        const GUARD = 1 << 8;
        /// Not read-and-write protected: accessed since it was (7.3).
        const ACCESSED = 1 << 9;
    }
}

bitflags! {
    /// `PM_SCAN_*`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct ScanFlags: u64 {
        /// Protects the written pages that are told.
        const WP_MATCHING = 1;
        /// Fails where a mapping can't be protected.
        const CHECK_WPASYNC = 2;
    }
}

/// The size of `struct pm_scan_arg`.
pub const ARGUMENT_SIZE: u64 = 96;
