//! What Onionskin tells: plain values that serialise to the JSON of the command line.
//!
//! [`SnapshotReport`] is what one snapshot cost and how far it can be trusted,
//! [`WatchInterval`] what a process wrote in one interval. Times are milliseconds, sizes bytes,
//! address ranges text as in `/proc/PID/maps` (`7f0012340000-7f0012350000`).

mod heat;
mod range_text;
mod snapshot;
mod time;
mod watch;

pub use heat::{HEAT_CELLS, Heat};
pub use snapshot::{
    Consistency, Doubt, FreezeParts, OtherStop, SnapshotReport, Strategy, Verification,
};
pub use time::Timestamp;
pub use watch::{Forecast, FreezeForecast, MappingActivity, Tracked, TrackingMode, WatchInterval};
