//! The process as the engine sees it: a watched one of which the application goes on between any
//! two things that are done, and that now and then refuses something.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use engine::Clock;
use mm::space::Watched;
use space::{
    AddressSpace, ByteLen, Errno, Freeze, Mapping, MappingFlags, PageFlags, PageRange, PageRun,
    PageSize, PageSource, Rearm, Scan, StopLength, TaskState, Tracked, Tracking, Vaddr,
};

use crate::app::{App, Truth};
use crate::run::{Sabotage, Trouble};

/// A clock that moves only when something is done.
#[derive(Clone, Default)]
pub(crate) struct Ticker(Arc<AtomicU64>);

impl Ticker {
    fn pass(&self, micros: u64) {
        self.0.fetch_add(micros, Ordering::Relaxed);
    }
}

impl Clock for Ticker {
    fn now(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

pub(crate) struct Nervous {
    watched: Watched,
    pub(crate) app: Arc<Mutex<App>>,
    pub(crate) clock: Ticker,
    pub(crate) trouble: Trouble,
    pub(crate) sabotage: Option<Sabotage>,
    /// What the memory held when it stood still last.
    pub(crate) truth: Option<Truth>,
    /// Duplicates that were made and not ended.
    pub(crate) twins: usize,
    is_twin: bool,
    /// The mappings as they were shown last.
    shown: Vec<Mapping>,
}

pub(crate) struct NervousReader {
    reader: Arc<mm::space::Reader>,
    app: Arc<Mutex<App>>,
    clock: Ticker,
    page_size: PageSize,
    is_twin: bool,
    spurious: bool,
}

impl Nervous {
    pub(crate) fn new(watched: Watched, app: Arc<Mutex<App>>) -> Self {
        Self {
            watched,
            app,
            clock: Ticker::default(),
            trouble: Trouble::None,
            sabotage: None,
            truth: None,
            twins: 0,
            is_twin: false,
            shown: Vec::new(),
        }
    }

    pub(crate) fn app(&self) -> MutexGuard<'_, App> {
        self.app.lock().unwrap()
    }

    /// The application goes on, time passes, and now and then something fails.
    fn call(&self, micros: u64) -> Result<MutexGuard<'_, App>, Errno> {
        let mut app = self.app();
        app.tick();
        self.clock.pass(micros);
        if self.trouble == Trouble::Any && !self.is_twin && app.random.below(150) == 0 {
            return Err(Errno::ENOMEM);
        }
        Ok(app)
    }

    /// Cuts a range somewhere near its start: what is scanned is not scanned at one instant.
    fn cut(&self, range: PageRange) -> Vec<PageRange> {
        let size = self.page_size();
        let pages = range.pages(size).0;
        let mut app = self.app();
        if pages < 2 || app.random.below(2) == 0 {
            return vec![range];
        }
        let at = Vaddr(range.start().0 + (1 + app.random.below(pages.min(40) - 1)) * size.bytes());
        let pieces = [(range.start(), at), (at, range.end())];
        pieces
            .iter()
            .filter_map(|&(start, end)| PageRange::new(start, end))
            .collect()
    }
}

impl PageSource for NervousReader {
    fn read(&self, ranges: &[PageRange], buf: &mut [u8]) -> Result<ByteLen, Errno> {
        let mut done = 0;
        let size = self.page_size.as_usize();
        for page in ranges
            .iter()
            .flat_map(|range| range.chunks(ByteLen(self.page_size.bytes())))
        {
            let mut app = self.app.lock().unwrap();
            let in_huge = page.start().0 >> 21 == page.end().0 >> 21 && done % (16 * size) != 0;
            if !in_huge {
                app.tick();
                self.clock.pass(1);
            }
            if !self.is_twin {
                app.before_read(page.start().0);
            }
            let spurious = self.spurious && !app.frozen && app.random.below(40) == 0;
            drop(app);
            let read = self.reader.read(&[page], &mut buf[done..done + size]);
            if spurious || read.is_err() {
                break;
            }
            done += size;
        }
        match done {
            0 => Err(Errno::EFAULT),
            _ => Ok(ByteLen(done as u64)),
        }
    }
}

impl PageSource for Nervous {
    fn read(&self, ranges: &[PageRange], buf: &mut [u8]) -> Result<ByteLen, Errno> {
        self.reader().read(ranges, buf)
    }
}

impl AddressSpace for Nervous {
    type Reader = NervousReader;

    fn reader(&self) -> Arc<NervousReader> {
        Arc::new(NervousReader {
            reader: self.watched.reader(),
            app: Arc::clone(&self.app),
            clock: self.clock.clone(),
            page_size: self.page_size(),
            is_twin: self.is_twin,
            spurious: !self.is_twin && self.app().busy,
        })
    }

    fn page_size(&self) -> PageSize {
        self.watched.page_size()
    }

    fn tracking(&self) -> Tracking {
        self.watched.tracking()
    }

