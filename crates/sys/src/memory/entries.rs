//! Reading `/proc/PID/pagemap`, a page at a time (`Documentation/admin-guide/mm/pagemap.rst`), for
//! kernels without `PAGEMAP_SCAN`, and for the soft-dirty bits that only it shows everywhere.

use std::fs::File;
use std::os::unix::fs::FileExt;

use space::{Errno, PageCount, PageFlags, PageRange, PageRun, PageSize, Scan, Vaddr};

use super::frames::{Frames, frame};
use crate::raw::scratch::ScratchPages;
use crate::uapi::pagemap::{
    PM_FILE, PM_GUARD, PM_MMAP_EXCLUSIVE, PM_PRESENT, PM_SOFT_DIRTY, PM_SWAP,
};

/// Bytes of pagemap that are read at once: whole page tables of any size of page.
const PIECE: usize = 64 << 10;
const PIECE_PAGES: u64 = (PIECE / 8) as u64;

/// Reads pagemap entries.
#[derive(Debug)]
pub(crate) struct PagemapEntries {
    page_size: PageSize,
    entries: Box<[u8]>,
    /// The frame of the page of zeros, where frames may be seen.
    zero: Option<u64>,
}

impl PagemapEntries {
    /// Makes a reader.
    pub(crate) fn new(page_size: PageSize) -> Self {
        Self {
            page_size,
            entries: vec![0; PIECE].into_boxed_slice(),
            zero: zero_frame(page_size),
        }
    }

    /// Scans `ranges`; nothing is armed. A page that is soft-dirty counts as written.
    pub(crate) fn scan(
        &mut self,
        pagemap: &File,
        scan: &Scan,
        ranges: &[PageRange],
        out: &mut Vec<PageRun>,
    ) -> Result<(), Errno> {
        let (size, zero) = (self.page_size, self.zero);
        let report = |entry| flags_of(entry, zero);
        self.read(pagemap, ranges, &mut |first, entries| {
            report_all(scan, first, entries, &report, size, out);
        })
    }

    /// Scans `ranges`, where all pages of a page table that may have been moved since the `known`
    /// frames lay there count as written. Keeps the frames that are there now in `now`.
    pub(super) fn scan_moved(
        &mut self,
        pagemap: &File,
        scan: &Scan,
        ranges: &[PageRange],
        out: &mut Vec<PageRun>,
        known: &Frames,
        now: &mut Frames,
    ) -> Result<(), Errno> {
        let (size, zero) = (self.page_size, self.zero);
        let per_table = size.bytes() / 8;
        self.read(pagemap, ranges, &mut |mut first, mut entries| {
            while !entries.is_empty() {
                let rest = usize::try_from(per_table - first % per_table).expect("a table");
                let (table, others) = entries.split_at(rest.min(entries.len()));
                let moved = known.may_have_moved(first, table);
                let report = |entry| {
                    let flags = flags_of(entry, zero);
                    let there = flags.intersects(PageFlags::PRESENT | PageFlags::SWAPPED);
                    // What a file's page holds is the file's, whichever table it is in.
                    if moved && there && !flags.contains(PageFlags::FILE) {
                        flags | PageFlags::WRITTEN
                    } else {
                        flags
                    }
                };
                report_all(scan, first, table, &report, size, out);
                now.keep(first, table);
                first += table.len() as u64;
                entries = others;
            }
        })
    }

    /// Hands out the entries of `ranges`, from a page's number on. A page table lies in one piece,
    /// or in as few as there are ranges in it.
    fn read(
        &mut self,
        pagemap: &File,
        ranges: &[PageRange],
        take: &mut impl FnMut(u64, &[[u8; 8]]),
    ) -> Result<(), Errno> {
        let shift = self.page_size.shift();
        for range in ranges {
            let mut page = range.start().0 >> shift;
            let end = range.end().0 >> shift;
            while page < end {
                let count = (end - page).min(PIECE_PAGES - page % PIECE_PAGES);
                let bytes = &mut self.entries[..usize::try_from(count * 8).expect("a piece")];
                let read = pagemap.read_at(bytes, page * 8)?;
                let entries = bytes[..read].as_chunks::<8>().0;
                if entries.is_empty() {
                    return Err(Errno::ESRCH);
                }
                take(page, entries);
                page += entries.len() as u64;
            }
        }
        Ok(())
    }
}

/// Finds the frame of the page of zeros: it lies behind memory that was only ever read. A forked
/// child does not get such pages, and so they are told from others where that is possible.
fn zero_frame(page_size: PageSize) -> Option<u64> {
    let pages = ScratchPages::map(1, page_size, false).ok()?;
    let address = pages.address(0).0;
    let memory = File::open("/proc/self/mem").ok()?;
    memory.read_exact_at(&mut [0], address).ok()?;
    let pagemap = File::open("/proc/self/pagemap").ok()?;
    let mut entry = [0; 8];
    let at = (address >> page_size.shift()) * 8;
    pagemap.read_exact_at(&mut entry, at).ok()?;
    frame(entry).filter(|&frame| frame != 0)
}

