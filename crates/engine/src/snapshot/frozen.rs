//! The guard of a freeze, its deadlines, and how it fails to keep them.

use std::time::Duration;

use space::{Errno, Freeze};

use super::SnapshotError;
use crate::Clock;

/// Until when a freeze may last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// When the first task was asked to stop.
    pub(super) began: Duration,
    /// The longest that all of it may take.
    pub(super) promise: Duration,
    /// The longest that a step may take, or go on without getting anywhere.
    pub(super) step: Duration,
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
        let stopping = space.stop(limits.step.min(limits.promise));
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
        let Limits {
            began,
            promise,
            step,
        } = self.limits;
        let step = step.saturating_sub(now.saturating_sub(self.since));
        step.min(promise.saturating_sub(now.saturating_sub(began)))
    }

    /// Tells which limit the step under way broke.
    pub(super) fn missed(&self, now: Duration) -> Missed {
        let frozen = now.saturating_sub(self.limits.began);
        let (measured, limit) = if frozen >= self.limits.promise {
            (frozen, Limit::Promise(self.limits.promise))
        } else {
            let still = now.saturating_sub(self.since);
            (still, Limit::Step(self.limits.step))
        };
        Missed {
            step: self.step,
            measured,
            limit,
        }
    }

    /// Lets the tasks go. An error tells that they were let go before, as their time was over.
    pub(super) fn resume<C: Clock>(&mut self, clock: &C) -> Result<(), Errno> {
        let resumed = self.space.resume();
        let now = clock.now();
        let over = self.since.saturating_add(self.limits.step);
        let over = over.min(self.limits.began.saturating_add(self.limits.promise));
        // Once they run they may keep us from the processor.
        let until = resumed.map_or(over.min(now), |since| now.saturating_sub(since));
        self.stood = until.saturating_sub(self.limits.began);
        resumed.map(drop)
    }

    fn hold(&mut self, now: Duration) {
        self.space.hold(self.left(now));
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
        }
    }
}

/// What a freeze took too long for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Limit {
    /// The freeze that the caller allows at most.
    Promise(Duration),
    /// One step's.
    Step(Duration),
}

/// A freeze that took too long, or that would have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missed {
    /// What took the time.
    pub(super) step: Step,
    /// How long it took, or was forecast to take.
    pub(super) measured: Duration,
    /// What it should have kept.
    pub(super) limit: Limit,
}

impl Missed {
    /// Tells what happened, in words.
    pub(super) fn reason(&self) -> String {
        let (Limit::Promise(limit) | Limit::Step(limit)) = self.limit;
        let step = self.step.text();
        format!("{step} came to {:?}, with {limit:?} allowed", self.measured)
    }

    /// Makes it an error.
    pub(super) fn into_error<E>(self) -> SnapshotError<E> {
        match (self.limit, self.step) {
            (Limit::Promise(limit), step) => SnapshotError::MaxFreeze {
                reason: step.text().to_owned(),
                measured: self.measured,
                limit,
            },
            (Limit::Step(limit), Step::Stop) => SnapshotError::StopTimeout { limit },
            (Limit::Step(limit), step) => SnapshotError::StepTimeout {
                step: step.text(),
                limit,
            },
        }
    }
}
