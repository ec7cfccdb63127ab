//! The guard of a freeze, its deadlines, and how it fails to keep them.

use std::time::Duration;

use space::{Errno, Freeze};

use super::SnapshotError;
use super::policy::{NoneKeeps, Way};
use crate::Clock;

/// Until when a freeze may last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// When the first task was asked to stop.
    pub(super) began: Duration,
    /// The longest that all of it may take.
    pub(super) promise: Duration,
    /// Whose promise that is.
    pub(super) promised: Promised,
    /// How much of it is needed to let the tasks go.
    pub(super) resume: Duration,
    /// The longest that stopping them may take.
    pub(super) stop: Duration,
    /// The longest that another step may take, or go on without getting anywhere.
    pub(super) step: Duration,
}

/// Whose promise a freeze has to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promised {
    /// The caller's.
    Caller,
    /// None but our own, that a copy is given up when it becomes longer than a fork.
    Ourselves,
}

/// How much later than by our own rule the tasks are let go from outside: time enough to keep the
/// rule ourselves, also on a busy machine, so that what was found is of use still.
const LATER: Duration = Duration::from_millis(50);

impl Limits {
    /// Returns when the tasks are let go whatever we wait for, from the first request on.
    fn held(&self) -> Duration {
        match self.promised {
            Promised::Caller => self.whole(),
            Promised::Ourselves => self.whole().saturating_add(LATER),
        }
    }

    /// Returns when the promise says that the tasks have to be let go, from the first request on.
    fn whole(&self) -> Duration {
        self.promise.saturating_sub(self.resume)
    }

    /// Returns what the promise is, for messages.
    pub(super) fn promise(&self) -> Limit {
        match self.promised {
            Promised::Caller => Limit::Promise(self.promise),
            Promised::Ourselves => Limit::Fork(self.promise),
        }
    }
}

/// Tasks that stand still until this is dropped, or until a step takes too long: they are let go
/// then even if that step never returns.
pub(super) struct Frozen<'a, S: Freeze> {
    pub(super) space: &'a mut S,
    pub(super) limits: Limits,
    /// What is being done, and since when, or since when it got no further.
    step: Step,
    since: Duration,
    /// How long they stood still, once they run again.
    pub(super) stood: Duration,
}

impl<'a, S: Freeze> Frozen<'a, S> {
    /// Stops the tasks. On an error they run.
    pub(super) fn stop<C: Clock>(
        space: &'a mut S,
        clock: &C,
        mut limits: Limits,
    ) -> Result<Self, Errno> {
        let stopping = space.stop(limits.stop.min(limits.whole()));
        let now = clock.now();
        // From the first request on: before that the target ran.
        let asked = now.saturating_sub(stopping?);
        limits.began = limits.began.max(asked);
        let mut frozen = Self {
            space,
            limits,
            step: Step::Stop,
            since: now,
            stood: Duration::ZERO,
        };
        frozen.hold(now);
        Ok(frozen)
    }

    /// Begins a step, which has its whole time, unless the one before took too long.
    pub(super) fn enter(&mut self, step: Step, now: Duration) -> Result<(), Missed> {
        if self.left(now).is_zero() {
            return Err(self.missed(now));
        }
        self.step = step;
        self.go_on(now);
        Ok(())
    }

    /// Takes note that the step under way gets on: it has its whole time again.
    pub(super) fn go_on(&mut self, now: Duration) {
        if !self.left(now).is_zero() {
            self.since = now;
            self.hold(now);
        }
    }

    /// Returns how much time there is left.
    pub(super) fn left(&self, now: Duration) -> Duration {
        let Limits { began, step, .. } = self.limits;
        let step = step.saturating_sub(now.saturating_sub(self.since));
        let whole = self.limits.whole();
        step.min(whole.saturating_sub(now.saturating_sub(began)))
    }

    /// Tells which limit the step under way broke.
    pub(super) fn missed(&self, now: Duration) -> Missed {
        let frozen = now.saturating_sub(self.limits.began);
        let (measured, limit) = if frozen >= self.limits.whole() {
            (frozen, self.limits.promise())
        } else {
            let still = now.saturating_sub(self.since);
            (still, Limit::Step(self.limits.step))
        };
        Missed::measured(self.step, measured, limit)
    }

