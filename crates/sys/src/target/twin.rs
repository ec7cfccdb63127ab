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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use space::Freeze;

    use crate::Target;
    use crate::procfs::RunState;
    use crate::programs::Live;
    use crate::raw::ptrace;
    use crate::task::proc;

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn a_twin_that_runs_can_only_exit() {
        let directory = tempfile::tempdir().unwrap();
        let (mut parent, _) = Live::start(directory.path(), 0);
        let mut target = Target::open(parent.child.id()).unwrap();
        target.refresh().unwrap();
        target.stop(LIMIT).unwrap();
        let twin = target.fork(LIMIT).unwrap();
        target.resume().unwrap();
        let pid = twin.child.pid;
        let let_go = twin.tracer.run(move |_| {
            ptrace::set_options(pid, 0)?;
            ptrace::detach(pid, 0)
        });
        let_go.unwrap();
        let begun = Instant::now();
        while proc::stat(pid).unwrap().state != RunState::Zombie {
            assert!(begun.elapsed() < LIMIT, "the duplicate lives on");
        }
        // The last field: how it ended.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        assert_eq!(stat.split_whitespace().last(), Some("0"), "{stat}");
        // Its parent finds it, and finds nothing wrong with itself.
        let answer = parent.ask("?");
        assert_eq!(answer, format!("bad=0 child={pid} errno=0"));
    }
}
