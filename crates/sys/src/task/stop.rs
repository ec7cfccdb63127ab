//! Stopping every task of an address space.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use space::Errno;

use super::waiters::Waiters;
use super::{CALL_STOP, EVENT_STOP, Halt, Interrupted, Sharers, SharingError, Task, proc};
use crate::arch::DECIDES_BEFORE_STOP;
use crate::denial::{Asked, Denial};
use crate::procfs::{RunState, Stat};
use crate::raw::ptrace;
use crate::raw::wait::{self, Change};

/// How long to give way to others, rather than to sleep, while nothing happens.
const YIELD: Duration = Duration::from_micros(200);
/// How often to look for what keeps tasks from stopping.
const MEND: Duration = Duration::from_millis(2);
/// Of so many tasks it is noted how often they slept when they are let go, and of the others when
/// they run again: some 20 µs for each.
const NOTED_MAX: usize = 32;
/// Of so many it is noted before somebody else is asked what to do.
const NOTED_AT_ONCE: usize = 8;
/// How long to sleep between looks after that.
const PAUSE: Duration = Duration::from_micros(20);

/// Passes a moment of a wait that began at `begun`.
fn pause(begun: Instant) {
    if begun.elapsed() < YIELD {
        std::thread::yield_now();
    } else {
        std::thread::sleep(PAUSE);
    }
}

/// Why tasks could not be stopped. All of them run again, but for [`Executing`](Self::Executing).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// The process is gone.
    #[error("process {pid} is gone")]
    Gone {
        /// The process.
        pid: u32,
    },
    /// A task did not stop in time.
    #[error(
        "task {tid} did not stop within {limit:.1?}: {}",
        late_hint(*.tid, *.state, .wchan)
    )]
    TimedOut {
        /// The task.
        tid: u32,
        /// The time that was allowed.
        limit: Duration,
        /// What it does.
        state: RunState,
        /// Where in the kernel it waits; empty where that is not told.
        wchan: String,
    },
    /// A task keeps others of its process from being traced. Those that stopped before that may stand
    /// still until it gets on: the thread of ours that holds them waits for it, too.
    #[error(
        "process {pid} could not be stopped within {} ms: one of its tasks is about to execute another \
         program and does not get on, as where that is on a network file system; tasks that stood still \
         by then may do so until that program is executed, or until Onionskin ends",
        limit.as_millis()
    )]
    Executing {
        /// The process.
        pid: u32,
        /// The time that was allowed.
        limit: Duration,
    },
    /// A task waits for its `vfork` child, which shares the memory and stood still.
    #[error(
        "task {tid} waits for its child {child} to call execve or exit (vfork), so they can't be \
         stopped together; all tasks run again: try again when it has"
    )]
    Vfork {
        /// The task.
        tid: u32,
        /// The child.
        child: u32,
    },
    /// A task may not be traced.
    #[error("task {tid} can't be traced ({errno}): {}", refusal(*.tracer, .why.as_ref()))]
    Refused {
        /// The task.
        tid: u32,
        /// What the kernel said.
        errno: Errno,
        /// The process that traces it already, or 0.
        tracer: u32,
        /// Why, where nobody does.
        why: Option<Denial>,
    },
    /// Not all processes that share the memory are known.
    #[error(transparent)]
    Sharing(SharingError),
    /// Another call failed.
    #[error("stopping task {tid} failed: {errno}")]
    Failed {
        /// The task.
        tid: u32,
        /// What the kernel said.
        errno: Errno,
    },
}

fn refusal(tracer: u32, why: Option<&Denial>) -> String {
    match why {
        None => format!("process {tracer} traces it already, end that one or detach it"),
        Some(why) => why.to_string(),
    }
}

impl From<SharingError> for StopError {
    fn from(error: SharingError) -> Self {
        match error {
            SharingError::Gone(pid) => Self::Gone { pid },
            error => Self::Sharing(error),
        }
    }
}

fn late_hint(tid: u32, state: RunState, wchan: &str) -> String {
    if state != RunState::Uninterruptible {
        return format!(
            "the machine may be too busy to let it run ({state:?}); all tasks run again: try again, \
             or allow more time"
        );
    }
    let place = match wchan {
        "" => String::new(),
        wchan => format!(", in {wchan}"),
    };
    format!(
        "it waits in the kernel where nothing interrupts it (state D{place}); all tasks run again: \
         try again when that wait is over (sudo cat /proc/{tid}/stack tells what for)"
    )
}

