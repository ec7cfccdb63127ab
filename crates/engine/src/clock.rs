//! Time, as the caller gives it.

use std::time::Duration;

/// A clock that never goes back.
pub trait Clock: Sync {
    /// Returns the time since some fixed moment.
    fn now(&self) -> Duration;
}
