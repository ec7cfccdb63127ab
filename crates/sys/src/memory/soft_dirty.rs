//! Tracking writes by soft-dirty bits (`Documentation/admin-guide/mm/soft-dirty.rst`), for
//! kernels without asynchronous write protection.
//!
//! The bits are read from `/proc/PID/pagemap` and cleared for the whole process by a write of "4"
//! to `/proc/PID/clear_refs`: two steps, between which no task may run.
//!
//! # Moved page tables
//!
//! `mremap` sets the bit of each page that it moves, but not where it can move a whole page table
//! (`move_normal_pmd`; seen on 6.1 and 6.12). Two mappings of 2 MiB that change places show
//! neither a bit nor another layout. What changes is the memory behind the addresses: so for each
//! page table the frames of a few pages are remembered, and where none of them is found again, all
//! of its pages count as written. Only a frame that lies behind one page proves something: two
//! tables may well have the page of zeros at the same place.

use std::fs::{File, OpenOptions};
use std::io::Write;

use space::{Errno, PageRange, PageRun, PageSize, Rearm, Scan};

use super::PagemapEntries;
use super::frames::Frames;

/// Reads and clears soft-dirty bits.
#[derive(Debug)]
pub(crate) struct SoftDirty {
    clear_refs: File,
    entries: PagemapEntries,
    /// What lay where when the bits were cleared.
    frames: Frames,
}

impl SoftDirty {
    /// Opens `/proc/PID/clear_refs`.
    pub(crate) fn open(pid: u32, page_size: PageSize) -> Result<Self, Errno> {
        let clear_refs = OpenOptions::new()
            .write(true)
            .open(format!("/proc/{pid}/clear_refs"))?;
        Ok(Self {
            clear_refs,
            entries: PagemapEntries::new(page_size),
            frames: Frames::default(),
        })
    }

    /// Scans `ranges`; with [`Rearm::Rearm`], clears the bits of the whole process afterwards.
    pub(crate) fn scan(
        &mut self,
        pagemap: &File,
        scan: &Scan,
        ranges: &[PageRange],
        out: &mut Vec<PageRun>,
    ) -> Result<(), Errno> {
        let mut now = Frames::default();
        self.entries
            .scan_moved(pagemap, scan, ranges, out, &self.frames, &mut now)?;
        if scan.rearm == Rearm::Rearm {
            self.clear_refs.write_all(b"4")?;
            self.frames = now;
        }
        Ok(())
    }
}