    /// Lets the tasks go, and tells how long that took. An error tells that they were let go before,
    /// as their time was over.
    pub(super) fn resume<C: Clock>(&mut self, clock: &C) -> Result<Duration, Errno> {
        let asked = clock.now();
        let resumed = self.space.resume();
        let now = clock.now();
        let over = self.let_go_at();
        // Once they run they may keep us from the processor.
        let until = resumed.map_or(over.min(now), |since| now.saturating_sub(since));
        self.stood = until.saturating_sub(self.limits.began);
        resumed.map(|_| until.saturating_sub(asked))
    }

    fn hold(&mut self, now: Duration) {
        self.space.hold(self.let_go_at().saturating_sub(now));
    }

    /// Returns when the tasks are let go if nothing else happens.
    fn let_go_at(&self) -> Duration {
        let step = self.since.saturating_add(self.limits.step);
        step.min(self.limits.began.saturating_add(self.limits.held()))
    }
}

impl<S: Freeze> Drop for Frozen<'_, S> {
    fn drop(&mut self) {
        // They run already where there was a result to be had.
        _ = self.space.resume();
    }
}

/// A step of a freeze.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Stop,
    Arm,
    Look,
    Fork,
    Copy,
    Keep,
    Compare,
    Resume,
}

impl Step {
    /// Names the step, for messages.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Stop => "stopping the tasks",
            Self::Arm => "arming the memory",
            Self::Look => "looking for what was written",
            Self::Fork => "forking the target",
            Self::Copy => "copying what was written",
            Self::Keep => "storing what was copied",
            Self::Compare => "comparing every page",
            Self::Resume => "letting the tasks go",
        }
    }
}

/// What a freeze took too long for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// The freeze that the caller allows at most.
    Promise(Duration),
    /// What a fork is forecast to take, and some more.
    Fork(Duration),
    /// One step's.
    Step(Duration),
}

/// A freeze that took too long, or that would have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missed {
    /// What took the time.
    step: Step,
    /// How long it took, or would have taken.
    measured: Duration,
    /// What it should have kept.
    pub(super) limit: Limit,
    /// Whether it is only forecast, and what else there would have been.
    forecast: Option<NoneKeeps>,
}

impl Missed {
    /// One that was measured.
    pub(super) fn measured(step: Step, measured: Duration, limit: Limit) -> Self {
        Self {
            step,
            measured,
            limit,
            forecast: None,
        }
    }

    /// One that is forecast, so that it was not tried.
    pub(super) fn forecast(none: NoneKeeps, limit: Duration) -> Self {
        Self {
            step: step_of(none.nearest.way),
            measured: none.nearest.takes,
            limit: Limit::Promise(limit),
            forecast: Some(none),
        }
    }

    /// Tells whether it would have been too long, and was not tried.
    pub(super) fn is_forecast(&self) -> bool {
        self.forecast.is_some()
    }

    /// Tells what happened, in words.
    pub(super) fn reason(&self) -> String {
        let measured = self.measured;
        match self.limit {
            Limit::Promise(limit) | Limit::Step(limit) => {
                format!("{}, with {limit:?} allowed", self.what())
            }
            Limit::Fork(limit) => format!(
                "{} came to {measured:?}, and a fork takes less than {limit:?}",
                self.step.text()
            ),
        }
    }

    /// Tells what takes how long.
    fn what(&self) -> String {
        let Some(none) = &self.forecast else {
            return format!("{} came to {:?}", self.step.text(), self.measured);
        };
        let step = self.step.text();
        let mut text = format!("{step} is forecast to come to {:?}", self.measured);
        if let Some(other) = none.other {
            let step = step_of(other.way).text();
            text.push_str(&format!(", {step} to {:?}", other.takes));
        }
        text
    }

    /// Makes it an error.
    pub(super) fn into_error<E>(self) -> SnapshotError<E> {
        match (self.limit, self.step) {
            (Limit::Promise(limit), _) => SnapshotError::MaxFreeze {
                reason: self.what(),
                measured: self.measured,
                limit,
            },
            (Limit::Step(limit), Step::Stop) => SnapshotError::StopTimeout { limit },
            (Limit::Step(limit) | Limit::Fork(limit), step) => SnapshotError::StepTimeout {
                step: step.text(),
                limit,
            },
        }
    }
}

fn step_of(way: Way) -> Step {
    match way {
        Way::Copy => Step::Copy,
        Way::Fork => Step::Fork,
    }
}
