//! Threads that copy in the freeze. They are made before it, and never waited for without limit.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use space::{Errno, PageSize, PageSource};

use crate::carry::{Batches, Copied, Filled, fill};

/// How often the waiting thread looks how far they are. It is not woken for each batch: it would take
/// the processor from one that copies.
const LOOK: Duration = Duration::from_millis(2);

/// Threads that read batches into memory.
pub(crate) struct Crew {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There is work, or no more is to come.
    work: Condvar,
    /// All batches are finished, there is no more memory, or a read failed.
    done: Condvar,
}

#[derive(Default)]
struct State {
    batches: Arc<Batches>,
    /// The next batch to read.
    next: usize,
    free: Vec<Vec<u8>>,
    filled: Vec<Filled>,
    /// How many batches are finished, those taken among them.
    finished: usize,
    /// How many are filled or being filled.
    used: usize,
    /// How many may be, at a time.
    max: usize,
    failed: Option<Errno>,
    over: bool,
    began: Option<Instant>,
    /// From the start to the end of the last batch that is finished.
    took: Duration,
}

impl Crew {
    /// Starts the threads. `free` are buffers to copy into; more are made where they run out, but
    /// no more than `max` are in use.
    pub(crate) fn new<R: PageSource + Send + Sync + 'static>(
        reader: &Arc<R>,
        threads: usize,
        page_size: PageSize,
        free: Vec<Vec<u8>>,
        max: usize,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let mut state = shared.lock();
        state.free = free;
        state.max = max;
        drop(state);
        for _ in 0..threads {
            let (own, reader) = (Arc::clone(&shared), Arc::clone(reader));
            #[expect(clippy::disallowed_methods, reason = "threads belong here")]
            let _detached = std::thread::spawn(move || own.serve(&*reader, page_size));
        }
        Self { shared }
    }

    /// Begins to copy.
    pub(crate) fn start(&mut self, batches: &Arc<Batches>) {
        let mut state = self.shared.lock();
        state.batches = Arc::clone(batches);
        state.next = 0;
        state.began = Some(now());
        drop(state);
        self.shared.work.notify_all();
    }

    /// Waits until all is copied or no time is left.
    pub(crate) fn wait(&mut self, mut left: impl FnMut(usize) -> Duration) -> Copied {
        let mut state = self.shared.lock();
        loop {
            if let Some(errno) = state.failed {
                return Copied::Failed(errno);
            }
            if state.finished == state.batches.len() {
                return Copied::All;
            }
            let left = left(state.finished);
            if left.is_zero() {
                return Copied::TimedOut;
            }
            if state.filled.len() >= state.max {
                return Copied::Full;
            }
            state = self
                .shared
                .done
                .wait_timeout(state, left.min(LOOK))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Returns what was copied.
    pub(crate) fn take(&mut self) -> Vec<Filled> {
        std::mem::take(&mut self.shared.lock().filled)
    }

    /// Gives buffers back to copy into.
    pub(crate) fn give_back(&mut self, buffers: impl Iterator<Item = Vec<u8>>) {
        let mut state = self.shared.lock();
        let before = state.free.len();
        state.free.extend(buffers);
        state.used -= state.free.len() - before;
        drop(state);
        self.shared.work.notify_all();
    }

    /// Returns how long it took from the start to the end of the last finished batch.
    pub(crate) fn took(&self) -> Duration {
        self.shared.lock().took
    }

    /// Returns how many batches are finished.
    pub(crate) fn done(&self) -> usize {
        self.shared.lock().finished
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each thread does.
    fn serve<R: PageSource>(&self, reader: &R, page_size: PageSize) {
        let _alarm = Alarm(self);
        let mut state = self.lock();
        loop {
            if state.over {
                return;
            }
            let batch = state.next;
            if batch >= state.batches.len() || state.used >= state.max {
                state = self
                    .work
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.next += 1;
            state.used += 1;
            let batches = Arc::clone(&state.batches);
            let buf = state.free.pop().unwrap_or_default();
            drop(state);
            let result = fill(reader, &batches, batch, buf, page_size);
            state = self.lock();
            match result {
                Ok(filled) => {
                    state.filled.push(filled);
                    state.finished += 1;
                    state.took = state.began.map_or(Duration::ZERO, |began| now() - began);
                }
                Err(errno) => state.failed = Some(errno),
            }
            let all = state.finished == state.batches.len();
            if all || state.filled.len() >= state.max || state.failed.is_some() {
                self.done.notify_all();
            }
        }
    }
}

/// The real time: it measures the threads here and decides nothing.
#[expect(
    clippy::disallowed_methods,
    reason = "threads can't borrow the caller's clock"
)]
fn now() -> Instant {
    Instant::now()
}

/// Tells the waiting thread where one that copies panics.
struct Alarm<'a>(&'a Shared);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().failed = Some(Errno::EIO);
            self.0.done.notify_all();
        }
    }
}