impl StopError {
    /// Tells whether a task waits in the kernel where nothing interrupts it.
    pub fn is_uninterruptible(&self) -> bool {
        matches!(
            self,
            Self::TimedOut {
                state: RunState::Uninterruptible,
                ..
            }
        )
    }
}

impl From<StopError> for Errno {
    fn from(error: StopError) -> Self {
        match error {
            StopError::Gone { .. } => Self::ESRCH,
            StopError::TimedOut { .. } | StopError::Executing { .. } | StopError::Vfork { .. } => {
                Self::ETIMEDOUT
            }
            StopError::Refused { errno, .. } | StopError::Failed { errno, .. } => errno,
            StopError::Sharing(error) => error.errno(),
        }
    }
}

/// Tasks that stand still. Dropping this lets them go.
///
/// A signal that the process ignores (`SIGCHLD`, for most) is dropped when it is sent, but not
/// where it is sent to a task that is traced. The kernel then looks for any task of the process
/// that can take it, and ends its wait; a task that stands still, or was asked to, can't. So while
/// some tasks are traced and others not, those who are sent signals are not to be among the traced,
/// or those who wait in calls that any signal ends are to be asked already. The first task gets the
/// signals for the process. Where it waits so itself, all who do ([`Waiters`]) are asked to stop
/// before anybody else, each as soon as it is seized, and of these the first task last: then nobody
/// is left who could lose a wait. Else the first task is the last of all. The others, who hear of
/// the ends of their children, are all seized before any of them is asked to stop: one that runs
/// gets its signals itself. And who waits so is let go last, of these the first task first.
///
/// What is left: a task that waits so and is sent signals itself, beside the first one; a task that is
/// seized and not asked yet is woken, but another takes its signal before it looks; a task that was
/// made or began to wait between two steps of this.
#[derive(Debug)]
pub(crate) struct Stopped {
    /// The tasks, in the order in which they were found.
    pub(crate) tasks: Vec<Task>,
    /// Tasks of the kernel's own (io_uring's workers) that can't be stopped.
    pub(crate) workers: Vec<u32>,
    /// Whether they were let go because they had stood still for as long as they may.
    pub(crate) overdue: bool,
    pub(crate) interrupted: Interrupted,
}

impl Stopped {
    /// No task yet.
    pub(super) fn none(interrupted: Interrupted) -> Self {
        Self {
            tasks: Vec::new(),
            workers: Vec::new(),
            overdue: false,
            interrupted,
        }
    }

    /// Lets all tasks go, and tells when the last of them was: what runs then may keep us from
    /// the processor for a while.
    pub(crate) fn let_go(&mut self) -> Instant {
        let mut last = Instant::now();
        let mut tasks = std::mem::take(&mut self.tasks);
        let more = self.interrupted.waits().note(&tasks, NOTED_MAX);
        tasks.sort_by_key(|task| (task.waits, task.tid != task.pid));
        for &task in &tasks {
            let signal = match task.halt {
                Halt::Trap => 0,
                Halt::Signal(signal) => signal,
            };
            last = Instant::now();
            if ptrace::detach(task.tid, signal).is_err() {
                bury(task);
            }
        }
        // Some may have slept once more since: better than to remember them for nothing, and what
        // is done here keeps nobody waiting.
        let mut waits = self.interrupted.waits();
        if more {
            waits.note(&tasks, usize::MAX);
        }
        waits.forget_ended(&tasks);
        last
    }

    /// Does what would be done in letting the tasks go, while nothing else is to be done. Tells
    /// whether there is more.
    pub(super) fn prepare_to_let_go(&self) -> bool {
        self.interrupted.waits().note(&self.tasks, NOTED_AT_ONCE)
    }

    /// Lets the tasks of one process go.
    fn let_process_go(&mut self, pid: u32) {
        let tasks = std::mem::take(&mut self.tasks);
        let (others, kept) = tasks.into_iter().partition(|task| task.pid == pid);
        self.tasks = others;
        _ = self.let_go();
        self.tasks = kept;
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        _ = self.let_go();
    }
}

