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
    /// What this kernel can report: it refuses what it doesn't know.
    known: PageFlags,
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
            known: PageFlags::all(),
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
        ranges
            .chunk_by(|one, next| one.end() == next.start())
            .filter_map(|joined| PageRange::new(joined[0].start(), joined.last()?.end()))
            .try_for_each(|span| self.scan_span(pagemap, scan, span, out))
    }

    /// Scans a span.
    fn scan_span(
        &mut self,
        pagemap: &File,
        scan: &Scan,
        span: PageRange,
        out: &mut Vec<PageRun>,
    ) -> Result<(), Errno> {
        let flags = match scan.rearm {
            Rearm::Keep => 0,
            Rearm::KeepIfTracked => PM_SCAN_CHECK_WPASYNC,
            Rearm::Rearm => PM_SCAN_WP_MATCHING,
        };
        let mut arg = PmScanArg {
            flags,
            start: span.start().0,
            end: span.end().0,
            category_mask: scan.all_of.bits(),
            category_anyof_mask: scan.any_of.bits(),
            return_mask: (scan.report & self.known).bits(),
            ..PmScanArg::default()
        };
        while arg.start < span.end().0 {
            let count = match pagemap::scan(pagemap.as_fd(), &mut arg, &mut self.regions) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                // A kernel before 6.15, on which guard pages can't be told from swapped ones.
                Err(Errno::EINVAL) if arg.return_mask & PageFlags::GUARD.bits() != 0 => {
                    self.known.remove(PageFlags::GUARD);
                    arg.return_mask = (scan.report & self.known).bits();
                    continue;
                }
                Err(errno) => return Err(errno),
            };
            out.reserve(count);
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
