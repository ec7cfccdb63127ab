//! The whole of a snapshot: what comes before, between and after the freezes.

use std::time::Duration;

use space::{
    AddressSpace, ByteLen, Errno, Freeze, PageCount, PageSize, RangeSet, StopLength, Tracking,
};

use super::costs::Instead;
use super::freeze::Outcome;
use super::frozen::{Frozen, Limit, Limits, Missed, Promised, Step};
use super::policy::{Forking, Terms, another_round, choose};
use super::{
    Costs, Event, Load, Observer, Options, Round, SnapshotError, Stay, Strategy, Taken, Verifier,
};
use crate::carry::{Carrier, Failure, Missing, timed};
use crate::track::{Depth, Look, Wish};
use crate::{Clock, Tracker};

/// Takes one snapshot of `space`, and hands its pages to `sink`.
///
/// `tracker` carries over from the snapshot before, if there was one: then only what was written
/// since is read, and `sink` is a layer over what those before it took. A snapshot that fails
/// leaves the tracker as if it had not been tried, at the price of reading more the next time;
/// `sink` is good for nothing then but to be dropped.
///
/// The target stands still only within this call, and runs again whichever way it returns.
///
/// # Errors
///
/// See [`SnapshotError`]. [`SnapshotError::MaxFreeze`] comes after two attempts, of which those that
/// can't keep the promise by forecast don't stop the target.
pub fn take<S, K, C, O>(
    space: &mut S,
    tracker: &mut Tracker,
    sink: &K,
    clock: &C,
    options: &Options,
    costs: &mut Costs,
    observer: &mut O,
) -> Result<Taken, SnapshotError<K::Error>>
where
    S: AddressSpace + Freeze,
    K: Verifier + Sync,
    K::Error: Send,
    C: Clock,
    O: Observer,
{
    let page_size = space.page_size();
    let mut work = Work {
        tracker,
        sink,
        clock,
        options,
        costs,
        observer,
        carrier: Carrier {
            threads: options.threads,
            page_size,
            first: options.give_way,
        },
        rounds: Vec::new(),
        stops: Vec::new(),
        bytes_read: ByteLen(0),
        attempts: 0,
        warnings: Vec::new(),
        wiped: RangeSet::new(),
        forking: Forking::Possible,
        forks: 0,
    };
    let result = work.run(space);
    if result.is_err() {
        tracker.fail();
    }
    result
}

/// A snapshot under way.
pub(super) struct Work<'a, K, C, O> {
    pub(super) tracker: &'a mut Tracker,
    pub(super) sink: &'a K,
    pub(super) clock: &'a C,
    pub(super) options: &'a Options,
    pub(super) costs: &'a mut Costs,
    pub(super) observer: &'a mut O,
    pub(super) carrier: Carrier,
    pub(super) rounds: Vec<Round>,
    pub(super) stops: Vec<StopLength>,
    pub(super) bytes_read: ByteLen,
    pub(super) attempts: u32,
    pub(super) warnings: Vec<String>,
    /// Ranges that a forked child lacked although it should have had them.
    pub(super) wiped: RangeSet,
    pub(super) forking: Forking,
    /// How often it was forked, or that was tried.
    pub(super) forks: u32,
}

/// How often the target may be frozen in vain because of the time it takes.
const MISSES_MAX: u32 = 1;
/// How often a forked child may turn out incomplete.
const WIPES_MAX: u32 = 2;

