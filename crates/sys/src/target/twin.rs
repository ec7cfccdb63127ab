//! A duplicate of a process's memory: a child that never runs.

use std::sync::Arc;

use space::{
    AddressSpace, ByteLen, Errno, Mapping, PageRange, PageRun, PageSize, PageSource, Scan, Tracked,
    Tracking,
};

use super::view::View;
use crate::inject::{self, Child};
use crate::memory::MemoryReader;
use crate::task::Tracer;

/// The memory of a process as it was when it forked. It ends with this value, or with the
/// program that holds it.
#[derive(Debug)]
pub struct Twin {
    child: Child,
    tracer: Arc<Tracer>,
    view: View,
    /// Pages that hold the frames by which the child would end, and not what the parent had.
    frames: Option<PageRange>,
}

impl Twin {
    pub(super) fn open(
        child: Child,
        tracer: Arc<Tracer>,
        page_size: PageSize,
        frames: Option<PageRange>,
    ) -> Result<Self, Errno> {
        let view = View::open(child.pid, page_size).map_err(|(_, errno)| errno)?;
        Ok(Self {
            child,
            tracer,
            view,
            frames,
        })
    }

    /// Ends the child; its parent has to take note of that.
    pub(super) fn end(self) -> Result<Child, Errno> {
        let child = self.child;
        self.tracer.run(move |_| inject::end(child))?;
        Ok(child)
    }
}

/// Cuts pages that are no duplicate out of the mapping that they lie in.
fn leave_out(mappings: &mut Vec<Mapping>, pages: PageRange) {
    let Some(at) = mappings
        .iter()
        .position(|mapping| mapping.range.covers(pages))
    else {
        return;
    };
    let whole = mappings[at].range;
    let left = PageRange::new(whole.start(), pages.start());
    let right = PageRange::new(pages.end(), whole.end());
    let cut = mappings[at].clone();
    let pieces = [left, right].into_iter().flatten();
    mappings.splice(
        at..=at,
        pieces.map(|range| Mapping {
            range,
            ..cut.clone()
        }),
    );
}

impl PageSource for Twin {
    fn read(&self, ranges: &[PageRange], buf: &mut [u8]) -> Result<ByteLen, Errno> {
        self.view.reader.read(ranges, buf)
    }
}

impl AddressSpace for Twin {
    type Reader = MemoryReader;

    fn reader(&self) -> Arc<MemoryReader> {
        Arc::clone(&self.view.reader)
    }

    fn page_size(&self) -> PageSize {
        self.view.page_size
    }

    fn tracking(&self) -> Tracking {
        Tracking::None
    }

    fn absent_is_written(&self) -> bool {
        false
    }

    fn mappings(&mut self) -> Result<Vec<Mapping>, Errno> {
        let mut mappings = self.view.mappings()?;
        if let Some(frames) = self.frames {
            leave_out(&mut mappings, frames);
        }
        Ok(mappings)
    }

    fn file_pages(&mut self, _: &Mapping, _: &mut Vec<PageRange>) -> Result<(), Errno> {
        // What a fork shares with its parent is no duplicate, so it is never asked for.
        Err(Errno::EACCES)
    }

    fn track(&mut self, ranges: &[PageRange], outcome: &mut Vec<Tracked>) -> Result<(), Errno> {
        outcome.extend(
            ranges
                .iter()
                .map(|&range| Tracked::No(range, Errno::ENOSYS)),
        );
        Ok(())
    }

    fn scan(
        &mut self,
        scan: &Scan,
        ranges: &[PageRange],
        out: &mut Vec<PageRun>,
    ) -> Result<(), Errno> {
        self.view.scan(scan, ranges, out)
    }
}
