//! A process, opened to take snapshots of it.

use std::time::Duration;

use engine::{Costs, Strategy, Tracker};
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
    /// The longest that stopping its tasks may take, and attaching to it as a whole: a task may wait
    /// in the kernel where nothing interrupts it, and the others stand still meanwhile. What is longer
    /// at times: a thread that was made to call the kernel is waited for until it is back where it was
    /// (a warning tells), and new mappings may take up to a second to register. With a longest freeze
    /// in [`SnapshotOptions`], that is the limit in the freeze, if it is shorter.
    pub stop_limit: Duration,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            tracking: Tracking::Best,
            stop_limit: sys::STOP_LIMIT,
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
    pub(crate) options: SessionOptions,
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
        target.set_stop_limit(options.stop_limit);
        let started_ticks = started(&target)?;
        let costs = Costs::new(target.page_size());
        let mut session = Self {
            target,
            tracker: Tracker::new(),
            costs,
            last: None,
            untracked: None,
            options,
            started_ticks,
        };
        session.track()?;
        Ok(session)
    }

    /// Has the writes tracked, if that is wished for; where it can't be, `untracked` tells why.
    fn track(&mut self) -> Result<(), Error> {
        let wish = match self.options.tracking {
            Tracking::Best => TrackWish::Best,
            Tracking::SoftDirty => TrackWish::SoftDirty,
            Tracking::Off => return Ok(()),
        };
        self.untracked = match self.target.attach(wish, self.options.stop_limit) {
            Ok(()) => None,
            Err(late) if late.is_late() => Some(late),
            Err(TrackError::Stop(source)) => {
                let pid = self.pid();
                return Err(Error::Stop { pid, source });
            }
            Err(source) => Some(source),
        };
        Ok(())
    }

    /// Tries again to have the writes tracked where there was too little time for it.
    ///
    /// A task that waits where nothing interrupts it would keep a freeze from being, too.
    fn track_again(&mut self, options: &SnapshotOptions) -> Result<(), Error> {
        let whole = matches!(options.strategy, Strategy::Fork | Strategy::Freeze);
        let is_late = self.untracked.as_ref().is_some_and(TrackError::is_late);
        if !is_late || whole && !options.more_follow {
            return Ok(());
        }
        self.track()?;
        match &self.untracked {
            Some(TrackError::Stop(source)) if source.is_uninterruptible() => Err(Error::Stop {
                pid: self.pid(),
                source: source.clone(),
            }),
            Some(late) if late.is_late() && options.strategy == Strategy::Precopy => {
                Err(Error::Track {
                    pid: self.pid(),
                    source: late.clone(),
                })
            }
            _ => Ok(()),
        }
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

    /// Returns why writes are not tracked, where that was wished for and failed. Where it was only the
    /// time that was too short, it is tried again with each snapshot.
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
            Error::Stop {
                source: sys::StopError::Gone { .. },
                ..
            } => true,
            _ => false,
        };
        let tracked = self.track_again(options);
        match tracked.and_then(|()| snapshot::take(self, store, options, observer)) {
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