    fn absent_is_written(&self) -> bool {
        self.watched.absent_is_written()
    }

    fn mappings(&mut self) -> Result<Vec<Mapping>, Errno> {
        let fresh = self.call(5)?.random.below(4) > 0;
        let mut mappings = self.watched.mappings()?;
        // What `madvise` changes is looked at rarely.
        let advised =
            MappingFlags::DONT_DUMP | MappingFlags::DONT_FORK | MappingFlags::WIPE_ON_FORK;
        if !fresh {
            for mapping in &mut mappings {
                if let Some(old) = self.shown.iter().find(|old| old.range == mapping.range) {
                    mapping.flags.remove(advised);
                    mapping.flags |= old.flags & advised;
                }
            }
        }
        self.shown.clone_from(&mappings);
        Ok(mappings)
    }

    fn file_pages(&mut self, mapping: &Mapping, out: &mut Vec<PageRange>) -> Result<(), Errno> {
        drop(self.call(5)?);
        self.watched.file_pages(mapping, out)
    }

    fn track(&mut self, ranges: &[PageRange], outcome: &mut Vec<Tracked>) -> Result<(), Errno> {
        assert!(!self.is_twin, "a child is not tracked");
        for range in ranges {
            // A registration stops the tasks, so nothing happens between two of them.
            let refused = {
                let mut app = self.call(2)?;
                self.trouble == Trouble::Any && app.random.below(60) == 0
            };
            if refused {
                outcome.push(Tracked::No(*range, Errno::ENOMEM));
            } else {
                self.watched.track(&[*range], outcome)?;
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
        let there = PageFlags::PRESENT | PageFlags::SWAPPED;
        let rearms = scan.rearm == Rearm::Rearm;
        assert!(
            !rearms || (!scan.any_of.is_empty() && there.contains(scan.any_of)),
            "arming what is not there makes page tables"
        );
        assert!(ranges.is_sorted(), "ranges ascend");
        drop(self.call(3)?);
        if self.tracking() == Tracking::SoftDirty && rearms {
            assert!(self.app().frozen, "reading and clearing are two steps");
            return self.watched.scan(scan, ranges, out);
        }
        let first = out.len();
        for range in ranges {
            for piece in self.cut(*range) {
                drop(self.call(0)?);
                let mut found = Vec::new();
                self.watched.scan(scan, &[piece], &mut found)?;
                for run in found {
                    match out.last_mut() {
                        Some(last)
                            if last.range.end() == run.range.start() && last.flags == run.flags =>
                        {
                            last.range =
                                PageRange::new(last.range.start(), run.range.end()).unwrap();
                        }
                        _ => out.push(run),
                    }
                }
            }
        }
        if self.sabotage == Some(Sabotage::HidesWrites) && self.app().random.below(4) == 0 {
            out.truncate(out.len().saturating_sub(1).max(first));
        }
        Ok(())
    }
}

impl Freeze for Nervous {
    type Twin = Self;

    fn stop(&mut self, limit: Duration) -> Result<Duration, Errno> {
        let truth = {
            let mut app = self.call(20)?;
            assert!(!app.frozen, "stopped twice");
            if self.trouble == Trouble::Any && app.random.below(12) == 0 {
                self.clock.pass(u64::try_from(limit.as_micros()).unwrap());
                return Err(Errno::ETIMEDOUT);
            }
            app.frozen = true;
            app.truth()
        };
        self.truth = Some(truth);
        self.watched.stop(limit)
    }

    fn tasks(&mut self) -> Result<Vec<TaskState>, Errno> {
        assert!(self.call(30)?.frozen, "registers of a running task");
        self.watched.tasks()
    }

    fn fork(&mut self, limit: Duration) -> Result<Self, Errno> {
        {
            let mut app = self.call(60)?;
            assert!(app.frozen, "a running target is not forked");
            if self.trouble == Trouble::Any && app.random.below(8) == 0 {
                return Err(Errno::EAGAIN);
            }
            if self.trouble == Trouble::Any && app.random.below(12) == 0 {
                self.clock.pass(u64::try_from(limit.as_micros()).unwrap());
                return Err(Errno::ETIMEDOUT);
            }
        }
        let mut twin = Self::new(self.watched.fork(limit)?, Arc::clone(&self.app));
        twin.clock = self.clock.clone();
        twin.is_twin = true;
        self.twins += 1;
        Ok(twin)
    }

    /// What happens after a limit is the engine's own simulation's: there time passes by itself.
    fn hold(&mut self, limit: Duration) {
        self.watched.hold(limit);
    }

    fn resume(&mut self) -> Result<Duration, Errno> {
        self.app().frozen = false;
        self.watched.resume()
    }

    fn reap(&mut self, twin: Self) -> Result<StopLength, Errno> {
        assert!(twin.is_twin && !self.app().frozen);
        let stop = self.watched.reap(twin.watched);
        self.twins -= 1;
        drop(self.call(10)?);
        stop
    }
}
