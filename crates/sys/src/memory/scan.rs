//! Scanning page tables with `PAGEMAP_SCAN`.

use std::fs::File;
use std::os::fd::AsFd;

use space::{Errno, PageFlags, PageRange, PageRun, Rearm, Scan, Vaddr};

use crate::raw::pagemap;
use crate::uapi::pagemap::{PM_SCAN_CHECK_WPASYNC, PM_SCAN_WP_MATCHING, PageRegion, PmScanArg};

/// Regions that one ioctl may fill in: enough that a GiB of scattered writes takes a few calls.
const REGIONS: usize = 16 << 10;

/// Scans page tables, with a buffer that is kept and was touched before it is needed.
#[derive(Debug)]
pub(crate) struct PagemapScanner {
    regions: Box<[PageRegion]>,
}

impl PagemapScanner {
    /// Makes a scanner.
    pub(crate) fn new() -> Self {
        // Written, so that the kernel has no page of it to find in the freeze.
        let touched = PageRegion {
            start: 1,
            end: 1,
            categories: 1,
        };
        Self {
            regions: vec![touched; REGIONS].into_boxed_slice(),
        }
    }

    /// Scans `ranges`. Neighbouring ones are scanned in one go.
    pub(crate) fn scan(
        &mut self,
        pagemap: &File,
        scan: &Scan,
        ranges: &[PageRange],
        out: &mut Vec<PageRun>,
    ) -> Result<(), Errno> {
        let mut ranges = ranges.iter().copied().peekable();
        while let Some(range) = ranges.next() {
            let mut end = range.end();
            while let Some(next) = ranges.next_if(|next| next.start() == end) {
                end = next.end();
            }
            self.scan_span(pagemap, scan, range.start(), end, out)?;
        }
        Ok(())
    }

    fn scan_span(
        &mut self,
        pagemap: &File,
        scan: &Scan,
        start: Vaddr,
        end: Vaddr,
        out: &mut Vec<PageRun>,
    ) -> Result<(), Errno> {
        let flags = match scan.rearm {
            Rearm::Keep => 0,
            Rearm::KeepIfTracked => PM_SCAN_CHECK_WPASYNC,
            Rearm::Rearm => PM_SCAN_WP_MATCHING,
        };
        let mut arg = PmScanArg {
            flags,
            start: start.0,
            end: end.0,
            category_mask: scan.all_of.bits(),
            category_anyof_mask: scan.any_of.bits(),
            return_mask: scan.report.bits(),
            ..PmScanArg::default()
        };
        while arg.start < end.0 {
            let count = match pagemap::scan(pagemap.as_fd(), &mut arg, &mut self.regions) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno),
            };
            out.extend(self.regions[..count].iter().filter_map(|region| {
                let range = PageRange::new(Vaddr(region.start), Vaddr(region.end))?;
                Some(PageRun {
                    range,
                    flags: PageFlags::from_bits_retain(region.categories),
                })
            }));
            if arg.walk_end <= arg.start {
                return Err(Errno::EIO);
            }
            arg.start = arg.walk_end;
        }
        Ok(())
    }
}
