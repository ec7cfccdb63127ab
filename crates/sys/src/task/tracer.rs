//! The thread that traces.
//!
//! ptrace binds a task to the thread that seized it, and the kernel lets go of all tasks of a
//! thread that ends, stopped or not. So each stop gets a thread of its own: however it ends, by
//! `resume`, an error, a panic or the death of the whole tool, no task stays behind.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use space::Errno;

use super::stop::{bury_ended, stop_all};
use super::waiters::Waiters;
use super::{Interrupted, Sharers, StopError, Stopped};

type Job = Box<dyn FnOnce(&mut Stopped) + Send>;

/// A stop that holds, and the thread that holds it. Dropping it lets all tasks go.
#[derive(Debug)]
pub(crate) struct Tracer {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    asked: Instant,
    deadline: Arc<Deadline>,
}

/// Until when tasks may stand still; for ever where none is set. The thread that holds them keeps
/// it, so that nothing that others wait for can make it longer.
#[derive(Debug, Default)]
struct Deadline(Mutex<Option<Instant>>);

impl Deadline {
    /// Sets it, and tells whether it comes earlier than before.
    fn set(&self, next: Option<Instant>) -> bool {
        let mut deadline = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *deadline, next);
        next.is_some_and(|next| before.is_none_or(|before| next < before))
    }

    /// Returns how much time is left, if there is a limit.
    fn left(&self) -> Option<Duration> {
        let deadline = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

impl Tracer {
    /// Stops all tasks, on a new thread.
    pub(crate) fn stop(
        sharers: &mut Sharers,
        interrupted: &Interrupted,
        limit: Duration,
    ) -> Result<Self, StopError> {
        let (jobs, queue) = channel::<Job>();
        let (answer, answered) = channel();
        let deadline = Arc::<Deadline>::default();
        let kept = Arc::clone(&deadline);
        let mut known = sharers.clone();
        let interrupted = interrupted.clone();
        let thread = std::thread::Builder::new()
            .name("tracer".into())
            .spawn(move || {
                let waiters = Waiters::find(&known);
                // A new thread may wait for a processor while the tasks have them all.
                let asked = Instant::now();
                let stopped = stop_all(&mut known, &waiters, interrupted, limit);
                let (stopped, error) = match stopped {
                    Ok(stopped) => (Some(stopped), None),
                    Err(error) => (None, Some(error)),
                };
                // The asker waits for this answer, or is gone and wants nothing any more.
                if answer.send((known, asked, error)).is_ok()
                    && let Some(stopped) = stopped
                {
                    serve(stopped, &queue, &kept);
                }
            })
            .map_err(|error| StopError::Failed {
                tid: sharers.leader(),
                errno: error.into(),
            })?;
        let (now_known, asked, error) = await_answer(&answered, sharers, limit)?;
        *sharers = now_known;
        let tracer = Self {
            jobs: Some(jobs),
            thread: Some(thread),
            asked,
            deadline,
        };
        match error {
            None => Ok(tracer),
            Some(error) => Err(error),
        }
    }

    /// Returns when the first task was asked to stop.
    pub(crate) fn asked(&self) -> Instant {
        self.asked
    }

    /// Has all tasks let go when `limit` has passed from now, unless a job is under way then.
    pub(crate) fn hold(&self, limit: Duration) {
        if self.deadline.set(Instant::now().checked_add(limit))
            && let Some(jobs) = &self.jobs
        {
            // Wakes the thread, which waits for longer than that. One that ended holds nothing.
            _ = jobs.send(Box::new(|_| {}));
        }
    }

    /// Returns how much is left of the time that the tasks may stand still, if there is a limit.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.deadline.left()
    }

    /// Tells whether all tasks stand still yet; [`Errno::ETIMEDOUT`] where they were let go.
    pub(crate) fn must_hold(&self) -> Result<(), Errno> {
        self.run(|stopped| match stopped.overdue {
            true => Err(Errno::ETIMEDOUT),
            false => Ok(()),
        })
    }

    /// Runs `job` on the thread that may use ptrace, and returns what it returns.
    pub(crate) fn run<T, F>(&self, job: F) -> Result<T, Errno>
    where
        T: Send + 'static,
        F: FnOnce(&mut Stopped) -> Result<T, Errno> + Send + 'static,
    {
        let (answer, answered) = channel();
        let job: Job = Box::new(move |stopped| drop(answer.send(job(stopped))));
        let jobs = self.jobs.as_ref().expect("open until dropped");
        // Only a panic of an earlier job ends the thread before its queue is closed.
        jobs.send(job).map_err(|_| Errno::ESRCH)?;
        answered.recv().map_err(|_| Errno::ESRCH)?
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has let all tasks go already, and was reported by its own thread.
            drop(thread.join());
        }
    }
}

/// Waits for what became of a stop. The thread that is about it can be kept from seizing a task for as
/// long as another one of the same process is about to execute a program. Where that waits for tasks
/// that have ended, it is helped; where it waits for anything else, the thread is left alone: what it
/// has stopped, and stops after that, it lets go when that program is executed, and not before.
fn await_answer<T>(
    answered: &Receiver<T>,
    sharers: &Sharers,
    limit: Duration,
) -> Result<T, StopError> {
    /// When to look first: a stop that nothing keeps from being is over by then, and to look at
    /// thousands of tasks takes the processor from it.
    const FIRST: Duration = Duration::from_millis(50);
    /// How long to wait at most between two looks.
    const MOST: Duration = Duration::from_millis(400);
    /// How much longer than allowed an answer may take, on a busy machine.
    const LATER: Duration = Duration::from_secs(2);
    let begun = Instant::now();
    let mut next = FIRST;
    loop {
        match answered.recv_timeout(next) {
            Ok(answer) => return Ok(answer),
            Err(RecvTimeoutError::Disconnected) => {
                panic!("the tracer answers before it ends")
            }
            Err(RecvTimeoutError::Timeout) if begun.elapsed() > limit.saturating_add(LATER) => {
                return Err(StopError::Executing {
                    pid: sharers.leader(),
                    limit,
                });
            }
            Err(RecvTimeoutError::Timeout) => bury_ended(sharers),
        }
        next = MOST.min(next * 2);
    }
}

fn serve(mut stopped: Stopped, queue: &Receiver<Job>, deadline: &Deadline) {
    loop {
        let left = match stopped.prepare_to_let_go() {
            true => Some(Duration::ZERO),
            false => deadline.left(),
        };
        let next = match left {
            Some(left) if !stopped.tasks.is_empty() => queue.recv_timeout(left),
            _ => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match next {
            Ok(job) => job(&mut stopped),
            Err(RecvTimeoutError::Timeout) if deadline.left() == Some(Duration::ZERO) => {
                stopped.overdue = true;
                _ = stopped.let_go();
            }
            // It was set anew meanwhile, or there is more to prepare.
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