/// Takes note of the ends of tasks that some thread of ours has seized. A task that calls `execve`
/// waits for that, until when nobody else of its process can be seized: the thread that is about to
/// do so can't take note of them itself.
pub(super) fn bury_ended(sharers: &Sharers) {
    for pid in sharers.processes() {
        let tids = proc::tasks(pid).unwrap_or_default();
        for tid in tids.into_iter().filter(|&tid| tid != pid) {
            if proc::stat(tid).is_ok_and(|stat| stat.state == RunState::Zombie) {
                _ = wait::take_end(tid);
            }
        }
    }
}

/// Takes note of the end of a task that was killed while it stood still, so that whoever waits
/// for it hears of it. The end of our own child is left to whoever made it.
fn bury(task: Task) {
    let parent = proc::stat(task.tid).map_or(0, |stat| stat.parent);
    if task.tid != task.pid || parent != std::process::id() {
        _ = wait::take_end(task.tid);
    }
}

/// A task that was seized and has not stopped yet.
pub(super) struct Seized {
    pid: u32,
    tid: u32,
    /// Whether it was asked to stop.
    asked: bool,
}

impl Seized {
    pub(super) fn new(pid: u32, tid: u32) -> Self {
        Self {
            pid,
            tid,
            asked: false,
        }
    }
}

/// Stops every task of the processes that share the memory of `sharers`.
///
/// Called on a thread that ends soon after an error: that is what lets go of tasks which have not
/// stopped, since only a stopped task can be detached by request.
pub(super) fn stop_all(
    sharers: &mut Sharers,
    waiters: &Waiters,
    interrupted: Interrupted,
    limit: Duration,
) -> Result<Stopped, StopError> {
    let begun = Instant::now();
    sharers.forget_strangers();
    let mut stopped = Stopped::none(interrupted);
    let mut seized = Vec::new();
    let all = stop_each(sharers, waiters, &mut stopped, &mut seized, begun, limit);
    if let Err(error) = all {
        _ = stopped.let_go();
        await_late(&mut stopped, seized);
        return Err(error);
    }
    // What stands still now can't go away any more.
    for stranger in sharers.forget_strangers() {
        stopped.let_process_go(stranger);
    }
    if stopped.tasks.is_empty() {
        return Err(StopError::Gone {
            pid: sharers.leader(),
        });
    }
    Ok(stopped)
}

/// Stops tasks until there is none that runs. After an error some are left in `seized`.
fn stop_each(
    sharers: &mut Sharers,
    waiters: &Waiters,
    stopped: &mut Stopped,
    seized: &mut Vec<Seized>,
    begun: Instant,
    limit: Duration,
) -> Result<(), StopError> {
    while ask_new_tasks(sharers, waiters, stopped, seized, begun, limit)? > 0
        || sharers.find_new()?
    {
        await_asked(stopped, seized, begun, limit)?;
    }
    Ok(())
}

/// Seizes the tasks that are not known yet, asks them to stop, and returns how many there were.
fn ask_new_tasks(
    sharers: &Sharers,
    waiters: &Waiters,
    stopped: &mut Stopped,
    seized: &mut Vec<Seized>,
    begun: Instant,
    limit: Duration,
) -> Result<usize, StopError> {
    let own = proc::own_thread();
    let mut found = 0;
    let known: BTreeSet<u32> = (stopped.tasks.iter().map(|task| task.tid))
        .chain(stopped.workers.iter().copied())
        .collect();
    let new = sharers.processes().flat_map(|pid| {
        let tids = proc::tasks(pid).unwrap_or_default();
        tids.into_iter().map(move |tid| Seized::new(pid, tid))
    });
    let new = new.filter(|task| !known.contains(&task.tid));
    let (waiting, others): (Vec<Seized>, Vec<Seized>) =
        new.partition(|task| waiters.contains(task.tid));
    let is_first = |task: &Seized| task.tid == task.pid;
    let (first_waiting, waiting) = waiting.into_iter().partition(is_first);
    let (first_tasks, others) = others.into_iter().partition(is_first);
    let each = |tasks: Vec<Seized>| tasks.into_iter().map(|task| vec![task]);
    let groups = (each(waiting).chain(each(first_waiting))).chain([others, first_tasks]);
    for tasks in groups {
        let known = seized.len();
        for task in tasks {
            match seize(task.tid, stopped) {
                Ok(true) => {
                    seized.push(task);
                    found += 1;
                }
                Ok(false) => {}
                // It was another task that we have seized, and has the first one's id since it called
                // `execve`.
                Err(StopError::Refused { tracer, .. }) if tracer == own => {
                    seized.push(task);
                    found += 1;
                }
                Err(StopError::Refused { tracer, .. })
                    if begun.elapsed() < limit && proc::is_own_thread(tracer) =>
                {
                    // An earlier thread of ours is just letting go of it.
                    pause(begun);
                    found += 1;
                }
                Err(error) => return Err(error),
            }
        }
        ask(&mut seized[known..])?;
    }
    Ok(found)
}

