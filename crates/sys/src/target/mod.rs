//! A live process as the engine sees it: its memory and its tasks.

mod absent;
mod error;
mod freeze;
mod layout;
mod memory;
mod open;
mod register;
mod scanner;
mod track;
mod twin;
mod view;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::space::{Errno, PageRange, StopLength, TaskState, Tracking};

pub use error::{LateRegistration, OpenError, TrackError};
pub use track::{LateCall, TrackWish};
pub use twin::Twin;

use crate::arch::Gadgets;
use crate::inject::{Child, InjectError};
use crate::memory::SharedFiles;
use crate::procfs::Process;
use crate::task::{Interrupted, Sharers, StopError, Tracer};
use track::Track;
use view::View;

/// How long the full look of attaching serves the first snapshot.
const ATTACHED_FOR: Duration = Duration::from_millis(50);

/// The longest that stopping a process, or having it make a call, takes where nobody asked for
/// something else. Tasks stop in much less than a millisecond; one that does not is not waited for
/// while the others stand still.
pub const STOP_LIMIT: Duration = Duration::from_millis(250);

/// How long to let a process run that could not be stopped in time, before the next attempt.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// A live process.
///
/// Opening it touches nothing; [`attach`](Self::attach) makes its writes tracked. Dropping it
/// leaves the process as it would be without us.
#[derive(Debug)]
pub struct Target {
    pid: u32,
    /// A task that has the memory: the first one may have ended before the others.
    memory_task: u32,
    process: Process,
    pidfd: OwnedFd,
    view: View,
    files: Arc<SharedFiles>,
    track: Track,
    /// Whether anything was registered for tracking yet.
    registered: bool,
    /// Whether a scan of tracked memory reports what is not there as written.
    absent_is_written: bool,
    /// When attaching looked at all that [`refresh`](Self::refresh) looks at.
    attached: Option<Instant>,
    gadgets: Option<Gadgets>,
    /// Pages of the main stack that held frames for injected calls, and will again.
    scratch: Option<PageRange>,
    sharers: Sharers,
    interrupted: Interrupted,
    /// Ended duplicates that the process has not taken note of, also those of a tool that was killed.
    unreaped: Vec<Child>,
    stopped: Option<Arc<Tracer>>,
    stop_error: Option<StopError>,
    inject_error: Option<InjectError>,
    stops: Vec<StopLength>,
    /// The longest that a stop outside of a freeze may last.
    stop_limit: Duration,
    /// A task that made calls although it would have lost its wait had we died.
    risked_wait: Option<u32>,
    late_call: Option<LateCall>,
    /// Why not all could be registered since the last look at everything.
    late_registration: Option<LateRegistration>,
}

impl Target {
    /// Returns the process's id in our pid namespace.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns its directory in `/proc`.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Returns a descriptor of the process, to wait for its end.
    pub fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    /// Tells whether the process has not ended.
    pub fn is_alive(&self) -> bool {
        let mut polled = [rustix::event::PollFd::new(
            &self.pidfd,
            rustix::event::PollFlags::IN,
        )];
        let now = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        !matches!(rustix::event::poll(&mut polled, Some(&now)), Ok(1..))
    }

    /// Stops all tasks.
    fn stop_tasks(&mut self, limit: Duration) -> Result<Tracer, StopError> {
        let tracer = Tracer::stop(&mut self.sharers, &self.interrupted, limit)?;
        // Else its id may be another's, who is let go at once.
        if self.is_alive() {
            Ok(tracer)
        } else {
            Err(StopError::Gone { pid: self.pid })
        }
    }

    /// Returns why the last stop failed, in words; [`::space::Freeze`] tells only a number.
    pub fn stop_error(&self) -> Option<&StopError> {
        self.stop_error.as_ref()
    }

    /// Returns why the process could not be made to call the kernel the last time, in words.
    pub fn inject_error(&self) -> Option<&InjectError> {
        self.inject_error.as_ref()
    }

    /// Forgets both: what went wrong earlier says nothing of what goes wrong from now on.
    pub fn forget_errors(&mut self) {
        self.stop_error = None;
        self.inject_error = None;
    }

