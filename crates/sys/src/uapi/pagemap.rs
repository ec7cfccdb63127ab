//! `PAGEMAP_SCAN` (`include/uapi/linux/fs.h`, Linux 6.7) and the entries of `/proc/PID/pagemap`
//! (`Documentation/admin-guide/mm/pagemap.rst`).

/// `struct page_region`: pages `start..end` with the same categories.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PageRegion {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) categories: u64,
}

/// `struct pm_scan_arg`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PmScanArg {
    pub(crate) size: u64,
    pub(crate) flags: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Written by the kernel: where the walk stopped.
    pub(crate) walk_end: u64,
    pub(crate) vec: u64,
    pub(crate) vec_len: u64,
    pub(crate) max_pages: u64,
    pub(crate) category_inverted: u64,
    pub(crate) category_mask: u64,
    pub(crate) category_anyof_mask: u64,
    pub(crate) return_mask: u64,
}

/// Write-protects the pages that match.
pub(crate) const PM_SCAN_WP_MATCHING: u64 = 1;

/// Fails with `EPERM` where a mapping is not in asynchronous write protection mode.
pub(crate) const PM_SCAN_CHECK_WPASYNC: u64 = 2;

pub(crate) const PAGEMAP_SCAN: u64 = super::iowr::<PmScanArg>(b'f', 16);

/// Bits 0 to 54: the number of the frame, or zero for those who may not know it.
pub(crate) const PM_FRAME: u64 = (1 << 55) - 1;
/// Bit 55 of a pagemap entry: written since the soft-dirty bits were cleared.
pub(crate) const PM_SOFT_DIRTY: u64 = 1 << 55;
/// Bit 56: mapped by this process alone.
pub(crate) const PM_MMAP_EXCLUSIVE: u64 = 1 << 56;
/// Bit 58: a guard page (Linux 6.15), which looks like a swapped one else.
pub(crate) const PM_GUARD: u64 = 1 << 58;
/// Bit 61: a page of a file or of shared memory.
pub(crate) const PM_FILE: u64 = 1 << 61;
/// Bit 62: swapped out.
pub(crate) const PM_SWAP: u64 = 1 << 62;
/// Bit 63: present.
pub(crate) const PM_PRESENT: u64 = 1 << 63;

const _: () = assert!(size_of::<PageRegion>() == 24);
const _: () = assert!(size_of::<PmScanArg>() == 96);
const _: () = assert!(PAGEMAP_SCAN == 0xc060_6610);
