//! One task made to call the kernel.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use space::{Errno, Mapping, PageSize, Vaddr};

use super::candidate;
use super::fork::WALL;
use super::scratch::{self, Scratch};
use super::seccomp::{self, Purpose};
use crate::arch::{Extended, Gadgets, Reentry, Registers, call, frame, reentry};
use crate::raw::{self, ptrace};
use crate::seccomp::Reason;
use crate::task::{CALL_STOP, EVENT_STOP, Stopped, Task, read_general, wait_stop, write_general};

/// `PTRACE_O_SUSPEND_SECCOMP`.
const SUSPEND_SECCOMP: i32 = 1 << 21;
/// How long a task may take to the end of a call that it has begun, whatever was allowed for beginning
/// it: in a call that was given up, a descriptor or a child would be lost.
const CALL_LIMIT: Duration = Duration::from_secs(5);
/// How long a task may take back to where it was, and to a stop where its call came too late: it runs a
/// few instructions for that, and is worth waiting for. After that it goes back by its frame.
const BACK_LIMIT: Duration = Duration::from_secs(5);
/// The frames of one injection stand this far apart.
const FRAME_STEP: u64 = frame::BARE_LEN.next_multiple_of(64);

/// Why a process can't be made to make a call. It goes on as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InjectError {
    /// No task stands where it may be diverted.
    #[error(
        "no task of the process can make a call just now: each is about to take a signal, within \
         a restartable sequence, or has its calls dispatched to itself: try again, or use --strategy \
         freeze, which makes it call nothing"
    )]
    NoTask,
    /// No dead memory for the safety frame.
    #[error(
        "the main stack has no unused space for the frame that protects an injected call: \
             use --strategy freeze, which makes it call nothing"
    )]
    NoScratch,
    /// The code that the call would run through is not there.
    #[error(
        "the process has no code that makes a call and returns from a signal: use \
             --strategy freeze, which makes it call nothing"
    )]
    NoGadgets,
    /// A seccomp filter forbids it.
    #[error("{0}")]
    Seccomp(Reason),
    /// The task died in the call.
    #[error("the task died while it made the call")]
    Died,
    /// The calls took too long.
    #[error(
        "the process did not get through the calls that it was to make within {0:.1?}; it goes on: try \
         again when the machine is less busy, or allow more time"
    )]
    TimedOut(Duration),
    /// A step failed.
    #[error("making the process call the kernel failed: {0}")]
    Failed(Errno),
}

impl From<Errno> for InjectError {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno)
    }
}

/// What an injection needs to know of the stopped process.
#[derive(Clone, Debug)]
pub(crate) struct Site<'a> {
    pub(crate) pid: u32,
    pub(crate) mappings: &'a [Mapping],
    pub(crate) pagemap: BorrowedFd<'a>,
    pub(crate) page_size: PageSize,
    pub(crate) gadgets: Gadgets,
    /// Where the frames lay the last time.
    pub(crate) earlier: Option<Vaddr>,
    /// What the calls are for.
    pub(crate) purpose: Purpose,
    /// How long all that is to be made was to take.
    pub(crate) limit: Duration,
    /// When that time is over, if ever: no call is begun after that.
    pub(crate) until: Option<Instant>,
}

/// Addresses of the frames of one injection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frames {
    /// Waits for the child, then goes to `original`.
    pub(super) wait: Vaddr,
    /// Ends a child.
    pub(super) exit: Vaddr,
    /// Brings the task back to where it was.
    pub(super) original: Vaddr,
}

/// A task that makes calls. Its registers, signal mask and memory are as before when this is
/// dropped.
#[derive(Debug)]
pub(crate) struct Caller<'a> {
    site: Site<'a>,
    pub(super) task: Task,
    saved: Registers,
    extended: Extended,
    /// How the task comes back into the call that it was interrupted in, if that takes more than
    /// its registers.
    reentry: Option<Reentry>,
    mask: u64,
    scratch: Option<Scratch>,
    pub(super) frames: Frames,
    suspend_seccomp: bool,
    /// Whether the frame would bring the task back to less than it had: its call would be over.
    risks_wait: bool,
    diverted: bool,
    /// Whether it was let run a step and has not stopped since, as far as we know.
    runs: bool,
    /// A stop signal came while the task made calls; it can't be blocked, and is sent again.
    stop_signal: bool,
    /// Whether it was tried to bring the task back.
    tried_back: bool,
}

