//! The clock that the engine is given.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Time since this value was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    begun: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            begun: Instant::now(),
        }
    }
}

impl engine::Clock for Clock {
    fn now(&self) -> Duration {
        self.begun.elapsed()
    }
}

/// Now, in nanoseconds since 1970.
pub(crate) fn now_ns() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
