//! A process, a tracker, and a chain of snapshots of it, each checked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::{
    Class, Costs, Event, Observer, Options, Selection, SnapshotError, Stay, Strategy, Taken,
    Tracker, Verify, take,
};
use lab::generate::Random;
use mm::space::Watched;
use mm::{Arch, Kernel};
use space::{AddressSpace, ByteLen, Errno, RangeSet, Tracking, Vaddr};

use crate::app::{App, Truth};
use crate::nervous::Nervous;
use crate::sink::{Chain, Full, Layer};

/// What a process and its machine are like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) kernel: Kernel,
    pub(crate) arch: Arch,
    pub(crate) tracking: Tracking,
    /// Whether it does anything by itself.
    pub(crate) busy: bool,
}

/// Whether calls fail now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    None,
    Any,
}

/// How the machine cheats, to see that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// A scan leaves something out.
    HidesWrites,
    /// Nobody is told of pinned memory.
    TellsNoPins,
}

pub(crate) struct Sim {
    nervous: Nervous,
    tracker: Tracker,
    chain: Chain,
    costs: Costs,
    random: Random,
}

/// Tells the engine what is pinned.
struct Watching {
    app: Option<Arc<Mutex<App>>>,
    events: Vec<Event>,
}

impl Observer for Watching {
    fn event(&mut self, event: &Event) {
        self.events.push(event.clone());
    }

    fn volatile(&mut self) -> RangeSet {
        let pinned = self.app.as_ref().map(|app| app.lock().unwrap().pinned());
        pinned.unwrap_or_default()
    }
}

impl Sim {
    pub(crate) fn new(seed: u64, plan: Plan) -> Self {
        let app = App::new(seed, plan);
        let (machine, tid) = (Arc::clone(&app.machine), app.tid);
        let watched = Watched::new(machine, tid, plan.tracking).unwrap();
        let nervous = Nervous::new(watched, Arc::new(Mutex::new(app)));
        Self {
            tracker: Tracker::new(),
            chain: Chain::new(),
            costs: Costs::new(nervous.page_size()),
            random: Random::new(seed ^ 0xabcd),
            nervous,
        }
    }

    pub(crate) fn sabotage(&mut self, how: Sabotage) {
        self.nervous.sabotage = Some(how);
    }

    pub(crate) fn write_pages(&mut self, count: usize) {
        self.nervous.app().write_pages(count);
    }

    /// A snapshot with random options; it may fail only if there is trouble. Returns how it was
    /// taken, if it was.
    pub(crate) fn any_snapshot(&mut self, trouble: Trouble) -> Option<Strategy> {
        let strategies: &[Strategy] = match self.nervous.tracking() {
            Tracking::None => &[Strategy::Auto, Strategy::Fork, Strategy::Freeze],
            _ => &[
                Strategy::Auto,
                Strategy::Precopy,
                Strategy::Fork,
                Strategy::Freeze,
            ],
        };
        let page = self.nervous.page_size().bytes();
        let random = &mut self.random;
        let options = Options {
            strategy: random.one_of(strategies),
            verify: random.one_of(&[Verify::No, Verify::No, Verify::Yes]),
            stay: random.one_of(&[Stay::Attached, Stay::Attached, Stay::Detached]),
            selection: if random.below(3) == 0 {
                Selection::CoredumpFilter(random.one_of(&[0x33, 0x7f, 0x0f, 0x01]))
            } else {
                Selection::All
            },
            rounds_max: u32::try_from(random.below(4)).unwrap(),
            threads: 0,
            step_limit: Duration::from_millis(500),
            // Less than one batch, or all there is.
            frozen_max: ByteLen(random.one_of(&[page, 1 << 30])),
            ..Options::default()
        };
        let full_after =
            (trouble == Trouble::Any && random.below(4) == 0).then(|| random.below(60));
        // Forks look cheap now and then, dear at other times.
        self.costs.fork_page_ns = random.one_of(&[1.0, 1e4]);
        self.nervous.trouble = trouble;
        let result = self.snapshot(&options, full_after);
        match &result {
            // A target that forks its memory away under our eyes may do so every time.
            Ok(_) | Err(SnapshotError::TwinIncomplete) => {}
            // A pinned huge page is copied at a fork, and there may be none left for it.
            Err(SnapshotError::Fork(Errno::ENOMEM)) if self.nervous.app().has_hugetlb() => {}
            Err(error) => assert_eq!(trouble, Trouble::Any, "{error}"),
        }
        self.between();
        result.ok().map(|taken| taken.strategy)
    }

