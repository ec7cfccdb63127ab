//! The tool's side: starts a puppet, hands it batches, and ends it.
#![expect(unsafe_code, reason = "forks a process that never returns")]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use space::Errno;

use super::board::{Board, Cell};
use super::maps::Way;
use super::script::Script;
use super::state::{self, Doing};
use super::{LANES, lane};
use crate::raw::process::kill;
use crate::raw::wait;

/// How much time of a processor one command may use, in hundredths of a second: it takes
/// microseconds, in an emulated machine some milliseconds. A machine whose processors are lent to
/// others meanwhile charges it for more: 40 were not enough.
const ENDLESS: u64 = 200;

/// How much time of a processor a lane uses for one command, as it is seen in passing.
#[derive(Debug, Default)]
struct Busy {
    /// The command, and what the lane had used when it was last seen.
    last: Option<(u32, u64)>,
    used: u64,
}

impl Busy {
    /// The most that one look counts for. A guest that its host does not run for a while believes
    /// that its program used all that time: that is one leap, and an endless command is many steps.
    const STEP_MAX: u64 = 2;

    /// Notes what the lane has used, and returns what of it is for this command.
    fn note(&mut self, command: u32, used: u64) -> u64 {
        self.used = match self.last {
            Some((last, before)) if last == command => {
                self.used + used.saturating_sub(before).min(Self::STEP_MAX)
            }
            _ => 0,
        };
        self.last = Some((command, used));
        self.used
    }
}

/// How a puppet is made.
#[derive(Clone, Copy, Debug)]
pub struct PuppetOptions {
    /// How long a batch may take before the puppet counts as stuck.
    pub patience: Duration,
}

impl Default for PuppetOptions {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(10),
        }
    }
}

/// Why a puppet can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PuppetError {
    /// It could not be made.
    #[error("no child process could be made: {0}")]
    Start(Errno),
    /// A lane ended that was told something.
    #[error("lane {0} ended in the middle of a batch")]
    Ended(usize),
    /// A lane did not finish in time.
    #[error("lane {0} did not finish its batch in time")]
    Stuck(usize),
    /// A lane is not there.
    #[error("lane {0} is not there: nothing made it, or it has ended")]
    NoLane(usize),
}

/// How far a batch came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All of it was carried out.
    Done,
    /// The lane sleeps in the kernel in the middle of it.
    Blocked,
    /// The lane's process ended, as it was told or not.
    Ended,
}

/// A child process that obeys, with the lanes that it forks.
#[derive(Debug)]
pub struct Puppet {
    board: Board,
    /// The first process's id.
    pid: u32,
    options: PuppetOptions,
}