/// Says a pagemap entry in the words of a scan.
fn flags_of(entry: u64, zero: Option<u64>) -> PageFlags {
    let has = |bit: u64, flag: PageFlags| {
        if entry & bit == 0 {
            PageFlags::empty()
        } else {
            flag
        }
    };
    // The page of zeros that a read of dropped memory brings has no soft-dirty bit, and can't be
    // told from the page that was there before but by being shared.
    let shared = entry & PM_PRESENT != 0 && entry & (PM_FILE | PM_MMAP_EXCLUSIVE) == 0;
    let zeros = if !shared {
        PageFlags::empty()
    } else if zero.is_some() && frame(entry.to_ne_bytes()) == zero {
        PageFlags::WRITTEN | PageFlags::ZERO
    } else {
        PageFlags::WRITTEN
    };
    zeros
        | has(PM_PRESENT, PageFlags::PRESENT)
        | has(PM_SWAP, PageFlags::SWAPPED)
        | has(PM_FILE, PageFlags::FILE)
        | has(PM_GUARD, PageFlags::GUARD)
        | has(PM_SOFT_DIRTY, PageFlags::SOFT_DIRTY | PageFlags::WRITTEN)
}

/// Adds pages to the runs, as far as the scan looks for them.
fn report_all(
    scan: &Scan,
    first: u64,
    entries: &[[u8; 8]],
    flags_of: &dyn Fn(u64) -> PageFlags,
    page_size: PageSize,
    out: &mut Vec<PageRun>,
) {
    let mut at = Vaddr(first << page_size.shift());
    for entry in entries {
        let flags = flags_of(u64::from_ne_bytes(*entry));
        report(scan, at, flags, page_size, out);
        at = Vaddr(at.0 + page_size.bytes());
    }
}

/// Adds a page to the runs, if the scan looks for it.
fn report(scan: &Scan, at: Vaddr, flags: PageFlags, page_size: PageSize, out: &mut Vec<PageRun>) {
    let wanted =
        flags.contains(scan.all_of) && (scan.any_of.is_empty() || flags.intersects(scan.any_of));
    let Some(page) = PageRange::from_pages(at, PageCount(1), page_size).filter(|_| wanted) else {
        return;
    };
    let flags = flags & scan.report;
    match out.last_mut() {
        Some(last) if last.range.end() == at && last.flags == flags => {
            last.range = PageRange::new(last.range.start(), page.end()).expect("it only grows");
        }
        _ => out.push(PageRun { range: page, flags }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guard_pages_are_told_from_swapped_ones_as_the_ioctl_tells_them() {
        let page_size = crate::procfs::base_page_size();
        let pages = ScratchPages::map(2, page_size, false).unwrap();
        pages.write(0, 1);
        pages.write(1, 1);
        if let Err(errno) = pages.guard(1) {
            println!("skipped: no guard pages: {errno}");
            return;
        }
        let scan = Scan {
            all_of: PageFlags::empty(),
            any_of: PageFlags::PRESENT | PageFlags::SWAPPED,
            report: PageFlags::GUARD,
            rearm: space::Rearm::Keep,
        };
        let range = PageRange::new(pages.address(0), pages.address(2)).unwrap();
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        let mut runs = Vec::new();
        let mut entries = PagemapEntries::new(page_size);
        entries.scan(&pagemap, &scan, &[range], &mut runs).unwrap();
        let mut asked = Vec::new();
        let mut scanner = crate::memory::PagemapScanner::new();
        scanner.scan(&pagemap, &scan, &[range], &mut asked).unwrap();
        if !asked.iter().any(|run| run.flags.contains(PageFlags::GUARD)) {
            println!("skipped: this kernel does not tell of guard pages");
            return;
        }
        assert_eq!(runs, asked);
    }

    #[test]
    fn memory_that_was_only_read_is_of_zeros() {
        let page_size = crate::procfs::base_page_size();
        let pages = ScratchPages::map(2, page_size, false).unwrap();
        pages.write(1, 1);
        let memory = File::open("/proc/self/mem").unwrap();
        memory.read_exact_at(&mut [0], pages.address(0).0).unwrap();
        let mut entries = PagemapEntries::new(page_size);
        if entries.zero.is_none() {
            println!("skipped: frames can't be seen");
            return;
        }
        let scan = Scan {
            all_of: PageFlags::PRESENT,
            any_of: PageFlags::empty(),
            report: PageFlags::ZERO,
            rearm: space::Rearm::Keep,
        };
        let range = PageRange::new(pages.address(0), pages.address(2)).unwrap();
        let mut runs = Vec::new();
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        entries.scan(&pagemap, &scan, &[range], &mut runs).unwrap();
        let zeros: Vec<bool> = runs.iter().map(|run| !run.flags.is_empty()).collect();
        assert_eq!(zeros, [true, false]);
    }
}