    /// Between two snapshots the application goes on; some memory is no longer pinned.
    fn between(&mut self) {
        let steps = self.random.below(20);
        let mut app = self.nervous.app();
        app.machine.lock().unwrap().check().unwrap();
        if app.busy {
            if app.random.below(3) == 0 {
                app.unpin();
            }
            (0..steps).for_each(|_| app.step());
        }
    }

    pub(crate) fn attached(&mut self, strategy: Strategy) -> Taken {
        let options = Options {
            strategy,
            stay: Stay::Attached,
            threads: 0,
            ..Options::default()
        };
        self.snapshot(&options, None).unwrap()
    }

    fn snapshot(
        &mut self,
        options: &Options,
        full_after: Option<u64>,
    ) -> Result<Taken, SnapshotError<Full>> {
        let sink = Layer::new(&self.chain, self.nervous.page_size(), full_after);
        let tells = self.nervous.sabotage != Some(Sabotage::TellsNoPins);
        let mut observer = Watching {
            app: tells.then(|| Arc::clone(&self.nervous.app)),
            events: Vec::new(),
        };
        let clock = self.nervous.clock.clone();
        let result = take(
            &mut self.nervous,
            &mut self.tracker,
            &sink,
            &clock,
            options,
            &mut self.costs,
            &mut observer,
        );
        assert!(!self.nervous.app().frozen, "the target stands still");
        assert_eq!(self.nervous.twins, 0, "a child is left");
        let chain = sink.finish();
        let taken = result?;
        let truth = self.nervous.truth.as_ref().expect("it was frozen");
        let page_size = self.nervous.page_size().bytes();
        check(options, &taken, &chain, truth, page_size);
        self.chain = chain;
        Ok(taken)
    }
}

/// Compares a snapshot with what the frozen memory held.
fn check(options: &Options, taken: &Taken, chain: &Chain, truth: &Truth, page_size: u64) {
    let unreadable: RangeSet = taken.unreadable.iter().copied().collect();
    for &page in &truth.places {
        let address = Vaddr(page);
        let part = taken.parts.iter().find(|part| part.range.contains(address));
        let (held, wanted) = (chain.get(&page), truth.values.get(&page));
        let text = || {
            format!(
                "{page:#x}: {part:?} {} by {:?} ({options:?})",
                truth.describe(page),
                taken.strategy
            )
        };
        let Some(part) = part else {
            assert_eq!(held, None, "not selected: {}", text());
            continue;
        };
        if unreadable.contains(address) {
            assert!(
                wanted.is_none() && held.is_none(),
                "can be read: {}",
                text()
            );
            continue;
        }
        if truth.is_foreign(page) {
            assert_eq!(part.class, Class::Foreign, "{}", text());
        }
        // What nobody ever touched reads as zeros, held or not.
        let zero = wanted == Some(&(0, 0)) && held.is_none();
        assert!(
            held == wanted || zero,
            "held {held:?}, wanted {wanted:?}: {}",
            text()
        );
    }
    for (&page, &value) in chain {
        let text = || truth.describe(page);
        let inside = taken
            .parts
            .iter()
            .any(|part| part.range.contains(Vaddr(page)));
        assert!(inside, "{page:#x} is not selected: {}", text());
        if !truth.places.contains(&page) {
            assert_eq!(
                Some(value),
                truth.value(page, page_size),
                "{page:#x}: {}",
                text()
            );
        }
    }
    assert_eq!(taken.pages_total.0, chain.len() as u64);
    if let Some(verified) = &taken.verified
        && let Some(range) = verified.differences.iter().next()
    {
        let page = range.start().0;
        let (held, wanted) = (chain.get(&page), truth.values.get(&page));
        let text = truth.describe(page);
        panic!(
            "{range} differs: held {held:?}, wanted {wanted:?}: {text} by {:?}",
            taken.strategy
        );
    }
    assert_eq!(taken.verified.is_some(), options.verify == Verify::Yes);
}
