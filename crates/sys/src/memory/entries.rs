//! Reading `/proc/PID/pagemap`, a page at a time (`Documentation/admin-guide/mm/pagemap.rst`), for
//! kernels without `PAGEMAP_SCAN`, and for the soft-dirty bits that only it shows everywhere.

use std::fs::File;
use std::os::unix::fs::FileExt;

use space::{Errno, PageCount, PageFlags, PageRange, PageRun, PageSize, Scan, Vaddr};

use crate::uapi::pagemap::{PM_FILE, PM_MMAP_EXCLUSIVE, PM_PRESENT, PM_SOFT_DIRTY, PM_SWAP};

/// Bytes of pagemap that are read at once: the entries of 32 MiB of small pages.
const PIECE: usize = 64 << 10;

/// Reads pagemap entries.
#[derive(Debug)]
pub(crate) struct PagemapEntries {
    page_size: PageSize,
    entries: Box<[u8]>,
}

impl PagemapEntries {
    /// Makes a reader.
    pub(crate) fn new(page_size: PageSize) -> Self {
        Self {
            page_size,
            entries: vec![0; PIECE].into_boxed_slice(),
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
        ranges
            .iter()
            .try_for_each(|&range| self.look(pagemap, scan, range, out))
    }

    fn look(
        &mut self,
        pagemap: &File,
        scan: &Scan,
        range: PageRange,
        out: &mut Vec<PageRun>,
    ) -> Result<(), Errno> {
        let mut pages = range.pages(self.page_size).0;
        let mut at = range.start();
        while pages > 0 {
            let count = pages.min((PIECE / 8) as u64);
            let bytes = &mut self.entries[..usize::try_from(count * 8).expect("a piece")];
            let read = pagemap.read_at(bytes, (at.0 >> self.page_size.shift()) * 8)?;
            let entries = bytes[..read].as_chunks::<8>().0;
            if entries.is_empty() {
                return Err(Errno::ESRCH);
            }
            for entry in entries {
                let flags = flags_of(u64::from_ne_bytes(*entry));
                report(scan, at, flags, self.page_size, out);
                at = Vaddr(at.0 + self.page_size.bytes());
            }
            pages -= entries.len() as u64;
        }
        Ok(())
    }
}

/// Says a pagemap entry in the words of a scan.
fn flags_of(entry: u64) -> PageFlags {
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
    let zeros = if shared {
        PageFlags::WRITTEN
    } else {
        PageFlags::empty()
    };
    zeros
        | has(PM_PRESENT, PageFlags::PRESENT)
        | has(PM_SWAP, PageFlags::SWAPPED)
        | has(PM_FILE, PageFlags::FILE)
        | has(PM_SOFT_DIRTY, PageFlags::SOFT_DIRTY | PageFlags::WRITTEN)
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