    /// Tells whether since the last call a wait was interrupted that can't carry along when it began:
    /// it ends in time as long as this target is kept, but the next one begins it anew.
    pub fn take_waits_remembered(&mut self) -> bool {
        self.interrupted.waits().take_any()
    }

    /// Sets the longest that each stop outside of a freeze may take: for attaching, registering, or
    /// taking note of a duplicate's end. [`STOP_LIMIT`] at first. Registering has a second at least once
    /// all tasks stand still, and a call that was begun is brought to its end.
    pub fn set_stop_limit(&mut self, limit: Duration) {
        self.stop_limit = limit;
    }

    /// Returns a task that was made to call the kernel since the last call of this although it waited
    /// in one that only `restart_syscall` continues, since no other could: had we been killed just
    /// then, that wait would have ended with `EINTR`.
    pub fn take_risked_wait(&mut self) -> Option<u32> {
        self.risked_wait.take()
    }

    /// Returns what took longer since the last call of this than the process was to stand still: a task
    /// that makes calls for us is brought back whole before it is let go, whatever was promised.
    pub fn take_late_call(&mut self) -> Option<LateCall> {
        self.late_call.take()
    }

    /// Returns why some memory could not be registered for tracking since the last
    /// [`refresh`](Self::refresh), if it was for the time that it would have taken.
    pub fn late_registration(&self) -> Option<&LateRegistration> {
        self.late_registration.as_ref()
    }

    /// Returns the stops for attaching and the like since the last call.
    pub fn take_stops(&mut self) -> Vec<StopLength> {
        std::mem::take(&mut self.stops)
    }

    /// Looks at all again that is too dear for a freeze: the flags of all mappings, the files
    /// behind shared memory, the processes that share the memory. To be called before each
    /// snapshot.
    ///
    /// # Errors
    ///
    /// [`Errno::ESRCH`] where the memory is gone.
    pub fn refresh(&mut self) -> Result<(), Errno> {
        self.late_registration = None;
        // Attaching may just have done so: a walk through all page tables.
        if (self.attached.take()).is_some_and(|then| then.elapsed() < ATTACHED_FOR) {
            return Ok(());
        }
        self.view
            .layout
            .refresh(&self.process, self.view.page_size)?;
        self.sharers =
            Sharers::find(self.pid, self.memory_task).map_err(|error| self.keep(error.into()))?;
        self.interrupted.filtered = crate::task::proc::is_filtered(self.pid);
        let mappings = ::space::AddressSpace::mappings(self)?;
        self.files = Arc::new(SharedFiles::open(self.pid, &mappings, &self.files));
        self.view.reader.use_files(Arc::clone(&self.files));
        // Where there are none, an injection says so.
        _ = self.find_gadgets();
        if !self.unreaped.is_empty()
            && let Ok(stop) = self.reap_all()
        {
            self.stops.push(stop);
        }
        Ok(())
    }

    /// Looks at the mappings again for somebody who only watches: a full look, as
    /// [`refresh`](Self::refresh) takes it, walks all page tables for `smaps`, so it is taken only where
    /// there are mappings that the last one has not shown, or where looks need the tasks to be stopped. What `madvise` changes of a known mapping is not seen: it makes no difference
    /// to what is written, only to what a fork is forecast to take.
    ///
    /// # Errors
    ///
    /// As [`refresh`](Self::refresh).
    pub fn refresh_if_new(&mut self) -> Result<(), Errno> {
        self.late_registration = None;
        // Children that a killed tool left behind are reaped by the full one.
        if self.unreaped.is_empty()
            && ::space::AddressSpace::tracking(self) == Tracking::WriteProtect
        {
            let mappings = ::space::AddressSpace::mappings(self)?;
            if mappings.iter().all(|it| self.view.layout.knows(it)) {
                return Ok(());
            }
        }
        self.refresh()
    }

    /// Closes the files behind shared memory, which would keep what the process has deleted.
    pub fn release_files(&mut self) {
        self.files = Arc::default();
        self.view.reader.use_files(Arc::clone(&self.files));
    }

    /// Fills in what [`::space::Freeze::tasks`] leaves out since nobody needs it to the instant:
    /// the names and times of tasks.
    pub fn describe(&self, tasks: &mut [TaskState]) {
        tasks.iter_mut().for_each(crate::task::describe);
    }
}