impl<K, C, O> Work<'_, K, C, O>
where
    K: Verifier + Sync,
    K::Error: Send,
    C: Clock,
    O: Observer,
{
    fn run<S>(&mut self, space: &mut S) -> Result<Taken, SnapshotError<K::Error>>
    where
        S: AddressSpace + Freeze,
    {
        if self.options.strategy == Strategy::Precopy && space.tracking() == Tracking::None {
            return Err(SnapshotError::NoTracking);
        }
        self.tracker.begin();
        let mut load = self.prepare(space)?;
        let (mut misses, mut wipes) = (0, 0);
        loop {
            let last = misses == MISSES_MAX;
            let outcome = match self.foresee(&load, last) {
                Some(missed) => Outcome::Missed(missed),
                None => self.attempt(space, &load, last)?,
            };
            let reason = match outcome {
                Outcome::Taken(taken) => {
                    self.believe_less(None);
                    return Ok(*taken);
                }
                Outcome::Missed(missed) if last => {
                    self.believe_less(Some(&missed));
                    return Err(missed.into_error());
                }
                Outcome::Missed(missed) => {
                    misses += 1;
                    if matches!(missed.limit, Limit::Fork(_)) {
                        self.forking = Forking::Shorter;
                    }
                    missed.reason()
                }
                Outcome::Wiped(missing) => {
                    wipes += 1;
                    self.wiped(&missing, wipes)?;
                    "the forked child lacked memory".to_owned()
                }
            };
            self.observer.event(&Event::Retrying { reason });
            load = self.again(space)?;
        }
    }

    /// Tells whether the promise can't be kept by forecast, so that the target need not be stopped
    /// to find out. The `last` time what can be given up half way is tried all the same.
    fn foresee(&self, load: &Load, last: bool) -> Option<Missed> {
        let limit = self.options.max_freeze?;
        let none = choose(&self.terms(load, self.costs.before_choice(load))).err()?;
        let tries = last && self.options.strategy != Strategy::Fork;
        (!tries).then(|| Missed::forecast(none, limit))
    }

    /// Has costs fade that kept something from being tried, and so from being measured again.
    fn believe_less(&mut self, missed: Option<&Missed>) {
        let could_fork = matches!(self.options.strategy, Strategy::Auto | Strategy::Fork);
        if missed.is_some_and(Missed::is_forecast) {
            self.costs.refused(self.page_size());
        } else if could_fork && self.forks == 0 {
            let instead = match missed {
                None => Instead::Copied,
                Some(_) => Instead::Nothing,
            };
            self.costs.fork_untried(self.page_size(), instead);
        }
    }

    /// What the choice of a way rests on, with so much of the freeze over when it is made.
    pub(super) fn terms<'t>(&'t self, load: &'t Load, spent: Duration) -> Terms<'t> {
        Terms {
            strategy: self.options.strategy,
            forking: self.forking,
            load,
            costs: self.costs,
            spent,
            limit: self.options.max_freeze,
        }
    }

    /// What is done before the first freeze.
    fn prepare<S>(&mut self, space: &mut S) -> Result<Load, SnapshotError<K::Error>>
    where
        S: AddressSpace + Freeze,
    {
        if self.runs_rounds(space.tracking()) {
            let mut load = Load::default();
            while another_round(&self.rounds, &load, self.costs, self.options) {
                self.round(space)?;
                load = self.rehearse(space)?;
            }
            if !self.rounds.is_empty() {
                return Ok(load);
            }
        }
        let wish = match self.options.stay {
            Stay::Attached => Wish::Trusted,
            Stay::Detached => Wish::Nothing,
        };
        let volatile = self.volatile();
        self.tracker
            .refresh(space, self.options.selection, &volatile, wish)
            .map_err(|errno| SnapshotError::space("tracking the memory", errno))?;
        if self.options.stay == Stay::Attached {
            self.tracker
                .arm_ahead(space)
                .map_err(|errno| SnapshotError::space("arming the memory", errno))?;
        }
        self.rehearse(space)
    }

    /// Takes note of what a forked child lacked: the next attempt copies it from the target. After
    /// some times forking is given up.
    fn wiped(&mut self, missing: &RangeSet, times: u32) -> Result<(), SnapshotError<K::Error>> {
        self.wiped = self.wiped.union(missing);
        if times > WIPES_MAX {
            if self.options.strategy == Strategy::Fork {
                return Err(SnapshotError::TwinIncomplete);
            }
            self.forking = Forking::Failed;
        }
        Ok(())
    }

    /// What is done between two attempts.
    fn again<S>(&mut self, space: &mut S) -> Result<Load, SnapshotError<K::Error>>
    where
        S: AddressSpace + Freeze,
    {
        if self.runs_rounds(space.tracking()) {
            self.round(space)?;
        }
        self.rehearse(space)
    }

    fn runs_rounds(&self, tracking: Tracking) -> bool {
        tracking != Tracking::None
            && self.options.rounds_max > 0
            && matches!(self.options.strategy, Strategy::Auto | Strategy::Precopy)
    }

    /// One round: arms what was written, and reads it while the target runs.
    fn round<S>(&mut self, space: &mut S) -> Result<(), SnapshotError<K::Error>>
    where
        S: AddressSpace + Freeze,
    {
        let number = self.rounds.last().map_or(1, |round| round.number + 1);
        self.observer.event(&Event::RoundStarted { number });
        let began = self.clock.now();
        let volatile = self.volatile();
        self.must_go_on()?;
        let armed = if space.tracking() == Tracking::SoftDirty {
            self.arm_stopped(space, &volatile)?
        } else {
            self.tracker
                .refresh(space, self.options.selection, &volatile, Wish::Trusted)
                .and_then(|()| self.tracker.arm(space))
                .map_err(|errno| SnapshotError::space("arming the memory", errno))?
        };
        let reader = space.reader();
        let clock = self.clock;
        let (took, pumped) = timed(clock, || self.pump(&*reader, &armed.read, Missing::Skip));
        let pumped = pumped?;
        self.costs.pumped(pumped.bytes, took);
        self.put_zeros(&armed.zeros)?;
        let taken = armed.read.union(&armed.zeros);
        self.tracker.captured(&taken, &pumped.missed);
        self.bytes_read.0 += pumped.bytes.0;
        let round = Round {
            number,
            pages: self.pages(&taken),
            bytes: pumped.bytes,
            duration: self.clock.now().saturating_sub(began),
        };
        self.rounds.push(round);
        self.observer.event(&Event::RoundFinished(round));
        Ok(())
    }

    /// Arms with soft-dirty bits: reading and clearing them is safe only while nobody writes.
    fn arm_stopped<S>(
        &mut self,
        space: &mut S,
        volatile: &RangeSet,
    ) -> Result<crate::track::Armed, SnapshotError<K::Error>>
    where
        S: AddressSpace + Freeze,
    {
        let limits = Limits {
            began: self.clock.now(),
            promise: Duration::MAX,
            promised: Promised::Caller,
            resume: Duration::ZERO,
            stop: self.options.stop_limit,
            step: self.options.step_limit,
        };
        let mut frozen = Frozen::stop(space, self.clock, limits)
            .map_err(|errno| stop_error(errno, limits.stop))?;
        // It is not late already: all of its time was left.
        _ = frozen.enter(Step::Arm, self.clock.now());
        let armed = self
            .tracker
            .refresh(
                frozen.space,
                self.options.selection,
                volatile,
                Wish::Trusted,
            )
            .and_then(|()| self.tracker.arm(frozen.space));
        let resumed = frozen.resume(self.clock);
        self.stopped("arm", frozen.stood);
        if resumed.is_err() {
            self.tracker.distrust();
            return Err(SnapshotError::StepTimeout {
                step: Step::Arm.text(),
                limit: limits.step,
            });
        }
        armed.map_err(|errno| SnapshotError::space(Step::Arm.text(), errno))
    }

    /// Looks at what a freeze would find now.
    fn rehearse<S: AddressSpace>(
        &mut self,
        space: &mut S,
    ) -> Result<Load, SnapshotError<K::Error>> {
        let volatile = self.volatile();
        let selection = self.options.selection;
        let (took, look) = timed(self.clock, || {
            Look::take(self.tracker, space, selection, &volatile, Depth::Full)
        });
        let look = look.map_err(|errno| SnapshotError::space("looking at the memory", errno))?;
        if !space.absent_is_written() {
            // Otherwise the freeze looks in a faster way.
            self.costs.looked(look.present, took);
        }
        self.tracker.lose(&look.lost);
        if space.tracking() == Tracking::SoftDirty {
            self.tracker.doubt(&look);
        }
        Ok(look.load())
    }

    /// Reads `set` from `source` and hands it to the sink.
    pub(super) fn pump<R: space::PageSource + Sync>(
        &mut self,
        source: &R,
        set: &RangeSet,
        missing: Missing,
    ) -> Result<crate::carry::Pumped, SnapshotError<K::Error>> {
        let size = self.page_size();
        let total = self.pages(set);
        let observer = &mut *self.observer;
        self.carrier
            .pump(source, self.sink, set, missing, &mut |done: ByteLen| {
                observer.event(&Event::Progress {
                    done: PageCount(done.0 >> size.shift()),
                    total,
                });
            })
            .map_err(failure("reading the memory"))
    }

    pub(super) fn put_zeros(&self, set: &RangeSet) -> Result<(), SnapshotError<K::Error>> {
        set.iter()
            .try_for_each(|range| self.sink.put_zeros(range))
            .map_err(SnapshotError::Sink)
    }

    pub(super) fn volatile(&mut self) -> RangeSet {
        self.options.volatile.union(&self.observer.volatile())
    }

    pub(super) fn must_go_on(&mut self) -> Result<(), SnapshotError<K::Error>> {
        if self.observer.goes_on() {
            Ok(())
        } else {
            Err(SnapshotError::Unwanted)
        }
    }

    pub(super) fn page_size(&self) -> PageSize {
        self.carrier.page_size
    }

    pub(super) fn pages(&self, set: &RangeSet) -> PageCount {
        PageCount(set.len().0 >> self.page_size().shift())
    }

    pub(super) fn stopped(&mut self, why: &str, length: Duration) {
        self.stops.push(StopLength {
            why: why.to_owned(),
            length,
        });
    }
}

pub(super) fn stop_error<E>(errno: Errno, limit: Duration) -> SnapshotError<E> {
    match errno {
        Errno::ETIMEDOUT => SnapshotError::StopTimeout { limit },
        Errno::ESRCH => SnapshotError::Gone,
        _ => SnapshotError::Stop(errno),
    }
}

pub(super) fn failure<E>(step: &'static str) -> impl FnOnce(Failure<E>) -> SnapshotError<E> {
    move |failure| match failure {
        Failure::Space(errno) => SnapshotError::space(step, errno),
        Failure::Sink(error) => SnapshotError::Sink(error),
    }
}