/// Whether the calls of each purpose could be made, or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rehearsed {
    /// To have writes tracked.
    pub(crate) track: Result<(), InjectError>,
    /// To make a duplicate.
    pub(crate) fork: Result<(), InjectError>,
    /// To take note of a duplicate's end.
    pub(crate) reap: Result<(), InjectError>,
}

/// Tells whether one of the stopped tasks could make the calls of each purpose, and makes none.
pub(crate) fn rehearse(pid: u32, gadgets: Gadgets, stopped: &Stopped) -> Rehearsed {
    let task = candidate::pick(pid, stopped).ok_or(InjectError::NoTask);
    let plan = |purpose| {
        let (task, registers) = task?;
        let reentry = reentry(task.tid, &registers);
        seccomp::plan(task, purpose, gadgets.call, reentry.as_ref()).map(drop)
    };
    Rehearsed {
        track: plan(Purpose::Track),
        fork: plan(Purpose::Fork),
        reap: plan(Purpose::Reap),
    }
}

impl<'a> Caller<'a> {
    /// Picks a task and prepares its way back.
    pub(crate) fn begin(site: Site<'a>, stopped: &Stopped) -> Result<Self, InjectError> {
        let (task, saved) = candidate::pick(site.pid, stopped).ok_or(InjectError::NoTask)?;
        if !site.gadgets.hold(task.tid) {
            return Err(InjectError::NoGadgets);
        }
        let reentry = reentry(task.tid, &saved);
        let gadget = site.gadgets.call;
        let suspend_seccomp = seccomp::plan(task, site.purpose, gadget, reentry.as_ref())?;
        stopped.interrupted.waits().ran(task.tid);
        let mask = ptrace::signal_mask(task.tid)?;
        let extended = Extended::read(task.tid)?;
        let pointers: Vec<Vaddr> = stopped
            .tasks
            .iter()
            .filter_map(|task| Some(read_general(task.tid).ok()?.stack_pointer()))
            .collect();
        let len = 2 * FRAME_STEP + frame::BARE_LEN + extended.frame_len_max();
        let start = scratch::find(
            site.mappings,
            site.pagemap,
            site.page_size,
            &pointers,
            site.earlier,
            len,
        )
        .ok_or(InjectError::NoScratch)?;
        let frames = Frames {
            wait: start,
            exit: Vaddr(start.0 + FRAME_STEP),
            original: Vaddr(start.0 + 2 * FRAME_STEP),
        };
        let bytes = lay_out(&site, frames, &saved, mask, &extended);
        let scratch = Some(Scratch::write(task.tid, start, &bytes)?);
        let mut caller = Self {
            site,
            task,
            saved,
            extended,
            reentry,
            mask,
            scratch,
            frames,
            suspend_seccomp,
            risks_wait: saved.needs_restart_block(task.tid),
            diverted: false,
            runs: false,
            stop_signal: false,
            tried_back: false,
        };
        caller.set_options(0)?;
        Ok(caller)
    }

    /// Returns the task.
    pub(crate) fn tid(&self) -> u32 {
        self.task.tid
    }

    /// Returns the memory that holds the frames.
    pub(crate) fn frames(&self) -> Option<(Vaddr, u64)> {
        self.scratch.as_ref().map(Scratch::place)
    }

    /// Returns the task, if it waits in a call that only ptrace brings it back to.
    pub(crate) fn risked_wait(&self) -> Option<u32> {
        self.risks_wait.then_some(self.task.tid)
    }

    /// Makes one call and returns what the kernel answered (a negative error number included). It
    /// is not begun when the time is over; one that was begun is waited for to its end.
    pub(crate) fn call(&mut self, number: u64, args: [u64; 6]) -> Result<i64, InjectError> {
        if self.left().is_zero() {
            return Err(self.timed_out());
        }
        self.make(number, args)
    }

    /// Has the task close a descriptor that a call of ours made, however late it is.
    pub(crate) fn close(&mut self, fd: u32) -> Result<(), InjectError> {
        self.make(call::CLOSE, [u64::from(fd), 0, 0, 0, 0, 0])?;
        Ok(())
    }

