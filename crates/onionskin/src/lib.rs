//! Live memory for Linux: snapshot and watch running, unmodified processes.
//!
//! * [`Session`] takes snapshots of a process into a [`Store`]: its memory and registers at one
//!   instant, for a stop of milliseconds. Each further snapshot of a session is a layer that
//!   costs only what changed.
//! * [`Watch`] tells which memory a process writes, and how fast.
//! * [`export`] turns a snapshot into a core file that gdb opens.
//! * [`doctor`] tells what works on this machine and for a process, and what would change it.
//!
//! Whatever happens, the process goes on as if nothing had happened: errors, panics and the death
//! of this program included. This crate wires the parts together; the parts do the work: `sys`
//! talks to Linux, `engine` decides, `store` keeps, `formats` writes what others read.
#![forbid(unsafe_code)]

mod clock;
mod doubts;
mod error;
pub mod export;
pub mod report;
mod session;
mod sink;
mod snapshot;
mod watch;

pub use engine::{Event, Round, Selection, Strategy};
pub use error::{Error, RefusedError};
pub use session::{Session, SessionOptions, Tracking};
pub use snapshot::{Observer, Silent, SnapshotOptions};
pub use store::{self, Access, Snapshot, Store};
pub use sys::doctor;
pub use watch::Watch;

/// The words that all parts share: addresses, ranges of pages, mappings.
pub use space;
