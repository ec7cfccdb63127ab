//! The thread that traces.
//!
//! ptrace binds a task to the thread that seized it, and the kernel lets go of all tasks of a
//! thread that ends, stopped or not. So each stop gets a thread of its own: however it ends, by
//! `resume`, an error, a panic or the death of the whole tool, no task stays behind.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use space::Errno;

use super::{Interrupted, Sharers, StopError, Stopped, stop_all};

type Job = Box<dyn FnOnce(&mut Stopped) + Send>;

/// A stop that holds, and the thread that holds it. Dropping it lets all tasks go.
#[derive(Debug)]
pub(crate) struct Tracer {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    asked: Instant,
}

impl Tracer {
    /// Stops all tasks, on a new thread.
    pub(crate) fn stop(
        sharers: &mut Sharers,
        interrupted: &mut Interrupted,
        limit: Duration,
    ) -> Result<Self, StopError> {
        let (jobs, queue) = channel::<Job>();
        let (answer, answered) = channel();
        let mut known = (sharers.clone(), std::mem::take(interrupted));
        let thread = std::thread::Builder::new()
            .name("tracer".into())
            .spawn(move || {
                // A new thread may wait for a processor while the tasks have them all.
                let asked = Instant::now();
                let stopped = stop_all(&mut known.0, &mut known.1, limit);
                let (stopped, error) = match stopped {
                    Ok(stopped) => (Some(stopped), None),
                    Err(error) => (None, Some(error)),
                };
                // The asker waits for this answer, or is gone and wants nothing any more.
                if answer.send((known, asked, error)).is_ok()
                    && let Some(stopped) = stopped
                {
                    serve(stopped, &queue);
                }
            })
            .map_err(|error| StopError::Failed {
                tid: sharers.leader(),
                errno: error.into(),
            })?;
        let ((now_known, now_interrupted), asked, error) =
            answered.recv().expect("the tracer answers before it ends");
        *sharers = now_known;
        *interrupted = now_interrupted;
        let tracer = Self {
            jobs: Some(jobs),
            thread: Some(thread),
            asked,
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

fn serve(mut stopped: Stopped, queue: &Receiver<Job>) {
    while let Ok(job) = queue.recv() {
        job(&mut stopped);
    }
}
