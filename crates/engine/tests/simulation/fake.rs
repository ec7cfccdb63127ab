//! The process as the engine sees it: the traits of `space` over a [`World`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use engine::Clock;
use space::{
    AddressSpace, ByteLen, Errno, Freeze, Mapping, MappingFlags, PageFlags, PageRange, PageRun,
    PageSize, PageSource, Rearm, Scan, Sharing, StopLength, TaskState, Tracked, Tracking,
};

use crate::run::Trouble;
use crate::sink::pages;
use crate::world::{Backing, Content, END, FIRST, PAGE, Sabotage, World, fill, foreign, range};

/// Microseconds that no step of a freeze may take.
pub(crate) const TOO_LONG: u64 = 60_000;

/// A clock that moves only when something is done.
#[derive(Clone, Default)]
pub(crate) struct Ticker {
    micros: Arc<AtomicU64>,
    /// How long it takes to look at the clock.
    pub(crate) look: u64,
}

impl Ticker {
    pub(crate) fn pass(&self, micros: u64) {
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    fn time(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }
}

impl Clock for Ticker {
    fn now(&self) -> Duration {
        Duration::from_micros(self.micros.fetch_add(self.look, Ordering::Relaxed))
    }
}

/// What the frozen memory held: the number of each page that has one.
pub(crate) type Truth = BTreeMap<u64, u64>;

pub(crate) struct Fake {
    pub(crate) world: Arc<Mutex<World>>,
    pub(crate) clock: Ticker,
    pub(crate) trouble: Trouble,
    pub(crate) slow: bool,
    /// Some task never stops.
    pub(crate) unstoppable: bool,
    /// Reads of the frozen target never return.
    pub(crate) hangs: bool,
    /// Microseconds that it takes to read each page of the frozen target, beyond the usual.
    pub(crate) read_micros: u64,
    /// It can't be forked.
    pub(crate) unforkable: bool,
    /// Files may not be looked at.
    pub(crate) denied: bool,
    /// Microseconds that it takes to let it go.
    pub(crate) resume_micros: u64,
    /// How often it was stopped.
    pub(crate) stops: u64,
    /// The memory at the last stop.
    pub(crate) truth: Option<(Truth, World)>,
    pub(crate) twins: u64,
    pub(crate) reaped: u64,
}

pub(crate) struct Reader {
    world: Arc<Mutex<World>>,
    clock: Ticker,
    hangs: bool,
    read_micros: u64,
}

impl Fake {
    pub(crate) fn new(world: World) -> Self {
        Self {
            world: Arc::new(Mutex::new(world)),
            clock: Ticker::default(),
            trouble: Trouble::None,
            slow: false,
            unstoppable: false,
            hangs: false,
            read_micros: 0,
            unforkable: false,
            denied: false,
            resume_micros: 2,
            stops: 0,
            truth: None,
            twins: 0,
            reaped: 0,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// The application goes on, time passes, and now and then something fails.
    fn call(&self, micros: u64) -> Result<MutexGuard<'_, World>, Errno> {
        let mut world = self.lock();
        let slow = if self.slow { 1 + world.rng.below(8) } else { 1 };
        self.clock.pass(micros * slow);
        if self.trouble == Trouble::Any && world.rng.one_in(200) {
            self.clock.pass(TOO_LONG);
        }
        world.let_go_in_time(self.clock.time());
        world.tick();
        if self.trouble == Trouble::Any && !world.twin && world.rng.one_in(150) {
            return Err(Errno::ENOMEM);
        }
        Ok(world)
    }
}

impl PageSource for Reader {
    fn read(&self, ranges: &[PageRange], buf: &mut [u8]) -> Result<ByteLen, Errno> {
        while self.hangs && self.world.lock().unwrap().frozen {
            std::thread::yield_now();
        }
        let mut world = self.world.lock().unwrap();
        world.let_go_in_time(self.clock.time());
        if !world.frozen && !world.twin {
            world.move_guests(true);
        }
        let mut done = 0;
        let page_len = usize::try_from(PAGE).unwrap();
        for page in ranges.iter().copied().flat_map(pages) {
            world.tick();
            if page.is_multiple_of(4) {
                self.clock.pass(1);
            }
            if world.frozen {
                self.clock.pass(self.read_micros);
            }
            let spurious = !world.frozen && !world.twin && world.busy && world.rng.one_in(40);
            let Some(number) = look_at(&mut world, page).filter(|_| !spurious) else {
                return if done == 0 {
                    Err(Errno::EFAULT)
                } else {
                    Ok(ByteLen(done as u64))
                };
            };
            fill(&mut buf[done..done + page_len], number);
            done += page_len;
        }
        Ok(ByteLen(done as u64))
    }
}

/// Reads one page as the kernel would, populating what is missing.
fn look_at(world: &mut World, page: u64) -> Option<u64> {
    let (_, vma) = world.vma_of(page)?;
    let (missing, strange) = (!world.ptes.contains_key(&page), foreign(vma));
    // While the target runs its handler does too.
    let waits = missing && strange && (world.frozen || world.twin);
    assert!(!waits, "page {page}: waits for somebody else's handler");
    let (anonymous, private) = (
        vma.backing == Backing::Anonymous,
        vma.sharing == Sharing::Private,
    );
    if world.twin {
        let own = matches!(world.ptes.get(&page), Some(pte) if pte.content != Content::File);
        assert!(private && own, "page {page} is not the child's");
    }
    if world.poisoned.contains(&page) {
        return None;
    }
    match world.ptes.get(&page).map(|pte| pte.content) {
        Some(Content::Guard) => None,
        Some(_) => Some(world.value(page).unwrap_or(0)),
        None if anonymous => {
            assert!(
                !world.frozen && world.seen.contains(&page),
                "page {page} was never there and is read"
            );
            world.set(page, Content::Zero, false, false);
            Some(0)
        }
        None => {
            let value = world.value(page);
            world.set(page, Content::File, false, false);
            Some(value.unwrap_or(0))
        }
    }
}

impl PageSource for Fake {
    fn read(&self, ranges: &[PageRange], buf: &mut [u8]) -> Result<ByteLen, Errno> {
        self.reader().read(ranges, buf)
    }
}

impl AddressSpace for Fake {
    type Reader = Reader;

