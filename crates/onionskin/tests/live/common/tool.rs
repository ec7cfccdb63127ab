//! The facade, as the tests use it.

use std::time::{Duration, Instant};

use onionskin::report::SnapshotReport;
use onionskin::{
    Access, Error, Observer, Selection, Session, SessionOptions, Silent, Snapshot, SnapshotOptions,
    Store, Strategy, Tracking,
};
use sys::TrackError;
use tempfile::TempDir;

use super::pages::Pages;
use super::skip::{skip, skip_part};
use super::{scratch_dir, target::Target};

/// The strategies that a user can ask for.
pub(crate) const STRATEGIES: [Strategy; 3] = [Strategy::Precopy, Strategy::Fork, Strategy::Freeze];

/// A process under work, with a store of its own.
pub(crate) struct Tool {
    session: Session,
    store: Store,
    directory: TempDir,
}

/// Makes a directory that is removed in the end, where there is much room, or at least some.
pub(crate) fn temporary_directory() -> TempDir {
    tempfile::tempdir_in(scratch_dir())
        .or_else(|_| tempfile::tempdir())
        .expect("a directory can be made somewhere")
}

impl Tool {
    /// Opens the process that a target names.
    pub(crate) fn on(target: &Target) -> Self {
        Self::attach(target.pid()).unwrap_or_else(|error| panic!("attach: {}", chain(&error)))
    }

    /// Opens a process.
    pub(crate) fn attach(pid: u32) -> Result<Self, Error> {
        Self::attach_with(pid, session_options())
    }

    /// Opens a process and tracks its writes by soft-dirty bits; an error tells why that can't be.
    pub(crate) fn by_soft_dirty(target: &Target) -> Result<Self, String> {
        let options = SessionOptions {
            tracking: Tracking::SoftDirty,
            ..session_options()
        };
        let tool = Self::attach_with(target.pid(), options);
        let tool = tool.unwrap_or_else(|error| panic!("attach: {}", chain(&error)));
        match tool.lacks(Strategy::Precopy) {
            None => Ok(tool),
            Some(why) => Err(why),
        }
    }

    /// Opens a process in a way of one's own.
    pub(crate) fn attach_with(pid: u32, options: SessionOptions) -> Result<Self, Error> {
        let directory = temporary_directory();
        let session = Session::attach(pid, options)?;
        let address = directory
            .path()
            .to_str()
            .expect("a path of text")
            .to_owned()
            + "/store";
        let store = Store::open(&address, Access::Create).expect("an empty directory");
        Ok(Self {
            session,
            store,
            directory,
        })
    }

    /// Takes a snapshot with the default options; more may follow.
    pub(crate) fn take(&mut self, strategy: Strategy) -> Result<(SnapshotReport, Snapshot), Error> {
        self.take_with(&SnapshotOptions {
            strategy,
            more_follow: true,
            ..Default::default()
        })
    }

    /// Takes a snapshot.
    pub(crate) fn take_with(
        &mut self,
        options: &SnapshotOptions,
    ) -> Result<(SnapshotReport, Snapshot), Error> {
        self.take_observed(options, &mut Silent)
    }

    /// Takes a snapshot while somebody looks on.
    pub(crate) fn take_observed(
        &mut self,
        options: &SnapshotOptions,
        observer: &mut dyn Observer,
    ) -> Result<(SnapshotReport, Snapshot), Error> {
        let report = self.session.snapshot(&self.store, options, observer)?;
        let snapshot = self
            .store
            .load(&report.snapshot)
            .expect("it was just stored");
        Ok((report, snapshot))
    }

    /// Takes a snapshot that must come about.
    pub(crate) fn must(&mut self, options: &SnapshotOptions) -> (SnapshotReport, Snapshot) {
        self.take_with(options)
            .unwrap_or_else(|error| panic!("{:?}: {}", options.strategy, chain(&error)))
    }

    /// Tells whether this machine and process have what one of a test's strategies needs; where not,
    /// that part of the test is skipped.
    pub(crate) fn can(&self, strategy: Strategy) -> bool {
        let lacks = self.lacks(strategy);
        if let Some(why) = &lacks {
            skip_part(strategy.name(), why);
        }
        lacks.is_none()
    }

    /// Tells the same where the test is about this strategy: without it, all of it is skipped.
    pub(crate) fn can_test(&self, strategy: Strategy) -> bool {
        let lacks = self.lacks(strategy);
        if let Some(why) = &lacks {
            skip(why);
        }
        lacks.is_none()
    }

    /// Tells what a strategy lacks here.
    fn lacks(&self, strategy: Strategy) -> Option<String> {
        match (strategy, self.session.untracked()) {
            (Strategy::Precopy, Some(error)) => Some(format!("writes can't be tracked: {error}")),
            _ => None,
        }
    }

    /// Tells whether writes are tracked.
    pub(crate) fn tracks(&self) -> bool {
        self.session.untracked().is_none()
    }

    /// Tells whether the kernel has no way at all to track writes, whatever process it is.
    pub(crate) fn kernel_tracks_nothing(&self) -> bool {
        matches!(self.session.untracked(), Some(TrackError::NoWay))
    }

    /// Returns how many snapshots there are.
    pub(crate) fn stored(&self) -> usize {
        self.store
            .list()
            .expect("the store is our own")
            .snapshots
            .len()
    }

    /// Returns the directory that is removed in the end.
    pub(crate) fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }
}

/// How a process is opened: on a slow machine there is more time for it.
fn session_options() -> SessionOptions {
    let default = SessionOptions::default();
    SessionOptions {
        stop_limit: default.stop_limit * if is_slow() { SLOW_FACTOR } else { 1 },
        ..default
    }
}

/// Options for a snapshot after which more follow.
pub(crate) fn ask(strategy: Strategy) -> SnapshotOptions {
    SnapshotOptions {
        strategy,
        more_follow: true,
        ..Default::default()
    }
}

/// Options for a snapshot of all readable memory.
pub(crate) fn ask_all(strategy: Strategy) -> SnapshotOptions {
    SnapshotOptions {
        selection: Some(Selection::All),
        ..ask(strategy)
    }
}

/// Returns a reader of a snapshot's pages.
pub(crate) fn pages_of(snapshot: &Snapshot) -> Pages<'_> {
    Pages::new(snapshot, snapshot.page_size())
}

/// Returns an error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Rounds of each kind on a slow machine, and how much more time there is for them.
const SLOW_ROUNDS: u32 = 6;
const SLOW_FACTOR: u32 = 10;

/// Tells whether `ONIONSKIN_SLOW` says that this machine is slow: emulated, for one.
pub(crate) fn is_slow() -> bool {
    std::env::var_os("ONIONSKIN_SLOW").is_some()
}

/// How much later than it asked for a wait of `blocked` may end, in milliseconds.
pub(crate) fn slack_ms() -> &'static str {
    if is_slow() { "40000" } else { "4000" }
}

/// How many rounds must fit into the time: fewer where fewer are made.
pub(crate) fn rounds_min(count: u32) -> u32 {
    if is_slow() {
        count.min(SLOW_ROUNDS)
    } else {
        count
    }
}

/// Counts up to a number of rounds for which there is time.
pub(crate) fn rounds(count: u32, time: Duration) -> impl Iterator<Item = u32> {
    let (count, time) = if is_slow() {
        (count.min(SLOW_ROUNDS), time * SLOW_FACTOR)
    } else {
        (count, time)
    };
    let until = Instant::now() + time;
    (0..count).take_while(move |_| Instant::now() < until)
}
