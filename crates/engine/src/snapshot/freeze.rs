//! One freeze, from the first request to stop a task to the last resume.
//!
//! Order: stop, look, decide, fork where that was decided, start copying, read registers beside it
//! and arm where no round went before, wait for the copy, compare if asked to, resume. Each step is
//! under a deadline ([`Freeze::hold`]), after which the target runs again whatever we wait for: the
//! store may be a service of the target's own.

use std::sync::Arc;
use std::time::Duration;

use space::{AddressSpace, ByteLen, Errno, Freeze, RangeSet, TaskState, Tracking};

use super::frozen::{Frozen, Limit, Limits, Missed, Promised, Step};
use super::policy::{Forking, Way, choose, longest_copy, room};
use super::take::{Work, failure, stop_error};
use super::{
    Event, FreezeTimes, Load, Observer, SnapshotError, Stay, Strategy, Taken, Verified, Verifier,
    Verify,
};
use crate::Clock;
use crate::carry::{BATCH_BYTES, Batches, Copied, Copier, Filled, timed};
use crate::track::{Depth, Look, Rearmed};

/// More threads than this do not copy faster: they wait for the same memory.
const COPIERS_MAX: usize = 4;

/// How an attempt ended, if not with an error.
pub(super) enum Outcome {
    /// The snapshot is with the sink.
    Taken(Box<Taken>),
    /// A freeze was, or would have been, too long.
    Missed(Missed),
    /// The forked child lacked these pages.
    Wiped(RangeSet),
}

/// Why an attempt was given up.
pub(super) enum Halt<E> {
    Missed(Missed),
    Wiped(RangeSet),
    Failed(SnapshotError<E>),
}

impl<E> From<SnapshotError<E>> for Halt<E> {
    fn from(error: SnapshotError<E>) -> Self {
        Self::Failed(error)
    }
}

impl<E> From<Missed> for Halt<E> {
    fn from(missed: Missed) -> Self {
        Self::Missed(missed)
    }
}

/// What a freeze brought, before it is all with the sink.
pub(super) struct Held {
    pub(super) times: FreezeTimes,
    pub(super) look: Look,
    pub(super) tasks: Vec<TaskState>,
    pub(super) strategy: Strategy,
    /// What was copied.
    pub(super) copied: RangeSet,
    pub(super) batches: Arc<Batches>,
    pub(super) filled: Vec<Filled>,
    /// Pages that have content and can't be read.
    pub(super) unreadable: RangeSet,
    pub(super) verified: Option<Verified>,
    /// Whether what was copied went to the sink already, to be compared.
    pub(super) handed_over: bool,
    pub(super) rearmed: Rearmed,
    pub(super) tracking: Tracking,
}

impl Held {
    /// Returns what the snapshot holds: all that was kept, copied or is to be read from the child.
    pub(super) fn next(&self) -> RangeSet {
        self.look
            .keep
            .union(&self.look.taken())
            .difference(&self.unreadable)
    }
}

