//! What the target's heartbeat shows of a freeze.

use std::time::Duration;

use onionskin::{Event, Observer};

use super::heartbeat::Heartbeat;

/// Looks at the heartbeat just before a freeze and just after it.
pub(crate) struct Gaps<'a> {
    heartbeat: &'a Heartbeat,
    /// The largest gap of any thread, and the smallest of the threads' largest.
    pub(crate) seen: Option<(Duration, Duration)>,
}

impl<'a> Gaps<'a> {
    /// Looks at that one.
    pub(crate) fn of(heartbeat: &'a Heartbeat) -> Self {
        Self {
            heartbeat,
            seen: None,
        }
    }
}

impl Observer for Gaps<'_> {
    fn event(&mut self, event: &Event) {
        match event {
            // Neither can fail but with the target, which the snapshot notices.
            Event::Freezing => {
                let _ = self.heartbeat.forget_gaps();
            }
            Event::Resumed { .. } => self.seen = self.heartbeat.gaps().ok(),
            _ => {}
        }
    }
}
