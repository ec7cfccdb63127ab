//! Ctrl-C and SIGTERM: the first asks us to end well, the second ends us at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// The exit status of a program that Ctrl-C ended, by custom.
const ENDED_BY_SIGINT: i32 = 130;
/// How long a request to stop may stay unseen while we wait.
const PIECE: Duration = Duration::from_millis(50);

/// Knows whether the user asked us to stop.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Listens from now on.
    ///
    /// # Errors
    ///
    /// Those of installing a signal handler.
    pub(crate) fn listen() -> io::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order the first signal only sets the flag, and the second finds it set.
            flag::register_conditional_shutdown(signal, ENDED_BY_SIGINT, Arc::clone(&asked))?;
            flag::register(signal, Arc::clone(&asked))?;
        }
        Ok(Self(asked))
    }

    /// Tells whether we were asked to stop.
    pub(crate) fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits until `deadline`, or until asked to stop: then returns `true`.
    pub(crate) fn wait_until(&self, deadline: Instant) -> bool {
        while !self.asked() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            thread::sleep(left.min(PIECE));
        }
        true
    }
}
