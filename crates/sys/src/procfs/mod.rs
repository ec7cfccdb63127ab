//! What `/proc` tells of processes, parsed.
//!
//! Parsers are pure functions over bytes: they take what they understand, say which line they
//! don't, and never panic. [`Process`] reads the files through a descriptor of the process's
//! directory, so that a process that dies and whose number is given away is never confused with
//! its successor.
//!
//! Linux reference (6.18): `fs/proc/task_mmu.c` (`maps`, `smaps`), `fs/proc/array.c` (`stat`,
//! `status`), `fs/proc/fd.c` (`fd`, `fdinfo`).

mod descriptors;
mod error;
mod executable;
mod list;
mod maps;
mod page;
mod process;
mod smaps;
mod stat;
mod state;
mod status;
mod text;

pub use descriptors::{Descriptor, FdInfo};
pub use error::ProcfsError;
pub use executable::{ElfClass, ElfKind};
pub use list::processes;
pub use maps::parse as parse_maps;
pub use page::base_page_size;
pub use process::Process;
pub use smaps::{Smap, parse as parse_smaps};
pub use stat::{RunState, Stat, TICKS_PER_SECOND, ticks_length};
pub use state::process_state;
pub use status::{Ids, SeccompMode, SignalSets, Status};

#[cfg(test)]
mod tests;
