//! What may go wrong with a snapshot.

use std::time::Duration;

use space::Errno;

/// Why there is no snapshot. The target runs as before in every case.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError<E> {
    /// The process is gone.
    #[error("the process ended, or runs another program now")]
    Gone,
    /// The tasks did not all stop in time.
    #[error(
        "not every task stopped within {limit:?}; one may wait in the kernel where nothing interrupts \
         it (state D): try again when it does not (onionskin doctor --pid names it)"
    )]
    StopTimeout {
        /// The time allowed.
        limit: Duration,
    },
    /// The tasks could not be stopped.
    #[error("the tasks could not be stopped: {0}")]
    Stop(#[source] Errno),
    /// A step of the freeze took too long.
    #[error(
        "{step} took longer than {limit:?} while the target stood still; it runs again: try again \
         when machine and store are less busy, or another strategy"
    )]
    StepTimeout {
        /// What was done.
        step: &'static str,
        /// The time allowed.
        limit: Duration,
    },
    /// The freeze would have been, or was, longer than allowed.
    #[error(
        "a freeze of {limit:?} at most was not possible: {reason}; it runs on: try again when it \
         writes less, or allow a longer one (--max-freeze)"
    )]
    MaxFreeze {
        /// What took the time, or is forecast to take it, and how long.
        reason: String,
        /// How long it took or was forecast to take.
        measured: Duration,
        /// The longest freeze allowed.
        limit: Duration,
    },
    /// The target could not be forked.
    #[error("the target could not be forked: {0}; try another strategy")]
    Fork(#[source] Errno),
    /// The forked child lacked memory that it should have had.
    #[error("the forked child did not get all of the memory; try another strategy")]
    TwinIncomplete,
    /// The observer wants it no more.
    #[error("it was given up, for what was found meanwhile")]
    Unwanted,
    /// Writes can't be tracked here.
    #[error("writes of this process can't be tracked, which precopy needs; try fork or freeze")]
    NoTracking,
    /// The memory could not be looked at.
    #[error("{step} failed: {source}")]
    Space {
        /// What was done.
        step: &'static str,
        /// Why it failed.
        source: Errno,
    },
    /// The sink refused a page.
    #[error("what was read could not be kept: {0}")]
    Sink(#[source] E),
}

impl<E> SnapshotError<E> {
    /// Makes the error of a step that the memory answered with `errno`.
    pub(crate) fn space(step: &'static str, errno: Errno) -> Self {
        if errno == Errno::ESRCH {
            Self::Gone
        } else {
            Self::Space {
                step,
                source: errno,
            }
        }
    }
}
