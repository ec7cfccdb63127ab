//! The task side: [`Freeze`] of a live process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use space::{Errno, Freeze, StopLength, TaskState};

use super::{Target, Twin};
use crate::inject::{self, Child, InjectError, Purpose};
use crate::task::{StopError, Tracer, task_state};

/// How long each step of an injection may take: a fork of a large process takes seconds.
const CALL_LIMIT: Duration = Duration::from_secs(30);

impl Freeze for Target {
    type Twin = Twin;

    fn stop(&mut self, limit: Duration) -> Result<Duration, Errno> {
        match Tracer::stop(&mut self.sharers, &mut self.interrupted, limit) {
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

    fn fork(&mut self) -> Result<Twin, Errno> {
        let tracer = self.tracer()?;
        self.find_gadgets().map_err(|error| self.say(error))?;
        let child: Child = self
            .inject(&tracer, Purpose::Fork, CALL_LIMIT, |caller, _| {
                inject::fork(caller)
            })
            .map_err(|error| self.say(error))?;
        match Twin::open(child, Arc::clone(&tracer), self.page_size, self.scratch) {
            Ok(twin) => Ok(twin),
            Err(errno) => {
                // Nobody will ask for its end any more.
                tracer.run(move |_| inject::end(child))?;
                self.inject(&tracer, Purpose::Reap, CALL_LIMIT, move |caller, _| {
                    inject::reap(caller, child)
                })
                .map_err(|error| self.say(error))?;
                Err(errno)
            }
        }
    }

    fn resume(&mut self) -> Duration {
        let Some(tracer) = self.stopped.take() else {
            return Duration::ZERO;
        };
        // The thread itself stays while a duplicate lives by it. An error means that it ended,
        // which lets all go as well.
        let let_go = tracer.run(|stopped| Ok(stopped.let_go()));
        let_go.map_or(Duration::ZERO, |let_go| let_go.elapsed())
    }

    fn reap(&mut self, twin: Twin) -> Result<StopLength, Errno> {
        // Whatever comes between, the next time tries again.
        self.unreaped.push(twin.end()?);
        let children = self.unreaped.clone();
        let begun = Instant::now();
        let reaped = Tracer::stop(
            &mut self.sharers,
            &mut self.interrupted,
            Duration::from_secs(1),
        )
        .map_err(|error| self.keep(error))
        .and_then(|tracer| {
            self.inject(&tracer, Purpose::Reap, CALL_LIMIT, move |caller, _| {
                children
                    .into_iter()
                    .try_for_each(|child| inject::reap(caller, child))
            })
            .map_err(|error| self.say(error))
        });
        if reaped.is_ok() {
            self.unreaped.clear();
        }
        reaped.map(|()| StopLength {
            why: "reap".into(),
            length: begun.elapsed(),
        })
    }
}

impl Target {
    fn tracer(&self) -> Result<Arc<Tracer>, Errno> {
        self.stopped.clone().ok_or(Errno::EINVAL)
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
            _ => Errno::ENOSYS,
        };
        self.inject_error = Some(error);
        errno
    }
}