impl<K, C, O> Work<'_, K, C, O>
where
    K: Verifier + Sync,
    K::Error: Send,
    C: Clock,
    O: Observer,
{
    /// Freezes the target once, and tries to finish the snapshot. Does not go past what was
    /// allowed for the freeze by forecast, except with its `last` copy, which can be given up.
    pub(super) fn attempt<S>(
        &mut self,
        space: &mut S,
        expected: &Load,
        last: bool,
    ) -> Result<Outcome, SnapshotError<K::Error>>
    where
        S: AddressSpace + Freeze,
    {
        self.must_go_on()?;
        self.attempts += 1;
        let ready = room(&self.terms(expected, self.costs.before_choice(expected)));
        let threads = self.options.threads.min(COPIERS_MAX);
        let most = self.options.frozen_max;
        let mut copier = Copier::new(space.reader(), threads, self.page_size(), ready, most);
        let mut twin = None;
        self.observer.event(&Event::Freezing);
        let mut stood = Duration::ZERO;
        let held = self.freeze(space, &mut copier, &mut twin, &mut stood, last);
        drop(copier);
        let frozen = held.as_ref().map_or(stood, |held| held.times.total);
        self.observer.event(&Event::Resumed { frozen });
        let result = held.and_then(|held| self.finish(held, twin.as_mut()));
        if result.is_err() {
            self.stopped("an attempt given up", frozen);
        }
        if let Some(twin) = twin {
            self.observer.event(&Event::Reaping);
            match space.reap(twin) {
                Ok(stop) => self.stops.push(stop),
                Err(errno) => self
                    .warnings
                    .push(format!("the forked child was ended with an error: {errno}")),
            }
        }
        match result {
            Ok(taken) => Ok(Outcome::Taken(Box::new(self.report(taken)))),
            Err(Halt::Failed(error)) => Err(error),
            Err(Halt::Missed(missed)) => {
                self.tracker.abandon();
                Ok(Outcome::Missed(missed))
            }
            Err(Halt::Wiped(pages)) => {
                self.tracker.abandon();
                Ok(Outcome::Wiped(pages))
            }
        }
    }

    /// All that happens from stopping to resuming; `stood` becomes the time between the two.
    fn freeze<S>(
        &mut self,
        space: &mut S,
        copier: &mut Copier<S::Reader>,
        twin: &mut Option<S::Twin>,
        stood: &mut Duration,
        last: bool,
    ) -> Result<Held, Halt<K::Error>>
    where
        S: AddressSpace + Freeze,
    {
        let began = self.clock.now();
        let stopped = self.stop(space, began);
        *stood = self.clock.now().saturating_sub(began);
        let mut frozen = stopped?;
        let result = self.work(&mut frozen, copier, twin, last);
        let resumed = frozen.resume(self.clock);
        *stood = frozen.stood;
        if let Ok(took) = resumed {
            self.costs.resumed(took);
        }
        if let Err(errno) = resumed {
            // What was armed while they ran, nobody knows.
            self.tracker.distrust();
            return Err(match result {
                // A sink that failed is good for nothing, late or not.
                Err(halt @ Halt::Failed(SnapshotError::Sink(_))) => halt,
                _ if errno == Errno::ETIMEDOUT => frozen.missed(self.clock.now()).into(),
                _ => SnapshotError::Stop(errno).into(),
            });
        }
        let mut held = result?;
        let verified = held.verified.as_ref();
        let verifying = verified.map_or(Duration::ZERO, |verified| verified.duration);
        held.times.total = stood.saturating_sub(verifying);
        // To let them go takes its time, too.
        match self.options.max_freeze {
            Some(limit) if held.times.total > limit => {
                let limit = Limit::Promise(limit);
                Err(Missed::measured(Step::Resume, held.times.total, limit).into())
            }
            _ => Ok(held),
        }
    }

    /// What is done while the tasks stand still.
    fn work<S>(
        &mut self,
        frozen: &mut Frozen<'_, S>,
        copier: &mut Copier<S::Reader>,
        twin: &mut Option<S::Twin>,
        last: bool,
    ) -> Result<Held, Halt<K::Error>>
    where
        S: AddressSpace + Freeze,
    {
        let mut times = FreezeTimes {
            stop: self.clock.now().saturating_sub(frozen.limits.began),
            ..FreezeTimes::default()
        };
        self.costs.stopped(times.stop);
        self.observer.event(&Event::Frozen);
        let mut look = self.look(frozen, &mut times)?;
        let way = self.decide(&look, frozen, last)?;
        let copying = self.clock.now();
        let way = match way {
            Way::Fork => self.fork(frozen, &mut look, twin, last)?,
            Way::Copy => Way::Copy,
        };
        let copied = match way {
            Way::Fork => look.apart.clone(),
            Way::Copy => look.copy(),
        };
        let strategy = self.strategy_of(way, &look);
        self.observer.event(&Event::Decided(strategy));
        let batches = Arc::new(Batches::cut(&copied, ByteLen(BATCH_BYTES)));
        frozen.enter(Step::Copy, self.clock.now())?;
        copier.start(&batches);
        let (tasks, rearmed) = self.beside(frozen.space, &look, &mut times)?;
        let early = self.wait(frozen, copier, &batches, &look, copied.len())?;
        let copied_at = self.clock.now();
        times.copy = copied_at.saturating_sub(copying);
        let filled = copier.take();
        let missed = early.union(&missed_of(&filled));
        let mut held = Held {
            unreadable: look.unread.union(&missed),
            times,
            look,
            tasks,
            strategy,
            copied,
            batches,
            filled,
            verified: None,
            handed_over: false,
            rearmed,
            tracking: frozen.space.tracking(),
        };
        if self.options.verify == Verify::Yes {
            self.verify_frozen(frozen, &mut held, way)?;
        } else {
            frozen.enter(Step::Copy, copied_at)?;
        }
        Ok(held)
    }

    fn stop<'s, S: Freeze>(
        &mut self,
        space: &'s mut S,
        began: Duration,
    ) -> Result<Frozen<'s, S>, Halt<K::Error>> {
        let limits = Limits {
            began,
            promise: self.options.max_freeze.unwrap_or(Duration::MAX),
            promised: Promised::Caller,
            resume: self.costs.resume,
            stop: self.options.stop_limit,
            step: self.options.step_limit,
        };
        match Frozen::stop(space, self.clock, limits) {
            Ok(frozen) => Ok(frozen),
            Err(Errno::ETIMEDOUT) => {
                let measured = self.clock.now().saturating_sub(began);
                let limit = if limits.promise <= limits.stop {
                    limits.promise()
                } else {
                    Limit::Step(limits.stop)
                };
                Err(Missed::measured(Step::Stop, measured, limit).into())
            }
            Err(errno) => Err(stop_error(errno, limits.stop).into()),
        }
    }

    /// Looks at the frozen memory.
    fn look<S: AddressSpace + Freeze>(
        &mut self,
        frozen: &mut Frozen<'_, S>,
        times: &mut FreezeTimes,
    ) -> Result<Look, Halt<K::Error>> {
        frozen.enter(Step::Look, self.clock.now())?;
        let volatile = self.volatile();
        let selection = self.options.selection;
        let (took, look) = timed(self.clock, || {
            Look::take(
                self.tracker,
                frozen.space,
                selection,
                &volatile,
                Depth::Changes,
            )
        });
        let mut look = look.map_err(|errno| SnapshotError::space(Step::Look.text(), errno))?;
        times.scan = took;
        self.costs.looked(look.present, took);
        frozen.enter(Step::Look, self.clock.now())?;
        look.leave_out(&self.wiped);
        Ok(look)
    }

    /// Decides how the memory is got, if that can be in time.
    fn decide<S: Freeze>(
        &mut self,
        look: &Look,
        frozen: &mut Frozen<'_, S>,
        last: bool,
    ) -> Result<Way, Halt<K::Error>> {
        let load = look.load();
        let spent = self.clock.now().saturating_sub(frozen.limits.began);
        let terms = self.terms(&load, spent);
        let way = match (choose(&terms), terms.limit) {
            (Ok(choice), _) => choice.way,
            (Err(none), None) => none.nearest.way,
            // A copy can be given up half way; a fork can't.
            (Err(_), Some(_)) if last && terms.strategy != Strategy::Fork => Way::Copy,
            (Err(none), Some(limit)) => return Err(Missed::forecast(none, limit).into()),
        };
        // The next attempt forks, and is the last one. Who has every page compared in the freeze
        // does not ask for a short one.
        let short = !last && self.options.verify == Verify::No;
        if let (Way::Copy, true, Some(longest)) = (way, short, longest_copy(&terms)) {
            frozen.limits.promise = longest;
            frozen.limits.promised = Promised::Ourselves;
        }
        Ok(way)
    }

    /// Forks the target; where that fails and another strategy may be used, the memory is copied.
    fn fork<S>(
        &mut self,
        frozen: &mut Frozen<'_, S>,
        look: &mut Look,
        twin: &mut Option<S::Twin>,
        last: bool,
    ) -> Result<Way, Halt<K::Error>>
    where
        S: AddressSpace + Freeze,
    {
        frozen.enter(Step::Fork, self.clock.now())?;
        // Not what is left of the promise: the task that forks goes on only when the kernel is done
        // with it, and one that is left alone before that has lost the restart of its call.
        let limit = self.options.step_limit;
        self.forks += 1;
        let (took, result) = timed(self.clock, || frozen.space.fork(limit));
        match result {
            Ok(made) => {
                self.costs.forked(look.forked, took);
                let made = twin.insert(made);
                frozen.enter(Step::Fork, self.clock.now())?;
                if self.options.verify == Verify::Yes {
                    // Without comparing, what the sink holds is the memory at the stop.
                    look.written_since(frozen.space).map_err(|errno| {
                        SnapshotError::space("looking at the memory again", errno)
                    })?;
                }
                let lacks = self.twin_lacks(made, look)?;
                look.leave_out(&lacks);
                Ok(Way::Fork)
            }
            // A task may be about it still: neither its registers nor its memory are of use.
            Err(Errno::ETIMEDOUT) => {
                Err(Missed::measured(Step::Fork, took, Limit::Step(limit)).into())
            }
            Err(errno) if self.options.strategy == Strategy::Auto && errno != Errno::ESRCH => {
                self.forking = Forking::Failed;
                self.warnings.push(format!(
                    "the target could not be forked ({errno}); it was copied"
                ));
                self.decide(look, frozen, last)
            }
            Err(Errno::ESRCH) => Err(SnapshotError::Gone.into()),
            Err(errno) => Err(SnapshotError::Fork(errno).into()),
        }
    }

    /// What the calling thread does while others copy.
    fn beside<S>(
        &mut self,
        space: &mut S,
        look: &Look,
        times: &mut FreezeTimes,
    ) -> Result<(Vec<TaskState>, Rearmed), Halt<K::Error>>
    where
        S: AddressSpace + Freeze,
    {
        let (took, tasks) = timed(self.clock, || space.tasks());
        let tasks = tasks.map_err(|errno| SnapshotError::space("reading registers", errno))?;
        times.registers = took;
        self.costs.registers_read(took);
        // After rounds what is left was written in the last moments, and most of it will be
        // again: armed, each page would cost time here and a fault later. The next round arms it.
        let rearmed = if self.options.stay == Stay::Attached && self.rounds.is_empty() {
            self.tracker
                .arm_frozen(space, look)
                .map_err(|errno| SnapshotError::space("arming the memory", errno))?;
            Rearmed::Yes
        } else {
            Rearmed::No
        };
        Ok((tasks, rearmed))
    }

    /// Waits until all is copied, or the time is over. What does not fit into memory goes to the
    /// sink meanwhile; returns the pages of that which could not be read.
    fn wait<S>(
        &mut self,
        frozen: &mut Frozen<'_, S>,
        copier: &mut Copier<S::Reader>,
        batches: &Batches,
        look: &Look,
        bytes: ByteLen,
    ) -> Result<RangeSet, Halt<K::Error>>
    where
        S: AddressSpace + Freeze,
    {
        let clock = self.clock;
        let waiting = clock.now();
        frozen.enter(Step::Copy, waiting)?;
        let mut before = 0;
        let (mut missed, mut streamed) = (RangeSet::new(), false);
        loop {
            let copied = copier.wait(|done| {
                let now = clock.now();
                if done > before {
                    before = done;
                    frozen.go_on(now);
                }
                frozen.left(now)
            });
            let now = clock.now();
            let took = copier.took().unwrap_or(now.saturating_sub(waiting));
            match copied {
                Copied::All => {
                    if !streamed {
                        self.costs.copied(bytes, took);
                    }
                    return Ok(missed);
                }
                Copied::Full => {
                    frozen.enter(Step::Keep, now)?;
                    let filled = copier.take();
                    self.tracker.handing_over(&look.taken());
                    self.carrier
                        .urgent()
                        .hand_over(self.sink, batches, &filled, &mut |_| {
                            frozen.go_on(clock.now());
                        })
                        .map_err(failure("keeping what was copied"))?;
                    frozen.enter(Step::Copy, clock.now())?;
                    missed = missed.union(&missed_of(&filled));
                    copier.give_back(filled);
                    streamed = true;
                }
                Copied::TimedOut => {
                    self.costs.copied(copier.done(), took);
                    return Err(frozen.missed(now).into());
                }
                Copied::Failed(errno) => {
                    return Err(SnapshotError::space(Step::Copy.text(), errno).into());
                }
            }
        }
    }

    /// The name of what is being done: copying is pre-copy if something was copied before.
    fn strategy_of(&self, way: Way, look: &Look) -> Strategy {
        match way {
            Way::Fork => Strategy::Fork,
            Way::Copy if self.options.strategy == Strategy::Freeze => Strategy::Freeze,
            Way::Copy if self.rounds.is_empty() && look.keep.is_empty() => Strategy::Freeze,
            Way::Copy => Strategy::Precopy,
        }
    }
}

/// The pages that could not be read.
fn missed_of(filled: &[Filled]) -> RangeSet {
    filled
        .iter()
        .flat_map(|full| full.missed.iter().copied())
        .collect()
}
