//! Whether this kernel's scans report pages that are not there as written.

use std::fs::File;

use space::{Errno, PageFlags, PageRange, PageSize, Rearm, Scan};

use crate::memory::{PagemapScanner, WriteProtect};
use crate::raw::scratch::ScratchPages;
use crate::raw::userfaultfd::userfaultfd;
use crate::uapi::userfaultfd::UFFD_USER_MODE_ONLY;

/// Tries it on memory of our own: of three page tables' worth of pages two are armed and one of
/// them dropped, so that there are pages without an entry, and entries without a page table.
///
/// Kernels differ in this, and a scan that reports them is several times as fast as one that
/// lists all pages that are there.
pub(super) fn counts_as_written(page_size: PageSize) -> bool {
    tried(page_size).unwrap_or(false)
}

fn tried(page_size: PageSize) -> Result<bool, Errno> {
    let entries = page_size.as_usize() / size_of::<u64>();
    let pages = ScratchPages::map(3 * entries, page_size, false)?;
    pages.write(0, 1);
    pages.write(1, 1);
    let range = |from, to| PageRange::new(pages.address(from), pages.address(to));
    let (Some(all), Some(rest)) = (range(0, 3 * entries), range(1, 3 * entries)) else {
        return Ok(false);
    };
    let protect = WriteProtect::new(userfaultfd(UFFD_USER_MODE_ONLY)?)?;
    protect.register(all)?;
    let pagemap = File::open("/proc/self/pagemap")?;
    let mut scanner = PagemapScanner::new();
    let mut runs = Vec::new();
    let there = PageFlags::PRESENT | PageFlags::SWAPPED;
    let arm = Scan {
        all_of: PageFlags::WRITTEN,
        any_of: there,
        report: PageFlags::empty(),
        rearm: Rearm::Rearm,
    };
    scanner.scan(&pagemap, &arm, &[all], &mut runs)?;
    pages.discard(1)?;
    runs.clear();
    let look = Scan {
        any_of: PageFlags::empty(),
        report: there,
        rearm: Rearm::KeepIfTracked,
        ..arm
    };
    scanner.scan(&pagemap, &look, &[all], &mut runs)?;
    // All but the armed page is reported, and none of it as being there.
    let reported: space::RangeSet = runs.iter().map(|run| run.range).collect();
    Ok(reported.ranges() == [rest] && runs.iter().all(|run| run.flags.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_gives_an_answer() {
        let page_size = crate::procfs::base_page_size();
        if let Err(errno) = userfaultfd(UFFD_USER_MODE_ONLY).and_then(WriteProtect::new) {
            println!("skipped: no asynchronous write protection: {errno}");
            return;
        }
        // What the answer is depends on the kernel; that there is one does not.
        assert!(tried(page_size).is_ok(), "{:?}", tried(page_size));
    }
}