    fn reader(&self) -> Arc<Reader> {
        Arc::new(Reader {
            world: Arc::clone(&self.world),
            clock: self.clock.clone(),
            hangs: self.hangs,
            read_micros: self.read_micros,
        })
    }

    fn page_size(&self) -> PageSize {
        PageSize::new(PAGE).unwrap()
    }

    fn tracking(&self) -> Tracking {
        self.lock().tracking
    }

    fn absent_is_written(&self) -> bool {
        let world = self.lock();
        world.tracking == Tracking::WriteProtect && world.absent_is_written
    }

    fn mappings(&mut self) -> Result<Vec<Mapping>, Errno> {
        let mut world = self.call(5)?;
        world.seen = world.ptes.keys().copied().collect();
        Ok(world.listed())
    }

    fn file_pages(&mut self, mapping: &Mapping, out: &mut Vec<PageRange>) -> Result<(), Errno> {
        let world = self.call(5)?;
        if self.denied {
            return Err(Errno::EACCES);
        }
        for page in pages(mapping.range) {
            let there = world.vma_of(page).is_some_and(|(_, vma)| !foreign(vma))
                && (world.value(page).is_some()
                    || matches!(world.ptes.get(&page), Some(pte) if pte.content == Content::File));
            if there {
                out.push(range(page, page + 1));
            }
        }
        Ok(())
    }

    fn track(&mut self, ranges: &[PageRange], outcome: &mut Vec<Tracked>) -> Result<(), Errno> {
        for &range in ranges {
            let mut world = self.call(2)?;
            assert!(!world.twin, "a child is not tracked");
            let (start, end) = (range.start().0 / PAGE, range.end().0 / PAGE);
            world.split(start);
            world.split(end);
            let refused = world.vmas.range(start..end).find_map(|(_, vma)| {
                if foreign(vma) {
                    Some(Errno::EBUSY)
                } else {
                    vma.stubborn.then_some(Errno::EINVAL)
                }
            });
            if let Some(errno) = refused {
                outcome.push(Tracked::No(range, errno));
                continue;
            }
            let strict = world.tracking == Tracking::WriteProtect;
            for (_, vma) in world.vmas.range_mut(start..end) {
                vma.tracked = strict;
            }
            outcome.push(Tracked::Yes(range));
        }
        Ok(())
    }

    fn scan(
        &mut self,
        scan: &Scan,
        ranges: &[PageRange],
        out: &mut Vec<PageRun>,
    ) -> Result<(), Errno> {
        let mut world = self.call(3)?;
        let there = PageFlags::PRESENT | PageFlags::SWAPPED;
        let rearm = scan.rearm == Rearm::Rearm;
        assert!(
            !rearm || (!scan.any_of.is_empty() && there.contains(scan.any_of)),
            "arming what is not there makes page tables"
        );
        assert!(ranges.is_sorted(), "ranges ascend");
        let soft = world.tracking == Tracking::SoftDirty;
        assert!(
            !(rearm && soft) || world.frozen || world.overdue,
            "reading and clearing are two steps"
        );
        let fails = self.trouble == Trouble::Any && !world.twin && world.rng.one_in(100);
        let fails_at = FIRST + world.rng.below(END - FIRST);
        for page in ranges.iter().copied().flat_map(pages) {
            world.tick();
            if fails && page >= fails_at {
                return Err(Errno::ENOMEM);
            }
            let Some((_, vma)) = world.vma_of(page) else {
                continue;
            };
            if rearm && !soft && !vma.tracked {
                continue;
            }
            if scan.rearm == Rearm::KeepIfTracked && !vma.tracked {
                return Err(Errno::EPERM);
            }
            let flags = world.flags(page, vma);
            let wanted = flags.contains(scan.all_of)
                && (scan.any_of.is_empty() || flags.intersects(scan.any_of));
            let cheats = world.sabotage == Some(Sabotage::ArmsUnreported) && world.rng.one_in(20);
            if !wanted {
                continue;
            }
            if rearm && !soft {
                world.ptes.get_mut(&page).expect("it is there").armed = true;
            }
            if !(rearm && cheats) {
                push(out, page, flags & scan.report);
            }
        }
        if rearm && soft {
            for pte in world.ptes.values_mut() {
                pte.soft_dirty = false;
            }
            for vma in world.vmas.values_mut() {
                vma.soft_dirty = false;
            }
        }
        Ok(())
    }
}

fn push(out: &mut Vec<PageRun>, page: u64, flags: PageFlags) {
    let one = range(page, page + 1);
    match out.last_mut() {
        Some(last) if last.range.end() == one.start() && last.flags == flags => {
            last.range = PageRange::new(last.range.start(), one.end()).unwrap();
        }
        _ => out.push(PageRun { range: one, flags }),
    }
}

impl Freeze for Fake {
    type Twin = Self;

