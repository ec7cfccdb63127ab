//! A process, opened to take snapshots of it.

use std::time::Duration;

use engine::{Costs, Tracker};
use space::AddressSpace;
use store::SnapshotId;
use sys::{Target, TrackError, TrackWish};

use crate::doubts;
use crate::error::Error;
use crate::report::SnapshotReport;
use crate::snapshot::{self, Observer, SnapshotOptions};
use crate::store::Store;

/// Whether and how the process's writes are tracked between freezes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tracking {
    /// The best way that works; without any, snapshots are still possible by `fork` and `freeze`.
    #[default]
    Best,
    /// Soft-dirty bits, even where there is better.
    SoftDirty,
    /// Not at all: nothing is touched before the freeze.
    Off,
}

/// How a process is worked on.
#[derive(Clone, Copy, Debug)]
pub struct SessionOptions {
    /// Whether its writes are tracked.
    pub tracking: Tracking,
    /// The longest that attaching may stop it.
    pub stop_limit: Duration,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            tracking: Tracking::Best,
            stop_limit: Duration::from_secs(5),
        }
    }
}

/// A process, opened to take snapshots of it.
///
/// Between snapshots it runs untraced. Dropping the session leaves it as it would be without.
#[derive(Debug)]
pub struct Session {
    pub(crate) target: Target,
    pub(crate) tracker: Tracker,
    pub(crate) costs: Costs,
    pub(crate) last: Option<SnapshotId>,
    pub(crate) untracked: Option<TrackError>,
    options: SessionOptions,
    started_ticks: u64,
}

impl Session {
    /// Opens process `pid`, and has its writes tracked if `options` say so: that stops it for a
    /// moment.
    ///
    /// # Errors
    ///
    /// [`Error::Open`] where it can't be worked on at all; nothing was touched.
    pub fn attach(pid: u32, options: SessionOptions) -> Result<Self, Error> {
        let mut target = Target::open(pid)?;
        let wish = match options.tracking {
            Tracking::Best => Some(TrackWish::Best),
            Tracking::SoftDirty => Some(TrackWish::SoftDirty),
            Tracking::Off => None,
        };
        let untracked = match wish.map(|wish| target.attach(wish, options.stop_limit)) {
            None | Some(Ok(())) => None,
            Some(Err(TrackError::Stop(source))) => return Err(Error::Stop { pid, source }),
            Some(Err(source)) => Some(source),
        };
        let started_ticks = started(&target)?;
        let costs = Costs::new(target.page_size());
        Ok(Self {
            target,
            tracker: Tracker::new(),
            costs,
            last: None,
            untracked,
            options,
            started_ticks,
        })
    }

    /// Tells, without touching the process, whether a snapshot with these options would be refused
    /// for what is known already: one that is strict, of a process whose memory devices or others
    /// may write unseen.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if so.
    pub fn foresee(pid: u32, options: &SnapshotOptions) -> Result<(), Error> {
        doubts::foresee(pid, options)
    }

    /// Returns the process's id.
    pub fn pid(&self) -> u32 {
        self.target.pid()
    }

    /// Returns why writes are not tracked, where that was wished for and failed.
    pub fn untracked(&self) -> Option<&TrackError> {
        self.untracked.as_ref()
    }

    /// Takes a snapshot. In a session whose writes are tracked, each but the first is a layer on
    /// the one before: it reads and stores only what was written since.
    ///
    /// A process that has called `execve` since is opened anew, and the snapshot is a whole one.
    ///
    /// # Errors
    ///
    /// See [`Error`]. There is no snapshot then, the process runs, and the session can go on.
    pub fn snapshot(
        &mut self,
        store: &Store,
        options: &SnapshotOptions,
        observer: &mut dyn Observer,
    ) -> Result<SnapshotReport, Error> {
        // The memory is gone, or the task through which it was looked at.
        let gone = |error: &Error| match error {
            Error::Ended(_)
            | Error::Snapshot {
                source: engine::SnapshotError::Gone,
                ..
            } => true,
            Error::Process { source, .. } => source.errno() == space::Errno::ESRCH,
            _ => false,
        };
        match snapshot::take(self, store, options, observer) {
            Err(error) if gone(&error) && self.runs_another_program() => {
                *self = Self::attach(self.pid(), self.options)?;
                snapshot::take(self, store, options, observer)
            }
            taken => taken,
        }
    }

    /// Forgets what was taken so far: the next snapshot is a whole one.
    pub(crate) fn start_over(&mut self) {
        self.tracker = Tracker::new();
        self.last = None;
    }

    /// Tells whether the process is the one that was opened, with other memory.
    fn runs_another_program(&self) -> bool {
        started(&self.target).is_ok_and(|ticks| ticks == self.started_ticks)
    }
}

/// When the process started: with its id, a name that no other has.
fn started(target: &Target) -> Result<u64, Error> {
    let pid = target.pid();
    sys::procfs::Process::open(pid)
        .and_then(|process| process.stat())
        .map(|stat| stat.start_ticks)
        .map_err(|source| Error::Process { pid, source })
}
