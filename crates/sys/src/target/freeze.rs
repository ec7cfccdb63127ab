//! The task side: [`Freeze`] of a live process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use space::{Errno, Freeze, StopLength, TaskState};

use super::track::{Allowed, STEPS};
use super::{AGAIN_AFTER, Target, Twin};
use crate::inject::{self, Child, InjectError, Purpose};
use crate::task::{StopError, Tracer, task_state};

/// How long the end of a child is waited for in a freeze: to free much memory takes long.
const END_LIMIT: Duration = Duration::from_millis(50);

impl Freeze for Target {
    type Twin = Twin;

    fn stop(&mut self, limit: Duration) -> Result<Duration, Errno> {
        match self.stop_tasks(limit) {
            Ok(tracer) => {
                let asked = tracer.asked();
                self.stopped = Some(Arc::new(tracer));
                self.stop_error = None;
                Ok(asked.elapsed())
            }
            Err(error) => {
                self.stop_error = Some(error.clone());
                Err(error.into())
            }
        }
    }

    fn tasks(&mut self) -> Result<Vec<TaskState>, Errno> {
        let leader = self.pid;
        self.tracer()?.run(move |stopped| {
            let mut states = Vec::with_capacity(stopped.tasks.len());
            for &task in &stopped.tasks {
                match task_state(task) {
                    Ok(state) => states.push(state),
                    // Killed in the freeze.
                    Err(Errno::ESRCH) => {}
                    Err(errno) => return Err(errno),
                }
            }
            states.sort_by_key(|state| (state.tid != leader, state.tid));
            if states.is_empty() {
                Err(Errno::ESRCH)
            } else {
                Ok(states)
            }
        })
    }

    fn fork(&mut self, limit: Duration) -> Result<Twin, Errno> {
        let tracer = self.tracer()?;
        self.find_gadgets().map_err(|error| self.say(error))?;
        let allowed = Allowed::from_now(limit);
        let (made, born) = self
            .inject(&tracer, Purpose::Fork, allowed, |caller| {
                let mut born = None;
                let made = inject::fork(caller, &mut born);
                Ok((made, born))
            })
            .map_err(|error| self.say(error))?;
        let twin = made.map_err(|error| self.say(error)).and_then(|child| {
            Twin::open(
                child,
                Arc::clone(&tracer),
                self.view.page_size,
                self.scratch,
            )
        });
        if let (Err(errno), Some(child)) = (&twin, born) {
            self.give_up(&tracer, child, *errno);
        }
        twin
    }

    fn hold(&mut self, limit: Duration) {
        if let Some(tracer) = &self.stopped {
            tracer.hold(limit);
        }
    }

    fn resume(&mut self) -> Result<Duration, Errno> {
        let Some(tracer) = self.stopped.take() else {
            return Ok(Duration::ZERO);
        };
        // The thread itself stays while a duplicate lives by it.
        let let_go = tracer.run(|stopped| match stopped.overdue {
            true => Err(Errno::ETIMEDOUT),
            false => Ok(stopped.let_go()),
        });
        match let_go {
            Ok(let_go) => Ok(let_go.elapsed()),
            // It ended by a panic, at some time, which let all go as well.
            Err(_) => Err(Errno::ETIMEDOUT),
        }
    }

    fn reap(&mut self, twin: Twin) -> Result<StopLength, Errno> {
        // Whatever comes between, the next time tries again.
        self.unreaped.push(twin.end()?);
        match self.reap_all() {
            Err(Errno::ETIMEDOUT) => {
                std::thread::sleep(AGAIN_AFTER);
                self.reap_all()
            }
            reaped => reaped,
        }
    }
}

impl Target {
    /// Returns the processes that stand still together because they share the memory, as far as
    /// they are known: the one that was opened first.
    pub fn processes(&self) -> Vec<u32> {
        self.sharers.processes().collect()
    }

    fn tracer(&self) -> Result<Arc<Tracer>, Errno> {
        self.stopped.clone().ok_or(Errno::EINVAL)
    }

    /// Ends a child that is of no use, and has its parent take note of it: now if that can be
    /// done, later if not.
    fn give_up(&mut self, tracer: &Tracer, child: Child, why: Errno) {
        let left = tracer.left().unwrap_or(Duration::MAX);
        let ended = tracer.run(move |_| inject::end_within(child, left.min(END_LIMIT)));
        self.unreaped.push(child);
        // What the promise leaves: a job is not interrupted when it is over.
        let left = tracer.left().unwrap_or(Duration::MAX);
        // A task that is about its fork still is no good for another call.
        if why != Errno::ETIMEDOUT && ended.is_ok() && left >= self.stop_limit {
            // The next time tries again.
            _ = self.reap_stopped(tracer, Allowed::from_now(self.stop_limit));
        }
    }

    /// Stops the process for as long as it takes note of its ended duplicates.
    pub(super) fn reap_all(&mut self) -> Result<StopLength, Errno> {
        let begun = Instant::now();
        let reaped = self
            .stop_tasks(self.stop_limit)
            .map_err(|error| self.keep(error))
            .and_then(|tracer| {
                tracer.hold(self.stop_limit.saturating_mul(STEPS));
                let allowed = Allowed::within(&tracer, self.stop_limit);
                self.reap_stopped(&tracer, allowed)
            });
        let stop = StopLength {
            why: "reap".into(),
            length: begun.elapsed(),
        };
        match reaped {
            Ok(()) => Ok(stop),
            // It stood still for nothing (a filter forbids the call, say), but it did.
            Err(errno) => {
                self.stops.push(stop);
                Err(errno)
            }
        }
    }

    fn reap_stopped(&mut self, tracer: &Tracer, allowed: Allowed) -> Result<(), Errno> {
        let children = self.unreaped.clone();
        self.inject(tracer, Purpose::Reap, allowed, move |caller| {
            children
                .into_iter()
                .try_for_each(|child| inject::reap(caller, child))
        })
        .map_err(|error| self.say(error))?;
        self.unreaped.clear();
        Ok(())
    }

    pub(super) fn keep(&mut self, error: StopError) -> Errno {
        self.stop_error = Some(error.clone());
        error.into()
    }

    /// Turns the reason why nothing could be injected into what the engine understands.
    fn say(&mut self, error: InjectError) -> Errno {
        let errno = match error {
            InjectError::Failed(errno) => errno,
            InjectError::Died => Errno::ESRCH,
            InjectError::TimedOut(_) => Errno::ETIMEDOUT,
            _ => Errno::ENOSYS,
        };
        self.inject_error = Some(error);
        errno
    }
}
