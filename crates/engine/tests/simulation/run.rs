//! A fake process, a tracker, and a chain of snapshots of it, each checked.

use std::time::Duration;

use engine::{
    Class, Costs, Event, LookLimits, Observer, Options, Selection, SnapshotError, Stay, Strategy,
    Taken, Tracker, Verify, WatchError, Watched, Watcher, take,
};
use space::{AddressSpace, ByteLen, MappingFlags, PageSize, RangeSet, Sharing, Tracking, Vaddr};

use crate::fake::{Fake, TOO_LONG, Truth};
use crate::rng::Rng;
use crate::sink::{Chain, Full, Layer, pages};
use crate::world::{Backing, Content, END, FIRST, PAGE, Sabotage, Vma, World, foreign, range};

/// What a process is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    tracking: Tracking,
    busy: bool,
}

impl Plan {
    pub(crate) fn write_protect() -> Self {
        Self {
            tracking: Tracking::WriteProtect,
            busy: true,
        }
    }

    pub(crate) fn soft_dirty() -> Self {
        Self {
            tracking: Tracking::SoftDirty,
            busy: true,
        }
    }

    pub(crate) fn untracked() -> Self {
        Self {
            tracking: Tracking::None,
            busy: true,
        }
    }

    /// Private memory that changes only when it is told to.
    pub(crate) fn quiet() -> Self {
        Self {
            tracking: Tracking::WriteProtect,
            busy: false,
        }
    }
}

impl Plan {
    /// As `quiet`, with soft-dirty bits.
    pub(crate) fn quiet_soft_dirty() -> Self {
        Self {
            tracking: Tracking::SoftDirty,
            busy: false,
        }
    }
}

/// Whether calls fail now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    None,
    Any,
}

/// What never ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stuck {
    Stopping,
    #[cfg(feature = "drive")]
    Reading,
}

pub(crate) struct Sim {
    pub(crate) threads: usize,
    pub(crate) promise: Option<Duration>,
    pub(crate) verify: Option<Verify>,
    pub(crate) forgetful_sink: bool,
    /// The event after which the snapshot is wanted no more.
    pub(crate) wanted_until: Option<Event>,
    sink_micros: u64,
    pub(crate) fake: Fake,
    tracker: Tracker,
    chain: Chain,
    pub(crate) costs: Costs,
    rng: Rng,
}

/// Tells the engine what is pinned.
struct Watching<'a>(
    &'a std::sync::Arc<std::sync::Mutex<World>>,
    Vec<Event>,
    /// From which event on it wants the snapshot no more.
    Option<Event>,
);

impl Observer for Watching<'_> {
    fn event(&mut self, event: &Event) {
        self.1.push(event.clone());
    }

    fn volatile(&mut self) -> RangeSet {
        self.0.lock().unwrap().pinned.clone()
    }

    fn goes_on(&mut self) -> bool {
        self.2.as_ref().is_none_or(|last| !self.1.contains(last))
    }
}

impl Sim {
    pub(crate) fn new(seed: u64, plan: Plan) -> Self {
        let mut world = World::new(seed, plan.tracking, !plan.busy);
        world.busy = plan.busy;
        Self {
            threads: 0,
            promise: None,
            verify: None,
            forgetful_sink: false,
            wanted_until: None,
            sink_micros: 0,
            fake: Fake::new(world),
            tracker: Tracker::new(),
            chain: Chain::new(),
            costs: Costs::new(PageSize::new(PAGE).unwrap()),
            rng: Rng::new(seed ^ 0xabcd),
        }
    }

    pub(crate) fn sabotage(&mut self, how: Sabotage) {
        self.fake.lock().sabotage = Some(how);
    }

    /// Writes to so many different pages that are there.
    pub(crate) fn write_pages(&mut self, count: usize) {
        let mut world = self.fake.lock();
        let there: Vec<_> = world.ptes.keys().copied().take(count).collect();
        assert_eq!(there.len(), count);
        for page in there {
            world.store(page);
        }
    }

    /// Makes one mapping of all memory, every page of it written: some batches.
    pub(crate) fn fill(&mut self) {
        let mut world = self.fake.lock();
        let private = |vma: &&Vma| {
            vma.backing == Backing::Anonymous && vma.sharing == Sharing::Private && !foreign(vma)
        };
        let mut vma = world.vmas.values().find(private).unwrap().clone();
        vma.end = END;
        world.unmap(FIRST, END);
        world.vmas.insert(FIRST, vma);
        (FIRST..END).for_each(|page| world.store(page));
    }

    /// From now on other page tables lie in the place of the process's own when it is read.
    pub(crate) fn invite_guests(&mut self) {
        let mut world = self.fake.lock();
        let mut guests = world.ptes.clone();
        for (&page, pte) in &mut guests {
            pte.content = Content::Own(page + 1000);
            pte.soft_dirty = true;
        }
        world.guests = Some(guests);
    }

