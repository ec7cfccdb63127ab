//! Scanning page tables with what the kernel has.

use std::fs::File;

use space::{Errno, PageFlags, PageRange, PageRun, PageSize, Rearm, Scan, Vaddr};

use crate::memory::{PagemapEntries, PagemapScanner};

/// A way to scan page tables.
#[derive(Debug)]
pub(super) enum Scanner {
    /// `PAGEMAP_SCAN` (Linux 6.7).
    Ioctl(PagemapScanner),
    /// Reading `/proc/PID/pagemap`, a page at a time.
    Entries(PagemapEntries),
}

impl Scanner {
    /// Chooses the best way that works on this pagemap.
    pub(super) fn choose(pagemap: &File, page_size: PageSize) -> Self {
        let mut scanner = PagemapScanner::new();
        let scan = Scan {
            all_of: PageFlags::PRESENT,
            any_of: PageFlags::empty(),
            report: PageFlags::PRESENT,
            rearm: Rearm::Keep,
        };
        // The first pages of an address space are never mapped, so there is nothing to find.
        let first = PageRange::new(Vaddr(0), Vaddr(page_size.bytes())).expect("one page");
        match scanner.scan(pagemap, &scan, &[first], &mut Vec::new()) {
            Ok(()) => Self::Ioctl(scanner),
            Err(_) => Self::Entries(PagemapEntries::new(page_size)),
        }
    }

    /// Looks, and with the ioctl arms if asked to.
    pub(super) fn scan(
        &mut self,
        pagemap: &File,
        scan: &Scan,
        ranges: &[PageRange],
        out: &mut Vec<PageRun>,
    ) -> Result<(), Errno> {
        match self {
            Self::Ioctl(scanner) => scanner.scan(pagemap, scan, ranges, out),
            Self::Entries(entries) => entries.scan(pagemap, scan, ranges, out),
        }
    }
}