/// Asks seized tasks to stop.
pub(super) fn ask(seized: &mut [Seized]) -> Result<(), StopError> {
    for task in seized.iter_mut().filter(|task| !task.asked) {
        match ptrace::interrupt(task.tid) {
            Ok(()) | Err(Errno::ESRCH) => task.asked = true,
            Err(errno) => {
                return Err(StopError::Failed {
                    tid: task.tid,
                    errno,
                });
            }
        }
    }
    Ok(())
}

/// Seizes a task; false where there is nothing to stop.
pub(super) fn seize(tid: u32, stopped: &mut Stopped) -> Result<bool, StopError> {
    match ptrace::seize(tid) {
        Ok(()) => Ok(true),
        Err(Errno::ESRCH) => Ok(false),
        Err(errno) => refused(tid, errno, stopped),
    }
}

/// Tells a task that must not be passed over from one that runs no code of the process.
fn refused(tid: u32, errno: Errno, stopped: &mut Stopped) -> Result<bool, StopError> {
    /// `PF_USER_WORKER` of `include/linux/sched.h`: a vhost worker (Linux 6.4).
    const USER_WORKER: u64 = 0x4000;
    const KERNEL_CODE: u64 = Stat::KERNEL_THREAD | Stat::IO_WORKER | USER_WORKER;
    let Ok(stat) = proc::stat(tid) else {
        return Ok(false);
    };
    match stat.state {
        RunState::Zombie | RunState::Dead => Ok(false),
        _ if stat.flags & KERNEL_CODE != 0 => {
            stopped.workers.push(tid);
            Ok(false)
        }
        _ => {
            let tracer = proc::tracer(tid);
            Err(StopError::Refused {
                tid,
                errno,
                tracer,
                why: (tracer == 0).then(|| Denial::of(tid, Asked::Trace)),
            })
        }
    }
}

/// Waits until every asked task has stopped or is gone.
fn await_asked(
    stopped: &mut Stopped,
    seized: &mut Vec<Seized>,
    begun: Instant,
    limit: Duration,
) -> Result<(), StopError> {
    let mut looked = begun;
    while !seized.is_empty() {
        let before = seized.len();
        let mut index = 0;
        while let Some(task) = seized.get(index) {
            match take_stop(task, &stopped.interrupted) {
                Ok(None) => {
                    index += 1;
                    continue;
                }
                Ok(Some(task)) => stopped.tasks.push(task),
                // It ended.
                Err(Errno::ECHILD | Errno::ESRCH) => {}
                Err(errno) => {
                    return Err(StopError::Failed {
                        tid: task.tid,
                        errno,
                    });
                }
            }
            seized.swap_remove(index);
        }
        if seized.len() == before {
            if begun.elapsed() > limit {
                let tid = seized[0].tid;
                return Err(StopError::TimedOut {
                    tid,
                    limit,
                    state: proc::stat(tid).map_or(RunState::Dead, |stat| stat.state),
                    wchan: proc::wchan(tid).unwrap_or_default(),
                });
            }
            if looked.elapsed() > MEND {
                mend(stopped, seized)?;
                looked = Instant::now();
            }
            pause(begun);
        }
    }
    Ok(())
}

