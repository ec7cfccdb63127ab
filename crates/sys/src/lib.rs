//! Linux itself: everything Onionskin asks of the kernel, and all of its unsafe code.
//!
//! Three levels: `uapi` holds the kernel's constants and structures, each checked against its
//! encoding; `raw` has one function for a system call and is the only place with unsafe code;
//! all else is safe code over descriptors that are owned.

mod arch;
mod denial;
pub mod doctor;
pub mod hazard;
mod inject;
mod memory;
mod namespace;
mod priority;
pub mod procfs;
#[cfg(test)]
mod programs;
pub mod puppet;
mod raw;
pub mod seccomp;
mod target;
mod task;
mod uapi;

pub use denial::Denial;
pub use inject::InjectError;
pub use memory::MemoryReader;
pub use priority::give_way;
pub use target::{
    LateCall, LateRegistration, OpenError, STOP_LIMIT, Target, TrackError, TrackWish, Twin,
};
pub use task::{SharingError, StopError};