    /// Sets a flag of every mapping without it being told.
    pub(crate) fn advise_secretly(&mut self, flag: MappingFlags) {
        let mut world = self.fake.lock();
        world.secretive = true;
        for vma in world.vmas.values_mut() {
            vma.flags |= flag;
        }
    }

    /// Unmaps every mapping and maps the like in its place; some pages of it are written.
    pub(crate) fn replace_all(&mut self) {
        let mut world = self.fake.lock();
        let all: Vec<_> = world
            .vmas
            .iter()
            .map(|(&at, vma)| (at, vma.clone()))
            .collect();
        for (start, mut vma) in all {
            let end = vma.end;
            world.unmap(start, end);
            vma.tracked = false;
            world.vmas.insert(start, vma);
            world.store(start);
            world.store(end - 1);
        }
    }

    /// A snapshot with random options; it may fail only if there is trouble. Returns how it was
    /// taken, if it was.
    pub(crate) fn any_snapshot(&mut self, trouble: Trouble) -> Option<Strategy> {
        let strategies: &[Strategy] = match self.fake.tracking() {
            Tracking::None => &[Strategy::Auto, Strategy::Fork, Strategy::Freeze],
            _ => &[
                Strategy::Auto,
                Strategy::Precopy,
                Strategy::Fork,
                Strategy::Freeze,
            ],
        };
        let filters = [0x33, 0x7f, 0x0f, 0x01];
        let rng = &mut self.rng;
        let options = Options {
            strategy: rng.pick(strategies),
            verify: rng.pick(&[Verify::No, Verify::No, Verify::Yes]),
            stay: rng.pick(&[Stay::Attached, Stay::Attached, Stay::Detached]),
            selection: if rng.one_in(3) {
                Selection::CoredumpFilter(rng.pick(&filters))
            } else {
                Selection::All
            },
            max_freeze: self.promise,
            rounds_max: u32::try_from(rng.below(4)).unwrap(),
            threads: self.threads,
            step_limit: Duration::from_millis(50),
            // Less than one batch, or all there is.
            frozen_max: ByteLen(rng.pick(&[PAGE, 1 << 30])),
            ..Options::default()
        };
        let full_after = (trouble == Trouble::Any && rng.one_in(4)).then(|| rng.below(60));
        self.sink_micros = 0;
        if trouble == Trouble::Any && rng.one_in(6) {
            self.sink_micros = rng.pick(&[TOO_LONG / 20, TOO_LONG]);
        }
        // Forks look cheap now and then, dear at other times.
        self.costs.fork_page_ns = rng.pick(&[1.0, 1e4]);
        self.fake.trouble = trouble;
        self.fake.slow = self.promise.is_some();
        self.fake.resume_micros = self.rng.pick(&[2, 2, 80]);
        let result = self.snapshot(&options, full_after);
        match &result {
            Ok(_) => {}
            Err(SnapshotError::MaxFreeze { .. }) if self.promise.is_some() => {}
            // A target that forks its memory away under our eyes may do so every time.
            Err(SnapshotError::TwinIncomplete) => {}
            Err(error) => assert_eq!(trouble, Trouble::Any, "{error}"),
        }
        self.between();
        result.ok().map(|taken| taken.strategy)
    }

    /// Between two snapshots the application goes on; some memory is no longer pinned.
    fn between(&mut self) {
        let steps = self.rng.below(20);
        let mut world = self.fake.lock();
        if self.rng.one_in(3) {
            world.pinned.clear();
        }
        if world.busy {
            for _ in 0..steps {
                world.step();
            }
        }
    }

    pub(crate) fn attached(&mut self, strategy: Strategy) -> Taken {
        let options = Options {
            strategy,
            stay: Stay::Attached,
            threads: self.threads,
            ..Options::default()
        };
        self.snapshot(&options, None).unwrap()
    }

    /// A snapshot with these options.
    pub(crate) fn with(&mut self, options: &Options) -> Result<Taken, SnapshotError<Full>> {
        self.snapshot(options, None)
    }

    /// A snapshot that fails because the sink is full.
    pub(crate) fn full(&mut self, strategy: Strategy) {
        let options = Options {
            strategy,
            stay: Stay::Attached,
            ..Options::default()
        };
        let result = self.snapshot(&options, Some(1));
        assert!(matches!(result, Err(SnapshotError::Sink(Full))));
    }

    /// A snapshot of which more is copied than fits into memory, or which is compared, into a sink
    /// that takes too long.
    pub(crate) fn slow_sink(&mut self, strategy: Strategy, verify: Verify) -> SnapshotError<Full> {
        let step_limit = Duration::from_micros(TOO_LONG * 5 / 6);
        let options = Options {
            strategy,
            verify,
            step_limit,
            stay: Stay::Attached,
            frozen_max: ByteLen(PAGE),
            ..Options::default()
        };
        self.sink_micros = TOO_LONG;
        let result = self.snapshot(&options, None);
        self.sink_micros = 0;
        result.expect_err("it takes too long")
    }