/// Waits a little more for tasks whose stop comes too late, and lets each go: what it was
/// interrupted in has to be put right. A task that nothing interrupts is not waited for.
pub(super) fn await_late(stopped: &mut Stopped, mut seized: Vec<Seized>) {
    const LIMIT: Duration = Duration::from_millis(100);
    let begun = Instant::now();
    while !seized.is_empty() && begun.elapsed() < LIMIT {
        seized.retain(|task| match take_stop(task, &stopped.interrupted) {
            Ok(None) => {
                task.asked
                    && proc::stat(task.tid)
                        .is_ok_and(|stat| stat.state != RunState::Uninterruptible)
            }
            Ok(Some(task)) => {
                stopped.tasks.push(task);
                false
            }
            Err(_) => false,
        });
        _ = stopped.let_go();
        pause(begun);
    }
}

/// Clears up what keeps tasks from stopping: ends that the kernel waits for us to take note of,
/// and calls of `vfork` that wait for a child which stands still.
fn mend(stopped: &mut Stopped, seized: &mut Vec<Seized>) -> Result<(), StopError> {
    // A task that calls `execve` waits until all others of its process are gone for good, and
    // then has the first one's id.
    stopped.tasks.retain(|&task| match wait::poll(task.tid) {
        Ok(Some(Change::Ended)) if task.tid != task.pid => {
            bury(task);
            false
        }
        Ok(Some(Change::Ended)) | Err(Errno::ECHILD) => false,
        Ok(_) | Err(_) => true,
    });
    // A first task that ended before the others is not reported as long as they live.
    seized.retain(|task| proc::stat(task.tid).is_ok_and(|stat| stat.state != RunState::Zombie));
    for task in seized.iter() {
        let waits = proc::stat(task.tid).is_ok_and(|stat| stat.state == RunState::Uninterruptible);
        let child = stopped.tasks.iter().find(|other| {
            other.pid != task.pid && proc::stat(other.pid).is_ok_and(|stat| stat.parent == task.pid)
        });
        if let Some(child) = child.filter(|_| waits) {
            return Err(StopError::Vfork {
                tid: task.tid,
                child: child.pid,
            });
        }
    }
    Ok(())
}

/// Takes note of a task's stop; `None` where it has not stopped yet.
pub(super) fn take_stop(seized: &Seized, interrupted: &Interrupted) -> Result<Option<Task>, Errno> {
    let halt = match wait::poll(seized.tid)? {
        None => return Ok(None),
        Some(Change::Ended) => {
            // Nobody else takes note of a thread's end, and an `execve` waits for it.
            if seized.tid != seized.pid {
                _ = wait::take_end(seized.tid);
            }
            return Err(Errno::ESRCH);
        }
        // Stopped with its whole process, which ends such a call for good where it goes on.
        Some(Change::Stopped {
            signal,
            event: EVENT_STOP,
        }) if DECIDES_BEFORE_STOP && signal != libc::SIGTRAP => {
            return Ok(Some(Task {
                pid: seized.pid,
                tid: seized.tid,
                halt: Halt::Trap,
                waits: false,
            }));
        }
        Some(Change::Stopped {
            event: EVENT_STOP, ..
        }) => Halt::Trap,
        // It was to make its call again, and came there only when that had been given up.
        Some(Change::Stopped { signal, event }) if (signal, event) == CALL_STOP => {
            ptrace::interrupt(seized.tid)?;
            ptrace::cont(seized.tid)?;
            return Ok(None);
        }
        Some(Change::Stopped { signal, .. }) => Halt::Signal(signal),
    };
    let mut task = Task {
        pid: seized.pid,
        tid: seized.tid,
        halt,
        waits: false,
    };
    // A 32-bit task has other registers, and nobody to restart its calls; one that was killed
    // has none, and its end comes next.
    match interrupted.restart(&mut task) {
        Ok(()) | Err(Errno::EINVAL | Errno::ESRCH) => Ok(Some(task)),
        Err(errno) => Err(errno),
    }
}

/// Waits for the next stop of one task that we let run a step; `None` where it died.
pub(crate) fn wait_stop(tid: u32, limit: Duration) -> Result<Option<(i32, i32)>, Errno> {
    let begun = Instant::now();
    loop {
        match wait::poll(tid)? {
            Some(Change::Stopped { signal, event }) => return Ok(Some((signal, event))),
            Some(Change::Ended) => return Ok(None),
            None if begun.elapsed() > limit => return Err(Errno::ETIMEDOUT),
            None => pause(begun),
        }
    }
}