    fn make(&mut self, number: u64, args: [u64; 6]) -> Result<i64, InjectError> {
        let stack = self.frames.original;
        self.enter(stack, number, args)?;
        self.step()?;
        Ok(read_general(self.task.tid)?.result())
    }

    /// Returns a duplicate of descriptor `fd` of the task.
    pub(crate) fn descriptor(&self, fd: i32) -> Result<OwnedFd, Errno> {
        raw::process::descriptor_of(self.task.pid, self.task.tid, fd)
    }

    /// Sets ptrace options beside those that every injection has.
    pub(super) fn set_options(&mut self, more: i32) -> Result<(), InjectError> {
        let suspend = if self.suspend_seccomp {
            SUSPEND_SECCOMP
        } else {
            0
        };
        let options = libc::PTRACE_O_TRACESYSGOOD | suspend | more;
        Ok(ptrace::set_options(self.task.tid, options)?)
    }

    /// Brings the task to the entry of a call.
    pub(super) fn enter(
        &mut self,
        stack: Vaddr,
        number: u64,
        args: [u64; 6],
    ) -> Result<(), InjectError> {
        self.divert(stack, number, args)?;
        match self.step()? {
            CALL_STOP => Ok(()),
            // It has not come to its call within all that time.
            (_, EVENT_STOP) => Err(self.timed_out()),
            _ => Err(InjectError::Failed(Errno::EIO)),
        }
    }

    /// Sets the task on its way to a call.
    fn divert(&mut self, stack: Vaddr, number: u64, args: [u64; 6]) -> Result<(), Errno> {
        let gadgets = self.site.gadgets;
        let registers = self.saved.calling(gadgets, stack, number, args);
        // From here on the frame brings the task back if we die.
        write_general(self.task.tid, &registers)?;
        self.diverted = true;
        ptrace::set_signal_mask(self.task.tid, u64::MAX)
    }

    /// Lets the task run to its next stop of a call or an event.
    pub(super) fn step(&mut self) -> Result<(i32, i32), InjectError> {
        self.run(ptrace::syscall, self.patience())
    }

    /// How long what has begun is waited for.
    pub(super) fn patience(&self) -> Duration {
        self.left().max(CALL_LIMIT)
    }

    /// Lets the task run by `go` to its next stop but for those of job control. Where that takes
    /// longer than `limit`, it is asked to stop, and the stop is what comes first: that at the end of
    /// a call that was under way, or that in a trap, if there was none.
    fn run(
        &mut self,
        go: fn(u32) -> Result<(), Errno>,
        limit: Duration,
    ) -> Result<(i32, i32), InjectError> {
        loop {
            go(self.task.tid)?;
            self.runs = true;
            match self.await_stop(limit) {
                Err(InjectError::Failed(Errno::ETIMEDOUT)) => break,
                // Job control reached the process; the call goes on, the stop comes behind it.
                Ok((_, EVENT_STOP)) => {}
                Ok((libc::SIGSTOP, 0)) => self.stop_signal = true,
                stop => return stop,
            }
        }
        loop {
            ptrace::interrupt(self.task.tid)?;
            match self.await_stop(BACK_LIMIT) {
                Err(InjectError::Failed(Errno::ETIMEDOUT)) => return Err(self.timed_out()),
                Ok((libc::SIGSTOP, 0)) => self.stop_signal = true,
                stop => return stop,
            }
            go(self.task.tid)?;
            self.runs = true;
        }
    }

    /// Waits for the next stop of the task.
    fn await_stop(&mut self, limit: Duration) -> Result<(i32, i32), InjectError> {
        let stop = wait_stop(self.task.tid, limit)?;
        self.runs = false;
        if stop.is_none() {
            self.diverted = false;
        }
        stop.ok_or(InjectError::Died)
    }

    /// How long calls may still be begun.
    fn left(&self) -> Duration {
        self.site.until.map_or(Duration::MAX, |until| {
            until.saturating_duration_since(Instant::now())
        })
    }

    /// Says that it took too long.
    fn timed_out(&self) -> InjectError {
        InjectError::TimedOut(self.site.limit)
    }