impl Puppet {
    /// Makes one. It ends when the calling thread does.
    ///
    /// It and all that it makes run on one processor, one of those that the caller may use: what the
    /// kernel keeps for each processor, as pages on their way to the reclaim lists, would otherwise let
    /// a call end now so and now otherwise.
    ///
    /// # Errors
    ///
    /// Fails if there is no memory or no process to be had, or if it can't begin.
    pub fn start(options: PuppetOptions) -> Result<Self, PuppetError> {
        static WAY: OnceLock<Way> = OnceLock::new();
        let way = *WAY.get_or_init(Way::of_this_kernel);
        let board = Board::map().map_err(PuppetError::Start)?;
        let tool = std::process::id();
        // SAFETY: the child runs `lane::begin` alone, which never returns, takes no lock and does
        // not allocate: what other threads of the tool held at the fork does not matter.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            lane::begin(board, tool, way);
        }
        let Ok(pid) = u32::try_from(pid) else {
            let errno = Errno::from(std::io::Error::last_os_error());
            board.unmap();
            return Err(PuppetError::Start(errno));
        };
        let puppet = Self {
            board,
            pid,
            options,
        };
        puppet.wait_born(0)?;
        puppet.keep_to_one_processor().map_err(PuppetError::Start)?;
        Ok(puppet)
    }

    /// Puppets take turns with the processors that the caller may use.
    fn keep_to_one_processor(&self) -> Result<(), Errno> {
        static TURN: AtomicUsize = AtomicUsize::new(0);
        let errno = |error: rustix::io::Errno| Errno(error.raw_os_error());
        let ours = sched_getaffinity(None).map_err(errno)?;
        let usable: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&at| ours.is_set(at)).collect();
        let turn = TURN.fetch_add(1, Ordering::Relaxed);
        let mut one = CpuSet::new();
        one.set(usable[turn % usable.len()]);
        let pid = rustix::process::Pid::from_raw(self.pid.cast_signed());
        sched_setaffinity(pid, &one).map_err(errno)
    }

    /// Returns an empty script for this puppet's board.
    pub fn script(&self) -> Script {
        Script::new(self.board)
    }

    /// Returns the id of the first process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns the process id of a lane that lives.
    pub fn lane_pid(&self, lane: usize) -> Option<u32> {
        if lane >= LANES {
            return None;
        }
        match self.board.cell(lane, Cell::Pid).load(Ordering::Acquire) {
            0 => None,
            pid => Some(pid),
        }
    }

    /// Returns the id of a lane's thread, if it lives.
    pub fn lane_thread(&self, lane: usize) -> Option<u32> {
        self.lane_pid(lane)?;
        Some(self.board.cell(lane, Cell::Tid).load(Ordering::Acquire))
    }

    /// Waits until a lane that a batch made is there.
    ///
    /// # Errors
    ///
    /// Fails if it does not come.
    pub fn wait_born(&self, lane: usize) -> Result<(), PuppetError> {
        let deadline = Instant::now() + self.options.patience;
        while self.lane_pid(lane).is_none() {
            let done = self.board.done().load(Ordering::Acquire);
            if self.lane_pid(lane).is_some() {
                break;
            }
            self.sleep(done, Duration::from_millis(5));
            if lane == 0 && self.has_ended(self.pid) {
                return Err(PuppetError::Ended(lane));
            }
            if Instant::now() > deadline {
                return Err(PuppetError::Stuck(lane));
            }
        }
        Ok(())
    }

    /// Hands the commands `from..to` of the script to a lane.
    ///
    /// # Errors
    ///
    /// Fails if the lane is not there.
    pub fn begin(&self, lane: usize, from: u32, to: u32) -> Result<(), PuppetError> {
        if self.lane_pid(lane).is_none() {
            return Err(PuppetError::NoLane(lane));
        }
        self.board
            .cell(lane, Cell::From)
            .store(from, Ordering::Relaxed);
        self.board.cell(lane, Cell::To).store(to, Ordering::Relaxed);
        let go = self.board.cell(lane, Cell::Go);
        go.fetch_add(1, Ordering::AcqRel);
        futex(go, libc::FUTEX_WAKE, 1, None);
        Ok(())
    }

    /// Tells whether a lane has finished all that it was handed.
    pub fn is_done(&self, lane: usize) -> bool {
        let finished = self
            .board
            .cell(lane, Cell::Finished)
            .load(Ordering::Acquire);
        finished == self.board.cell(lane, Cell::Go).load(Ordering::Acquire)
    }

    /// Waits until a lane finishes.
    ///
    /// # Errors
    ///
    /// Fails if it takes longer than the puppet's patience.
    pub fn wait(&self, lane: usize) -> Result<Progress, PuppetError> {
        let deadline = Instant::now() + self.options.patience;
        loop {
            let done = self.board.done().load(Ordering::Acquire);
            if self.is_done(lane) {
                return Ok(Progress::Done);
            }
            self.sleep(done, Duration::from_millis(2));
            if !self.is_done(lane) && self.lane_has_ended(lane) {
                return Ok(Progress::Ended);
            }
            if Instant::now() > deadline {
                return Err(PuppetError::Stuck(lane));
            }
        }
    }

    /// Waits until a lane finishes or sleeps in the kernel.
    ///
    /// # Errors
    ///
    /// Fails if neither comes within the puppet's patience.
    pub fn settle(&self, lane: usize) -> Result<Progress, PuppetError> {
        /// How much must be seen of a lane's sleep: it may wait for a lock for a moment.
        const SEEN_ASLEEP: u32 = 120_000;
        /// How much each look counts: three are enough for a userfaultfd.
        const SEEN_WAITING: u32 = 40_000;
        const SEEN_SLEEPING: u32 = 100;
        /// How long it may sleep in what passes by itself, on a busy machine late. (That is a time,
        /// since a look takes long in an emulated machine.)
        const PAUSING: Duration = Duration::from_secs(2);
        /// How long to wait before it is looked at; longer each time that it runs.
        const PAUSE: Duration = Duration::from_micros(50);
        const PAUSE_MAX: Duration = Duration::from_millis(3);
        let deadline = Instant::now() + self.options.patience;
        let mut asleep = 0;
        let mut pausing: Option<(u32, Instant)> = None;
        let mut pause = PAUSE;
        let mut busy = Busy::default();
        loop {
            let done = self.board.done().load(Ordering::Acquire);
            if self.is_done(lane) {
                return Ok(Progress::Done);
            }
            self.sleep(done, pause);
            if self.is_done(lane) {
                return Ok(Progress::Done);
            }
            let cell = |part| self.board.cell(lane, part).load(Ordering::Acquire);
            let at = cell(Cell::At);
            let (doing, used) = state::doing(cell(Cell::Pid), cell(Cell::Tid));
            pause = match doing {
                Doing::Runs => PAUSE_MAX.min(pause * 2),
                _ => PAUSE,
            };
            if busy.note(at, used) > ENDLESS {
                return Err(PuppetError::Stuck(lane));
            }
            pausing = match pausing {
                _ if doing != Doing::Pauses => None,
                Some((command, since)) if command == at => Some((command, since)),
                _ => Some((at, Instant::now())),
            };
            asleep = match doing {
                Doing::Runs => 0,
                Doing::Sleeps => asleep + SEEN_SLEEPING,
                Doing::Pauses if pausing.is_some_and(|(_, since)| since.elapsed() > PAUSING) => {
                    SEEN_ASLEEP
                }
                Doing::Pauses => asleep,
                Doing::Waits => asleep + SEEN_WAITING,
                Doing::Gone if self.lane_has_ended(lane) => return Ok(Progress::Ended),
                Doing::Gone => 0,
            };
            if asleep >= SEEN_ASLEEP && !self.is_done(lane) {
                return Ok(Progress::Blocked);
            }
            if Instant::now() > deadline {
                return Err(PuppetError::Stuck(lane));
            }
        }
    }

    /// Runs the whole script on a lane that can't block.
    ///
    /// # Errors
    ///
    /// Fails if the lane is not there, ends or does not finish.
    pub fn run(&self, lane: usize, script: &Script) -> Result<(), PuppetError> {
        self.begin(lane, 0, script.len())?;
        match self.wait(lane)? {
            Progress::Done => Ok(()),
            Progress::Blocked => Err(PuppetError::Stuck(lane)),
            Progress::Ended => Err(PuppetError::Ended(lane)),
        }
    }

    /// Ends all lanes but the first, and waits for their ends. Lanes that are threads end with
    /// their process only.
    pub fn end_forks(&self) {
        for lane in 1..LANES {
            if self.lane_pid(lane).is_some_and(|pid| pid != self.pid) {
                self.end(lane);
            }
        }
    }

    fn end(&self, lane: usize) {
        let Some(pid) = self.lane_pid(lane) else {
            return;
        };
        // It may have ended by itself; an id stays taken until it is reaped.
        let _ = kill(pid);
        let deadline = Instant::now() + self.options.patience;
        while !self.has_ended(pid) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_micros(20));
        }
        self.forget(lane);
    }

    /// Takes note of the end of a lane's process.
    pub fn forget(&self, lane: usize) {
        let Some(pid) = self.lane_pid(lane) else {
            return;
        };
        let _ = wait::take_end(pid);
        for lane in 0..LANES {
            if self.lane_pid(lane) == Some(pid) {
                for part in [Cell::Pid, Cell::Tid, Cell::Go, Cell::Finished] {
                    self.board.cell(lane, part).store(0, Ordering::Release);
                }
            }
        }
    }

    fn lane_has_ended(&self, lane: usize) -> bool {
        self.lane_pid(lane).is_none_or(|pid| self.has_ended(pid))
    }

    fn has_ended(&self, pid: u32) -> bool {
        match wait::poll(pid) {
            Ok(change) => change == Some(wait::Change::Ended),
            // Nobody's child any more: it was reaped.
            Err(_) => true,
        }
    }

    /// Sleeps until a lane reports, or until the time is over.
    fn sleep(&self, done: u32, time: Duration) {
        futex(self.board.done(), libc::FUTEX_WAIT, done, Some(time));
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        self.end_forks();
        // One that has ended may have been reaped, and its id given to somebody else.
        if !self.has_ended(self.pid) {
            let _ = kill(self.pid);
        }
        let deadline = Instant::now() + self.options.patience;
        while !self.has_ended(self.pid) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_micros(50));
        }
        let _ = wait::take_end(self.pid);
        self.board.unmap();
    }
}

fn futex(at: &std::sync::atomic::AtomicU32, operation: i32, value: u32, time: Option<Duration>) {
    let time = time.map(|time| libc::timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: 1. the word is an atomic that lives. 2. the time, if there is one, lives until the
    // call returns.
    unsafe { libc::syscall(libc::SYS_futex, at.as_ptr(), operation, value, time, 0, 0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leap_of_the_clock_is_not_endless() {
        let mut busy = Busy::default();
        assert_eq!(busy.note(3, 100), 0);
        assert!(busy.note(3, 100 + 50 * ENDLESS) <= ENDLESS);
        let mut busy = Busy::default();
        let uses = (0..2 * ENDLESS).map(|used| busy.note(3, used));
        assert_eq!(uses.max(), Some(2 * ENDLESS - 1));
        assert_eq!(busy.note(4, 1000), 0);
    }
}
