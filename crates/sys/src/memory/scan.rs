//! Scanning page tables with `PAGEMAP_SCAN`.
//!
//! A large scan is shared among threads: the kernel walks page tables under a lock that readers
//! share, so that two of them walk them in half the time, which counts in a freeze.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use space::{ByteLen, Errno, PageFlags, PageRange, PageRun, Rearm, Scan, Vaddr};

use crate::raw::pagemap;
use crate::uapi::pagemap::{PM_SCAN_CHECK_WPASYNC, PM_SCAN_WP_MATCHING, PageRegion, PmScanArg};

/// Regions that one ioctl may fill in: enough that a GiB of scattered writes takes a few calls.
const REGIONS: usize = 16 << 10;

/// More threads than this wait for the same memory.
const THREADS_MAX: usize = 4;

/// A scan of less than this takes no longer than starting a thread.
const SHARED_MIN: u64 = 512 << 20;

/// Into how many pieces a scan is cut for each thread: memory is not spread evenly over a range.
const PIECES: u64 = 8;

/// Scans page tables, with buffers that are kept and were touched before they are needed.
#[derive(Debug)]
pub(crate) struct PagemapScanner {
    /// A walker for each thread.
    walkers: Vec<Walker>,
}

impl PagemapScanner {
    /// Makes a scanner.
    pub(crate) fn new() -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        Self {
            walkers: (0..threads.min(THREADS_MAX))
                .map(|_| Walker::new())
                .collect(),
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
        let mut spans = ranges
            .chunk_by(|one, next| one.end() == next.start())
            .filter_map(|joined| PageRange::new(joined[0].start(), joined.last()?.end()));
        let total: u64 = ranges.iter().map(|range| range.len().0).sum();
        // A huge page of which a part is looked at can't be armed, or is split.
        let whole = scan.rearm == Rearm::Rearm;
        if whole || self.walkers.len() == 1 || total < SHARED_MIN {
            let walker = &mut self.walkers[0];
            return spans.try_for_each(|span| walker.scan(pagemap, scan, span, out));
        }
        let piece = ByteLen((total / PIECES / self.walkers.len() as u64).next_power_of_two());
        let pieces: Vec<_> = spans.flat_map(|span| span.chunks(piece)).collect();
        self.share(pagemap, scan, &pieces, out)
    }

    /// Has each thread scan one piece after the other.
    fn share(
        &mut self,
        pagemap: &File,
        scan: &Scan,
        pieces: &[PageRange],
        out: &mut Vec<PageRun>,
    ) -> Result<(), Errno> {
        let next = AtomicUsize::new(0);
        let work = |walker: &mut Walker| -> Result<Found, Errno> {
            let mut found = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(&piece) = pieces.get(number) else {
                    return Ok(found);
                };
                let mut runs = Vec::new();
                walker.scan(pagemap, scan, piece, &mut runs)?;
                found.push((number, runs));
            }
        };
        let (first, others) = self.walkers.split_at_mut(1);
        let mut found = thread::scope(|scope| -> Result<Found, Errno> {
            // Where no more threads may be made, those that there are do all of it.
            let others: Vec<_> = others
                .iter_mut()
                .filter_map(|walker| {
                    thread::Builder::new()
                        .spawn_scoped(scope, || work(walker))
                        .ok()
                })
                .collect();
            let mut found = work(&mut first[0])?;
            for other in others {
                found.append(&mut other.join().expect("scanning doesn't panic")?);
            }
            Ok(found)
        })?;
        found.sort_unstable_by_key(|&(number, _)| number);
        out.reserve(found.iter().map(|(_, runs)| runs.len()).sum());
        for (_, mut runs) in found {
            out.append(&mut runs);
        }
        Ok(())
    }
}

/// What was found in some of the pieces, by their numbers.
type Found = Vec<(usize, Vec<PageRun>)>;

/// What one thread scans with.
#[derive(Debug)]
struct Walker {
    regions: Box<[PageRegion]>,
    /// What this kernel can report: it refuses what it doesn't know.
    known: PageFlags,
}

impl Walker {
    fn new() -> Self {
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

    /// Scans a span.
    fn scan(
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

#[cfg(test)]
mod tests {
    use space::{PageSize, RangeSet};

    use super::*;
    use crate::raw::scratch::ScratchPages;

    fn scan(threads: usize, range: PageRange) -> Result<RangeSet, Errno> {
        let mut scanner = PagemapScanner {
            walkers: (0..threads).map(|_| Walker::new()).collect(),
        };
        let scan = Scan {
            all_of: PageFlags::PRESENT,
            any_of: PageFlags::empty(),
            report: PageFlags::PRESENT,
            rearm: Rearm::Keep,
        };
        let pagemap = File::open("/proc/self/pagemap")?;
        let mut runs = Vec::new();
        scanner.scan(&pagemap, &scan, &[range], &mut runs)?;
        // Where a piece ends, a run does.
        Ok(runs.iter().map(|run| run.range).collect())
    }

    #[test]
    fn threads_find_what_one_finds() {
        let size = PageSize::new(rustix::param::page_size() as u64).expect("a page's size");
        let count = usize::try_from(SHARED_MIN / size.bytes()).expect("it fits");
        let pages = ScratchPages::map(count, size, false).expect("nothing of it is there");
        for page in (0..count).step_by(count / 600) {
            pages.write(page, 1);
        }
        let end = pages.address(count - 1).0 + size.bytes();
        let range = PageRange::new(pages.address(0), Vaddr(end)).expect("many pages");
        let Ok(one) = scan(1, range) else {
            println!("skipped: this kernel has no PAGEMAP_SCAN");
            return;
        };
        assert!(!one.is_empty());
        // Pages may be swapped out, or made huge, at any moment.
        let again = (0..20).any(|_| scan(3, range) == scan(1, range));
        assert!(again, "several threads find something else");
    }
}