    /// A snapshot that fails, of a target that has none of its memory dumped while it is frozen.
    pub(crate) fn full_unselected(&mut self) {
        struct Undumped(std::sync::Arc<std::sync::Mutex<World>>);
        impl Undumped {
            fn set(&self, undumped: bool) {
                for vma in self.0.lock().unwrap().vmas.values_mut() {
                    vma.flags.set(MappingFlags::DONT_DUMP, undumped);
                    vma.shown = vma.flags;
                }
            }
        }
        impl Observer for Undumped {
            fn event(&mut self, event: &Event) {
                match event {
                    Event::Freezing => self.set(true),
                    Event::Resumed { .. } => self.set(false),
                    _ => {}
                }
            }
        }
        let mut observer = Undumped(std::sync::Arc::clone(&self.fake.world));
        let sink = Layer::new(&self.chain, Some(0), false);
        let clock = self.fake.clock.clone();
        let options = Options {
            strategy: Strategy::Freeze,
            stay: Stay::Attached,
            ..Options::default()
        };
        let result = take(
            &mut self.fake,
            &mut self.tracker,
            &sink,
            &clock,
            &options,
            &mut self.costs,
            &mut observer,
        );
        assert!(matches!(result, Err(SnapshotError::Sink(Full))));
    }

    /// A snapshot of a target that does not stop, or whose reads never return.
    pub(crate) fn stuck(&mut self, threads: usize, how: Stuck) -> SnapshotError<Full> {
        match how {
            Stuck::Stopping => self.fake.unstoppable = true,
            #[cfg(feature = "drive")]
            Stuck::Reading => {
                self.fake.hangs = true;
                self.fake.clock.look = 1000;
            }
        }
        let options = Options {
            strategy: Strategy::Freeze,
            threads,
            step_limit: Duration::from_millis(20),
            ..Options::default()
        };
        self.snapshot(&options, None).expect_err("it is stuck")
    }

    /// A snapshot whose observer panics while the target stands still.
    pub(crate) fn panics_frozen(&mut self) {
        struct Clumsy;
        impl Observer for Clumsy {
            fn event(&mut self, event: &Event) {
                assert!(*event != Event::Frozen, "clumsy");
            }
        }
        let sink = Layer::new(&self.chain, None, false);
        let clock = self.fake.clock.clone();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            take(
                &mut self.fake,
                &mut self.tracker,
                &sink,
                &clock,
                &Options::default(),
                &mut self.costs,
                &mut Clumsy,
            )
        }));
        assert!(result.is_err() && self.fake.truth.is_some());
        assert!(!self.fake.lock().frozen, "the target stands still");
    }

    pub(crate) fn attached_unchecked(&mut self, strategy: Strategy) -> Taken {
        let options = Options {
            strategy,
            verify: self.verify.unwrap_or(Verify::No),
            threads: 0,
            ..Options::default()
        };
        self.taken(&options, None).unwrap().0
    }

    fn snapshot(
        &mut self,
        options: &Options,
        full_after: Option<u64>,
    ) -> Result<Taken, SnapshotError<Full>> {
        let (taken, chain) = self.taken(options, full_after)?;
        let (truth, world) = self.fake.truth.as_ref().expect("it was frozen");
        check(options, &taken, &chain, truth, world);
        self.chain = chain;
        Ok(taken)
    }

    fn taken(
        &mut self,
        options: &Options,
        full_after: Option<u64>,
    ) -> Result<(Taken, Chain), SnapshotError<Full>> {
        let sink = Layer::new(&self.chain, full_after, self.forgetful_sink)
            .slow(&self.fake.clock, self.sink_micros);
        let world = std::sync::Arc::clone(&self.fake.world);
        let mut observer = Watching(&world, Vec::new(), self.wanted_until.clone());
        let clock = self.fake.clock.clone();
        let result = take(
            &mut self.fake,
            &mut self.tracker,
            &sink,
            &clock,
            options,
            &mut self.costs,
            &mut observer,
        );
        assert!(!self.fake.lock().frozen, "the target stands still");
        assert_eq!(self.fake.twins, self.fake.reaped, "a child is left");
        let balance: i32 = observer
            .1
            .iter()
            .map(|event| match event {
                Event::Freezing => 1,
                Event::Resumed { .. } => -1,
                _ => 0,
            })
            .sum();
        assert_eq!(balance, 0, "{:?}", observer.1);
        if let (Ok(taken), Some(limit)) = (&result, options.max_freeze) {
            assert!(taken.freeze.total <= limit, "{:?}", taken.freeze);
        }
        let chain = sink.finish();
        Ok((result?, chain))
    }
}

