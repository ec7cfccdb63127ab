//! The task side: [`Freeze`] of a modelled process.
//!
//! The model has no scheduler, so nobody runs but who is told to. Whoever drives the application
//! asks [`Watched::is_frozen`] before it goes on.

use std::time::Duration;

use space::{Errno, Freeze, StopLength, TaskState, Tracking};

use super::{Reader, Watched};
use crate::stop::Stop;

impl Watched {
    /// Tells whether the process's threads have to stand still.
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }
}

impl Freeze for Watched {
    /// A forked child that never runs.
    type Twin = Self;

    fn stop(&mut self, _: Duration) -> Result<Duration, Errno> {
        self.machine().process(self.reader.pid)?;
        self.frozen = true;
        Ok(Duration::ZERO)
    }

    fn tasks(&mut self) -> Result<Vec<TaskState>, Errno> {
        let machine = self.machine();
        machine.process(self.reader.pid)?;
        let threads = machine.threads_of(self.reader.pid);
        Ok(threads.map(|tid| nameless(tid.0)).collect())
    }

    fn fork(&mut self, _: Duration) -> Result<Self, Errno> {
        let mut machine = self.machine();
        let parent = machine.threads_of(self.reader.pid).next();
        let forked = machine.fork(parent.ok_or(Errno::ESRCH)?);
        let child = forked.map_err(|stop| match stop {
            Stop::Failed(errno) => errno,
            // A userfaultfd of the process is told of forks, and its handler stands still, too.
            Stop::Blocked(_) => Errno::ETIMEDOUT,
        })?;
        let pid = machine.pid_of(child)?;
        drop(machine);
        let reader = Reader {
            machine: self.reader.machine.clone(),
            pid,
        };
        Ok(Self::over(reader, Tracking::None, None))
    }

    /// The model knows no time, so no limit passes.
    fn hold(&mut self, _: Duration) {}

    fn resume(&mut self) -> Result<Duration, Errno> {
        self.frozen = false;
        Ok(Duration::ZERO)
    }

    fn reap(&mut self, twin: Self) -> Result<StopLength, Errno> {
        self.machine().exit_process(twin.reader.pid)?;
        Ok(StopLength {
            why: "reap".to_owned(),
            length: Duration::ZERO,
        })
    }
}

/// A task of which nothing is known but its number: the model has no registers.
fn nameless(tid: u32) -> TaskState {
    TaskState {
        tid,
        name: String::new(),
        signal: 0,
        signals_pending: 0,
        signals_blocked: 0,
        siginfo: Vec::new(),
        user_time: Duration::ZERO,
        system_time: Duration::ZERO,
        registers: Vec::new(),
    }
}
