//! Tracking writes by soft-dirty bits (`Documentation/admin-guide/mm/soft-dirty.rst`), for
//! kernels without asynchronous write protection.
//!
//! The bits are read from `/proc/PID/pagemap` and cleared for the whole process by a write of "4"
//! to `/proc/PID/clear_refs`: two steps, between which no task may run.

use std::fs::{File, OpenOptions};
use std::io::Write;

use space::{Errno, PageRange, PageRun, PageSize, Rearm, Scan};

use super::PagemapEntries;

/// Reads and clears soft-dirty bits.
#[derive(Debug)]
pub(crate) struct SoftDirty {
    clear_refs: File,
    entries: PagemapEntries,
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
        self.entries.scan(pagemap, scan, ranges, out)?;
        if scan.rearm == Rearm::Rearm {
            self.clear_refs.write_all(b"4")?;
        }
        Ok(())
    }
}