    fn stop(&mut self, limit: Duration) -> Result<Duration, Errno> {
        let mut world = self.call(20)?;
        assert!(!world.frozen, "stopped twice");
        if self.unstoppable || (self.trouble == Trouble::Any && world.rng.one_in(12)) {
            self.clock.pass(u64::try_from(limit.as_micros()).unwrap());
            return Err(Errno::ETIMEDOUT);
        }
        world.move_guests(false);
        (world.frozen, world.deadline, world.overdue) = (true, None, false);
        let all: Vec<_> = world.vmas.iter().map(|(&at, vma)| (at, vma.end)).collect();
        let truth = all
            .into_iter()
            .flat_map(|(start, end)| start..end)
            .filter_map(|page| Some((page, world.value(page)?)))
            .collect();
        let copy = world.clone();
        drop(world);
        self.truth = Some((truth, copy));
        self.stops += 1;
        Ok(Duration::MAX)
    }

    fn tasks(&mut self) -> Result<Vec<TaskState>, Errno> {
        let world = self.call(30)?;
        if world.overdue {
            return Err(Errno::ESRCH);
        }
        assert!(world.frozen, "registers of a running task");
        assert!(!world.only_resume, "a task is about to fork still");
        Ok(Vec::new())
    }

    fn fork(&mut self, limit: Duration) -> Result<Self, Errno> {
        let mut world = self.call(60)?;
        if world.overdue {
            return Err(Errno::ENOSYS);
        }
        assert!(world.frozen, "a running target is not forked");
        if self.unforkable || (self.trouble == Trouble::Any && world.rng.one_in(8)) {
            return Err(Errno::EAGAIN);
        }
        if self.trouble == Trouble::Any && world.rng.one_in(12) {
            self.clock.pass(u64::try_from(limit.as_micros()).unwrap());
            world.only_resume = true;
            return Err(Errno::ETIMEDOUT);
        }
        let mut child = world.clone();
        drop(world);
        child.twin = true;
        child.frozen = false;
        let vmas = std::mem::take(&mut child.vmas);
        for (start, vma) in &vmas {
            let dropped = vma.flags.contains(MappingFlags::DONT_FORK);
            let wiped = vma.flags.contains(MappingFlags::WIPE_ON_FORK);
            for page in *start..vma.end {
                if dropped || wiped || vma.sharing == Sharing::Shared {
                    child.ptes.remove(&page);
                } else if let Some(pte) = child.ptes.get_mut(&page) {
                    pte.armed = false;
                }
            }
        }
        child.vmas = vmas
            .into_iter()
            .filter(|(_, vma)| !vma.flags.contains(MappingFlags::DONT_FORK))
            .map(|(start, vma)| (start, untracked(vma)))
            .collect();
        self.twins += 1;
        let mut twin = Self::new(child);
        twin.clock = self.clock.clone();
        Ok(twin)
    }

    fn hold(&mut self, limit: Duration) {
        self.lock().deadline = self.clock.time().checked_add(limit);
    }

    fn resume(&mut self) -> Result<Duration, Errno> {
        let mut world = self.lock();
        world.let_go_in_time(self.clock.time());
        if world.frozen {
            self.clock.pass(self.resume_micros);
        }
        (world.frozen, world.only_resume) = (false, false);
        if std::mem::take(&mut world.overdue) {
            Err(Errno::ETIMEDOUT)
        } else {
            Ok(Duration::ZERO)
        }
    }

    fn reap(&mut self, twin: Self) -> Result<StopLength, Errno> {
        assert!(twin.lock().twin && !self.lock().frozen);
        self.reaped += 1;
        let world = self.call(10)?;
        drop(world);
        Ok(StopLength {
            why: "reap".to_owned(),
            length: Duration::from_micros(10),
        })
    }
}

fn untracked(mut vma: crate::world::Vma) -> crate::world::Vma {
    vma.tracked = false;
    vma
}