    /// Brings the task back to where it was, and tells whether that went well; it did where the task
    /// died.
    pub(crate) fn bring_back(mut self) -> bool {
        let result = self.restore();
        matches!(result, Ok(()) | Err(Errno::ESRCH)) && !self.runs
    }

    fn restore(&mut self) -> Result<(), Errno> {
        let tid = self.task.tid;
        if std::mem::replace(&mut self.tried_back, true) {
            return Ok(());
        }
        // It was waited for already, and the frame is what it needs now.
        if self.runs {
            return Err(Errno::ETIMEDOUT);
        }
        if self.diverted {
            match self.reentry {
                Some(reentry) => self.reenter(&reentry)?,
                None => self.put_back()?,
            }
            if self.stop_signal {
                raw::process::stop(self.task.pid)?;
            }
        }
        ptrace::set_options(tid, 0)?;
        self.scratch.take().map_or(Ok(()), Scratch::take_away)
    }

    /// Brings back the registers.
    fn put_back(&mut self) -> Result<(), Errno> {
        // A restart of the call that the task was in happens only on the way out of a trap that
        // the kernel enters for a signal: an exit from a call is none.
        self.trap()?;
        ptrace::set_signal_mask(self.task.tid, self.mask)?;
        self.extended.put_back(self.task.tid)?;
        write_general(self.task.tid, &self.saved)
    }

    /// Brings the task back into an interrupted call, where the kernel has decided about its
    /// restart before the stop: the decision is made again. The task enters the same call by our
    /// way, which is not carried out, and leaves it as if interrupted.
    fn reenter(&mut self, reentry: &Reentry) -> Result<(), Errno> {
        let args = [reentry.first_argument, 0, 0, 0, 0, 0];
        self.divert(self.frames.original, reentry.number, args)?;
        match self.run(ptrace::syscall_without_effect, BACK_LIMIT) {
            Ok(CALL_STOP) => {}
            Err(InjectError::Failed(errno)) => return Err(errno),
            Err(InjectError::Died) => return Err(Errno::ESRCH),
            Ok(_) | Err(_) => return Err(Errno::ETIMEDOUT),
        }
        // Should we die behind this, it goes on as after any stop.
        ptrace::set_signal_mask(self.task.tid, self.mask)?;
        write_general(self.task.tid, &reentry.interrupted)?;
        self.trap()
    }

    /// Brings the task to a stop in a trap that the kernel entered for it.
    fn trap(&mut self) -> Result<(), Errno> {
        loop {
            // Each stop that comes before takes the place of the one that was asked for.
            ptrace::interrupt(self.task.tid)?;
            ptrace::cont(self.task.tid)?;
            self.runs = true;
            match self.await_stop(BACK_LIMIT) {
                Ok((_, EVENT_STOP)) => return Ok(()),
                Ok((libc::SIGSTOP, 0)) => self.stop_signal = true,
                Ok(_) => {}
                Err(InjectError::Failed(errno)) => return Err(errno),
                Err(_) => return Err(Errno::ESRCH),
            }
        }
    }
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        // Where this fails the task is dead, or the frame brings it back when it is let go.
        _ = self.restore();
    }
}

fn lay_out(
    site: &Site<'_>,
    frames: Frames,
    saved: &Registers,
    mask: u64,
    extended: &Extended,
) -> Vec<u8> {
    /// Whom to wait for unless a clone fills it in: an id that no process can have.
    const NOBODY: u64 = 0x8000_0000;
    let gadgets = site.gadgets;
    let wait = frame::calling(
        gadgets,
        saved,
        u64::MAX,
        frames.original,
        call::WAIT4,
        [NOBODY, 0, WALL, 0, 0, 0],
    );
    let exit = frame::calling(
        gadgets,
        saved,
        u64::MAX,
        frames.exit,
        call::EXIT_GROUP,
        [0; 6],
    );
    let original = frame::original(frames.original, gadgets, saved, mask, extended);
    let mut bytes = Vec::new();
    for frame in [wait, exit] {
        bytes.extend(frame);
        bytes.resize(bytes.len().next_multiple_of(64), 0);
    }
    bytes.extend(original);
    bytes
}
