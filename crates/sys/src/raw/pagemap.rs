//! `PAGEMAP_SCAN`.
#![expect(unsafe_code, reason = "system calls")]

use std::os::fd::{AsRawFd, BorrowedFd};

use space::Errno;

use super::check;
use crate::uapi::pagemap::{PAGEMAP_SCAN, PageRegion, PmScanArg};

/// Scans once, and returns how many regions were filled in. `arg.walk_end` tells how far it got.
pub(crate) fn scan(
    pagemap: BorrowedFd<'_>,
    arg: &mut PmScanArg,
    regions: &mut [PageRegion],
) -> Result<usize, Errno> {
    arg.size = size_of::<PmScanArg>() as u64;
    arg.vec = regions.as_mut_ptr().expose_provenance() as u64;
    arg.vec_len = regions.len() as u64;
    // SAFETY: 1. `pagemap` is open. 2. the kernel reads and writes a `pm_scan_arg`, which `arg`
    // is. 3. it writes at most `vec_len` regions to `vec`, which `regions` holds, and any bits
    // are a valid `PageRegion`.
    let count = check(unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, arg) }.into())?;
    Ok(usize::try_from(count).expect("a count of regions in memory"))
}
