//! What the caller is told while a snapshot is taken, and what it is asked.

use std::time::Duration;

use space::{PageCount, PageRange, PageSink, RangeSet};

use super::{Round, Strategy};

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A round begins; the first is number 1.
    RoundStarted {
        /// Its number.
        number: u32,
    },
    /// A round is over.
    RoundFinished(Round),
    /// Pages went to the sink, outside the freeze.
    Progress {
        /// Pages of this step that are done.
        done: PageCount,
        /// Pages of this step.
        total: PageCount,
    },
    /// The tasks are being stopped.
    Freezing,
    /// All tasks stand still. What is read of the process now belongs to the snapshot's instant.
    Frozen,
    /// All tasks run again.
    Resumed {
        /// How long they stood still, from the first request to stop on.
        frozen: Duration,
    },
    /// An attempt was given up, and another follows.
    Retrying {
        /// Why.
        reason: String,
    },
    /// Pages are compared.
    Verifying,
    /// The forked child is ended.
    Reaping,
    /// The way the memory is copied was decided.
    Decided(Strategy),
}

/// Who takes a snapshot, as the engine sees it.
pub trait Observer {
    /// Takes note of an event. Between [`Event::Frozen`] and [`Event::Resumed`] the target stands
    /// still while this runs.
    fn event(&mut self, event: &Event);

    /// Returns addresses that are written without the page tables showing it, as far as is known
    /// now; asked before each round and in each freeze. [`Options::volatile`](super::Options)
    /// counts as well.
    fn volatile(&mut self) -> RangeSet {
        RangeSet::new()
    }

    /// Tells whether the snapshot is still wanted, after what [`volatile`](Self::volatile) found;
    /// asked in each round and before each freeze. One that is not ends with
    /// [`SnapshotError::Unwanted`](super::SnapshotError::Unwanted).
    fn goes_on(&mut self) -> bool {
        true
    }
}

/// An observer that ignores everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&mut self, _: &Event) {}
}

/// A sink that can compare pages with what it took.
pub trait Verifier: PageSink {
    /// Compares `bytes` with what was taken for `range`, in this snapshot or, where it took
    /// nothing, in those before. Returns the ranges that differ or that nobody took.
    ///
    /// # Errors
    ///
    /// Those of the sink.
    fn differs(&self, range: PageRange, bytes: &[u8]) -> Result<Vec<PageRange>, Self::Error>;
}
