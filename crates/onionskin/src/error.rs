//! What can go wrong.

use engine::{SnapshotError, WatchError};
use store::{ReadError, WriteError};
use sys::{InjectError, OpenError, StopError, TrackError};

use crate::report::Doubt;

/// Why something could not be done. The process goes on as before in every case.
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
