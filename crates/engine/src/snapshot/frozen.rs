//! The guard of a freeze, and how a freeze fails to keep its time.

use std::time::Duration;

use space::{Errno, Freeze};

use super::SnapshotError;

/// Tasks that stand still until this is dropped.
pub(super) struct Frozen<'a, S: Freeze> {
    pub(super) space: &'a mut S,
    /// How much time had passed since the first task was asked to stop, when all stood still.
    pub(super) stopping: Duration,
}

impl<'a, S: Freeze> Frozen<'a, S> {
    /// Stops the tasks. On an error they run.
    pub(super) fn stop(space: &'a mut S, limit: Duration) -> Result<Self, Errno> {
        // The guard comes first: should stopping fail half way, the tasks are resumed.
        let mut frozen = Self {
            space,
            stopping: Duration::ZERO,
        };
        frozen.stopping = frozen.space.stop(limit)?;
        Ok(frozen)
    }
}

impl<S: Freeze> Frozen<'_, S> {
    /// Lets the tasks go, and tells how long ago that was: they run from then on, and may keep us
    /// from the processor.
    pub(super) fn resume(self) -> Duration {
        self.space.resume()
    }
}

impl<S: Freeze> Drop for Frozen<'_, S> {
    fn drop(&mut self) {
        _ = self.space.resume();
    }
}

/// A step of a freeze.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Stop,
    Look,
    Copy,
    Fork,
    Whole,
}

impl Step {
    /// Names the step, for messages.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Stop => "stopping the tasks",
            Self::Look => "looking for what was written",
            Self::Copy => "copying what was written",
            Self::Fork => "forking the target",
            Self::Whole => "the freeze as a whole",
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
