//! Notices a model that never comes back from a step, in any worker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::program::Program;

/// How long the model may take for one program.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the model is working on, and since when.
#[derive(Debug, Default)]
pub(super) struct Work(Mutex<Option<(Instant, Program)>>);

impl Work {
    /// Notes the beginning of a program.
    pub(super) fn begin(&self, program: &Program) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Instant::now(), program.clone()));
    }

    /// Notes the end of it.
    pub(super) fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn overdue(&self) -> Option<Program> {
        let work = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work.as_ref()
            .filter(|(since, _)| since.elapsed() > PATIENCE)
            .map(|(_, program)| program.clone())
    }
}

/// Watches until `stop`. A thread can't be taken out of an endless loop: the program is shown, and
/// the whole process ends.
pub(super) fn watch(works: &[Work], stop: &AtomicBool) {
    const PAUSE: Duration = Duration::from_millis(50);
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(PAUSE);
        if let Some(program) = works.iter().find_map(Work::overdue) {
            eprintln!("the model does not come back from this program:\n{program}");
            std::process::exit(2);
        }
    }
}
