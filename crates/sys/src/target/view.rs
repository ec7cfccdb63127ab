//! The memory of a process through `/proc`: what a target and its duplicate have in common.

use std::fs::File;
use std::sync::Arc;

use space::{Errno, Mapping, PageRange, PageRun, PageSize, Scan};

use super::layout::Layout;
use super::scanner::Scanner;
use crate::memory::{Anchor, MemoryReader};

/// The memory that a task had when this was opened, whatever its process executes later.
#[derive(Debug)]
pub(super) struct View {
    pub(super) page_size: PageSize,
    pub(super) pagemap: File,
    pub(super) reader: Arc<MemoryReader>,
    pub(super) scanner: Scanner,
    pub(super) layout: Layout,
    maps: File,
}

impl View {
    /// Opens the memory of a task; an error comes with the name of the file.
    pub(super) fn open(tid: u32, page_size: PageSize) -> Result<Self, (&'static str, Errno)> {
        let open = |file: &'static str| {
            File::open(format!("/proc/{tid}/{file}")).map_err(|error| (file, error.into()))
        };
        let mem = open("mem")?;
        let pagemap = open("pagemap")?;
        Ok(Self {
            page_size,
            reader: Arc::new(MemoryReader::new(
                tid,
                page_size,
                mem,
                Anchor::find(tid).ok(),
            )),
            scanner: Scanner::choose(&pagemap, page_size),
            layout: Layout::default(),
            maps: open("maps")?,
            pagemap,
        })
    }

    /// Lists the mappings, sorted by address.
    pub(super) fn mappings(&mut self) -> Result<Vec<Mapping>, Errno> {
        self.layout.read(&self.maps, self.page_size)
    }

    /// Looks at page tables.
    pub(super) fn scan(
        &mut self,
        scan: &Scan,
        ranges: &[PageRange],
        out: &mut Vec<PageRun>,
    ) -> Result<(), Errno> {
        self.scanner.scan(&self.pagemap, scan, ranges, out)
    }
}
