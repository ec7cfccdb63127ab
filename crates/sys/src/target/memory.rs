//! The memory side: [`AddressSpace`] of a live process.

use std::sync::Arc;

use space::{
    AddressSpace, ByteLen, Errno, Mapping, MappingFlags, PageFlags, PageRange, PageRun, PageSize,
    PageSource, Protection, Rearm, Scan, Sharing, Tracked, Tracking,
};

use super::Target;
use super::track::Track;
use crate::memory::{MemoryReader, SharedFiles, is_special};

/// What makes a page one that there is something to read of.
const POPULATED: Scan = Scan {
    all_of: PageFlags::empty(),
    any_of: PageFlags::PRESENT.union(PageFlags::SWAPPED),
    report: PageFlags::empty(),
    rearm: Rearm::Keep,
};

impl PageSource for Target {
    fn read(&self, ranges: &[PageRange], buf: &mut [u8]) -> Result<ByteLen, Errno> {
        self.view.reader.read(ranges, buf)
    }
}

impl AddressSpace for Target {
    type Reader = MemoryReader;

    fn reader(&self) -> Arc<MemoryReader> {
        Arc::clone(&self.view.reader)
    }

    fn page_size(&self) -> PageSize {
        self.view.page_size
    }

    fn tracking(&self) -> Tracking {
        self.track.kind()
    }

    fn absent_is_written(&self) -> bool {
        self.absent_is_written
    }

    fn mappings(&mut self) -> Result<Vec<Mapping>, Errno> {
        let mut mappings = self.view.mappings()?;
        for mapping in &mut mappings {
            let unseen = may_have_own_pages(mapping)
                && (mapping.protection.contains(Protection::WRITE)
                    || !self.view.layout.knows(mapping));
            if unseen && self.has_own_page(mapping.range)? {
                mapping.flags |= MappingFlags::HAS_OWN_PAGES;
            }
        }
        if let Some(kept) = self.files.still_valid(&mappings) {
            self.files = Arc::new(kept);
            self.view.reader.use_files(Arc::clone(&self.files));
        }
        Ok(mappings)
    }

    fn file_pages(&mut self, mapping: &Mapping, out: &mut Vec<PageRange>) -> Result<(), Errno> {
        if mapping.sharing == Sharing::Private {
            // All of a file can be read, but not what is mapped behind its end: reads say so.
            out.push(mapping.range);
            return Ok(());
        }
        match self.files.data(mapping, self.view.page_size, out) {
            Err(Errno::EACCES) => {}
            known => return known,
        }
        // Mapped since the last refresh, perhaps.
        let now = SharedFiles::open(self.pid, std::slice::from_ref(mapping), &self.files);
        if now.find(mapping.range).is_some() {
            self.files = Arc::new(self.files.with(now));
            self.view.reader.use_files(Arc::clone(&self.files));
            return self.files.data(mapping, self.view.page_size, out);
        }
        let mut runs = Vec::new();
        self.view.scan(&POPULATED, &[mapping.range], &mut runs)?;
        out.extend(runs.iter().map(|run| run.range));
        match is_special(self.pid, mapping) {
            Some(true) => Ok(()),
            Some(false) | None => Err(Errno::EACCES),
        }
    }

    fn track(&mut self, ranges: &[PageRange], outcome: &mut Vec<Tracked>) -> Result<(), Errno> {
        match &self.track {
            Track::WriteProtect(_) => return self.register(ranges, outcome),
            // The bits are there for all memory.
            Track::SoftDirty(_) => outcome.extend(ranges.iter().map(|&range| Tracked::Yes(range))),
            Track::None => {
                outcome.extend(
                    ranges
                        .iter()
                        .map(|&range| Tracked::No(range, Errno::ENOSYS)),
                );
            }
        }
        Ok(())
    }

    fn scan(
        &mut self,
        scan: &Scan,
        ranges: &[PageRange],
        out: &mut Vec<PageRun>,
    ) -> Result<(), Errno> {
        match &mut self.track {
            Track::SoftDirty(soft_dirty) => soft_dirty.scan(&self.view.pagemap, scan, ranges, out),
            Track::WriteProtect(_) | Track::None => self.view.scan(scan, ranges, out),
        }
    }
}

impl Target {
    /// Tells whether a page of a private file mapping is the process's own copy.
    fn has_own_page(&mut self, range: PageRange) -> Result<bool, Errno> {
        let scan = Scan {
            report: PageFlags::FILE,
            ..POPULATED
        };
        let mut runs = Vec::new();
        self.view.scan(&scan, &[range], &mut runs)?;
        Ok(runs.iter().any(|run| !run.flags.contains(PageFlags::FILE)))
    }
}

/// A private file mapping of which it is not known yet that it has pages of the process's own. It
/// may have got some since all flags were looked at if it can be written, or could be meanwhile
/// (what the loader protects once it is relocated).
fn may_have_own_pages(mapping: &Mapping) -> bool {
    mapping.sharing == Sharing::Private
        && mapping.has_file()
        && !mapping.flags.intersects(
            MappingFlags::HAS_OWN_PAGES | MappingFlags::HUGETLB | MappingFlags::USERFAULT_WAITS,
        )
}
