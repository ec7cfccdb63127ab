//! What is known of the target from one look to the next.
//!
//! [`Tracker`] is the state. [`rounds`](round) ask what was written and arm it again while the
//! target runs; a [`Look`] tells, without changing anything, what a snapshot would have to copy at
//! that instant: while the target runs it is an estimate, in the freeze it is the truth.
//! [`Watcher`] is the same machinery for those who want to know and not to copy.

mod activity;
mod continuity;
mod look;
mod round;
mod sample;
mod sorted;
mod tracker;

pub use activity::{Activity, LookLimits, MappingActivity, WatchError, Watched, Watcher};
pub(crate) use look::{Depth, Look};
pub(crate) use round::Armed;
pub use tracker::Tracker;
pub(crate) use tracker::{Rearmed, Wish};