/// Compares a snapshot with what the frozen memory held.
fn check(options: &Options, taken: &Taken, chain: &Chain, truth: &Truth, world: &World) {
    let unreadable: RangeSet = taken.unreadable.iter().copied().collect();
    for page in FIRST..END {
        let address = Vaddr(page * PAGE);
        let part = taken.parts.iter().find(|part| part.range.contains(address));
        let held = chain.get(&page).copied();
        let Some(part) = part else {
            assert_eq!(held, None, "page {page} is not selected");
            continue;
        };
        let (_, vma) = world.vma_of(page).expect("a part is mapped");
        let pte = world.ptes.get(&page);
        let strange = foreign(vma);
        let mut wanted = truth.get(&page).copied();
        if unreadable.contains(address) {
            let swapped = strange && pte.is_some_and(|pte| pte.swapped);
            let excuse = swapped || world.poisoned.contains(&page);
            assert!(excuse, "page {page} can be read: {part:?} {pte:?}");
            wanted = None;
        }
        assert_eq!(
            held, wanted,
            "page {page}: {part:?} {pte:?} {:?} by {:?} ({:?})",
            vma.backing, taken.strategy, options
        );
        if strange {
            assert_eq!(part.class, Class::Foreign);
        }
        assert!(!matches!(pte, Some(pte) if pte.content == Content::Guard) || held.is_none());
    }
    assert_eq!(taken.pages_total.0, chain.len() as u64);
    if let Some(verified) = &taken.verified {
        for page in verified.differences.iter().flat_map(pages) {
            assert!(
                world.poisoned.contains(&page),
                "page {page} differs: {:?} {:?} by {:?}",
                world.vma_of(page),
                world.ptes.get(&page),
                taken.strategy
            );
        }
    }
    assert_eq!(taken.verified.is_some(), options.verify == Verify::Yes);
}

/// Watches a process for some intervals; what was written must be what is reported.
pub(crate) fn watch(seed: u64, plan: Plan) {
    let mut fake = Fake::new(World::new(seed, plan.tracking, false));
    fake.lock().busy = false;
    let mut watcher = Watcher::new();
    let clock = fake.clock.clone();
    let limits = LookLimits {
        stop: Duration::from_secs(1),
        look: Duration::from_secs(1),
    };
    let first = watcher.interval(&mut fake, &clock, limits).unwrap();
    assert!(first.mappings.iter().all(|mapping| mapping.written.0 == 0));
    let mut rng = Rng::new(seed);
    for _ in 0..5 {
        let mut written = Vec::new();
        {
            let mut world = fake.lock();
            let there: Vec<_> = (FIRST..END)
                .filter(|&page| {
                    world.vma_of(page).is_some_and(|(_, vma)| !foreign(vma) && !vma.stubborn)
                })
                .filter(|page| {
                    !matches!(world.ptes.get(page), Some(pte) if pte.content == Content::Guard)
                })
                .collect();
            for page in there {
                if rng.one_in(5) {
                    world.store(page);
                    written.push(page);
                }
            }
        }
        let activity = watcher.interval(&mut fake, &clock, limits).unwrap();
        let reported: Vec<_> = activity
            .mappings
            .iter()
            .filter(|mapping| matches!(mapping.watched, Watched::Yes | Watched::OwnWrites))
            .flat_map(|mapping| mapping.written_ranges.iter().copied().flat_map(pages))
            .collect();
        assert_eq!(reported, written);
        let world = fake.lock();
        for mapping in &activity.mappings {
            let present = world.ptes.range(
                mapping.mapping.range.start().0 / PAGE..mapping.mapping.range.end().0 / PAGE,
            );
            assert_eq!(mapping.present.0, present.count() as u64);
        }
        drop(world);
        assert!(range(FIRST, END).covers(activity.mappings[0].mapping.range));
    }
}

/// Watches a process with soft-dirty bits, whose look takes too long once: that is told, and never taken
/// for an interval in which nothing was written.
pub(crate) fn watch_a_look_that_is_late(seed: u64) {
    let mut fake = Fake::new(World::new(seed, Tracking::SoftDirty, false));
    fake.lock().busy = false;
    let mut watcher = Watcher::new();
    let clock = fake.clock.clone();
    let limits = |look| LookLimits {
        stop: Duration::from_secs(1),
        look,
    };
    let enough = limits(Duration::from_secs(1));
    watcher.interval(&mut fake, &clock, enough).unwrap();
    let late = watcher.interval(&mut fake, &clock, limits(Duration::ZERO));
    assert_eq!(late.unwrap_err(), WatchError::Overdue(Duration::ZERO));
    let anew = watcher.interval(&mut fake, &clock, enough).unwrap();
    assert_eq!(anew.elapsed, Duration::ZERO);
}
