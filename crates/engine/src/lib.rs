//! What Onionskin does: it tracks which memory a process writes, and takes snapshots of it, over
//! the traits of `space`. No system call is made here, so that the same code runs on a live
//! process, on the model and on a fake with a seeded scheduler.
//!
//! * [`select()`] decides which memory belongs in a snapshot, and how far its page tables can be
//!   trusted ([`Class`]).
//! * [`Tracker`] keeps what is known of the target from one look to the next: what is tracked,
//!   and which pages' contents are with the sink already.
//! * [`take`] takes one snapshot: rounds while the target runs, one freeze, and the rest after it.
//! * [`Watcher`] tells which pages are written, and reads none but a small sample.
//! * [`Costs`] remembers what stopping, scanning, copying and forking cost, and forecasts a freeze;
//!   [`auto`] does so for a process of which only the pace of its writes is known.
//!
//! # Determinism
//!
//! Time comes through [`Clock`]. With [`Options::threads`] at 0, or without the feature `drive`,
//! all is done in the calling thread and in the same order every time.
#![forbid(unsafe_code)]

mod carry;
mod clock;
#[cfg(feature = "drive")]
mod drive;
mod select;
mod snapshot;
mod track;

pub use clock::Clock;
pub use select::{Class, Part, Selection, select};
pub use snapshot::{
    Costs, Doubt, Event, Forecast, Forks, FreezeTimes, Load, Observer, Options, Outlook, Pace,
    Round, Silent, SnapshotError, Stay, Strategy, Taken, Verified, Verifier, Verify, auto, take,
};
pub use track::{Activity, LookLimits, MappingActivity, Tracker, WatchError, Watched, Watcher};
