//! What can go wrong.

use engine::{SnapshotError, WatchError};
use space::Errno;
use store::{ReadError, WriteError};
use sys::{InjectError, OpenError, StopError, TrackError};

use crate::report::Doubt;

/// Why something could not be done. The process goes on as before in every case but
/// [`StopError::Executing`], which says what may stand still.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The process can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its writes can't be tracked.
    #[error("the writes of process {pid} can't be tracked")]
    Track {
        /// The process.
        pid: u32,
        /// Why.
        #[source]
        source: TrackError,
    },
    /// Its writes could not be watched.
    #[error("process {pid} can't be watched")]
    Watch {
        /// The process.
        pid: u32,
        /// Why.
        #[source]
        source: WatchError,
    },
    /// No snapshot was taken.
    #[error("no snapshot of process {pid} was taken")]
    Snapshot {
        /// The process.
        pid: u32,
        /// Why.
        #[source]
        source: SnapshotError<WriteError>,
    },
    /// Its tasks could not be stopped.
    #[error("process {pid} could not be stopped")]
    Stop {
        /// The process.
        pid: u32,
        /// Why.
        #[source]
        source: StopError,
    },
    /// It could not be made to fork.
    #[error("process {pid} can't be made to fork; use --strategy precopy or freeze")]
    Fork {
        /// The process.
        pid: u32,
        /// Why.
        #[source]
        source: InjectError,
    },
    /// The store did not take it.
    #[error("the snapshot of process {pid} could not be kept")]
    Write {
        /// The process.
        pid: u32,
        /// Why.
        #[source]
        source: WriteError,
    },
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What is known of the process could not be read.
    #[error("process {pid} can't be looked at")]
    Process {
        /// The process.
        pid: u32,
        /// Why.
        #[source]
        source: sys::procfs::ProcfsError,
    },
    /// It ended.
    #[error("process {0} has ended")]
    Ended(u32),
    /// Not all of its memory can be proven to be of one instant, and that was asked for.
    #[error(transparent)]
    Refused(#[from] RefusedError),
    /// A file is in the way.
    #[error("{0} exists already: remove it or choose another name")]
    Exists(String),
    /// A file could not be written.
    #[error("{path} can't be written")]
    Export {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// Tells whether the same may go well a moment later: a task was busy in the kernel, a promise
    /// could not be kept just then, somebody else traced the process. What can't pass is a process
    /// that is gone, one that does not allow it, or a store that is no good.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Refused(_) => true,
            Self::Snapshot { source, .. } => snapshot_may_pass(source),
            Self::Stop { source, .. } => match source {
                StopError::TimedOut { .. }
                | StopError::Executing { .. }
                | StopError::Vfork { .. } => true,
                StopError::Refused { tracer, .. } => *tracer != 0,
                StopError::Failed { errno, .. } => is_busy(*errno),
                _ => false,
            },
            Self::Fork { source, .. } => match source {
                InjectError::NoTask | InjectError::TimedOut(_) => true,
                InjectError::Failed(errno) => is_busy(*errno),
                _ => false,
            },
            Self::Track { source, .. } => source.is_late(),
            Self::Open(OpenError::Traced { .. } | OpenError::Vfork { .. }) => true,
            Self::Write { source, .. } => write_may_pass(source),
            _ => false,
        }
    }

    /// Tells whether the process has ended, so that nothing more can come of it.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Ended(_) | Self::Open(OpenError::NoProcess(_) | OpenError::Zombie(_)) => true,
            Self::Snapshot { source, .. } => matches!(source, SnapshotError::Gone),
            Self::Stop { source, .. } => matches!(source, StopError::Gone { .. }),
            Self::Fork { source, .. } => matches!(source, InjectError::Died),
            Self::Process { source, .. } => source.errno() == Errno::ESRCH,
            _ => false,
        }
    }
}

fn snapshot_may_pass(error: &SnapshotError<WriteError>) -> bool {
    match error {
        SnapshotError::StopTimeout { .. }
        | SnapshotError::StepTimeout { .. }
        | SnapshotError::MaxFreeze { .. }
        | SnapshotError::TwinIncomplete
        | SnapshotError::Unwanted => true,
        SnapshotError::Stop(errno)
        | SnapshotError::Fork(errno)
        | SnapshotError::Space { source: errno, .. } => is_busy(*errno),
        SnapshotError::Sink(error) => write_may_pass(error),
        _ => false,
    }
}

fn write_may_pass(error: &WriteError) -> bool {
    matches!(error, WriteError::LeaseLost(_))
}

fn is_busy(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EAGAIN | Errno::EBUSY | Errno::EINTR | Errno::ENOMEM | Errno::ETIMEDOUT
    )
}

/// Why a snapshot was refused that had to be proven.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no snapshot of process {pid} was kept: it can't be proven to be of one instant ({}); without \
     --strict it is kept, with these doubts written down", list(.doubts)
)]
pub struct RefusedError {
    /// The process.
    pub pid: u32,
    /// What is in doubt.
    pub doubts: Vec<Doubt>,
}

fn list(doubts: &[Doubt]) -> String {
    let reasons: Vec<&str> = doubts.iter().map(|doubt| doubt.reason.as_str()).collect();
    reasons.join("; ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn snapshot(source: SnapshotError<WriteError>) -> Error {
        Error::Snapshot { pid: 7, source }
    }

    #[test]
    fn what_is_busy_may_pass_and_what_is_gone_may_not() {
        let limit = Duration::from_millis(1);
        let promise = snapshot(SnapshotError::MaxFreeze {
            reason: "copying".into(),
            measured: limit * 2,
            limit,
        });
        let busy = Error::Stop {
            pid: 7,
            source: StopError::TimedOut {
                tid: 7,
                limit,
                state: sys::procfs::RunState::Uninterruptible,
                wchan: String::new(),
            },
        };
        let doubts = Vec::new();
        for error in [promise, busy, RefusedError { pid: 7, doubts }.into()] {
            assert!(error.may_pass() && !error.is_over(), "{error}");
        }
        for error in [Error::Ended(7), snapshot(SnapshotError::Gone)] {
            assert!(error.is_over() && !error.may_pass(), "{error}");
        }
        let name = WriteError::Name("a b".into());
        for error in [
            snapshot(SnapshotError::NoTracking),
            snapshot(SnapshotError::Sink(WriteError::Random)),
            snapshot(SnapshotError::Space {
                step: "looking",
                source: Errno::EFAULT,
            }),
            Error::Write {
                pid: 7,
                source: name,
            },
        ] {
            assert!(!error.may_pass() && !error.is_over(), "{error}");
        }
    }
}
