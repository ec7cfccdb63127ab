//! A child process that obeys: it carries out memory operations from a list and writes down what
//! each of them gave, so that a kernel can be compared with a model of it.
//!
//! [`Script`] is the list: system calls from a fixed set, loads and stores, looks at the memory,
//! forks. [`Puppet`] is the child, and the children that it forks, each a *lane* of its own; a
//! lane may be a thread, too. The list and the answers lie on a board of shared memory,
//! and a batch of commands runs without switching back to the tool.
//!
//! # Safety of the machine
//!
//! * Only addresses of the [`Arena`] are ever named, or such as the kernel refuses.
//! * Only the calls of [`System`] are made: none of them reaches another process but by a lane.
//! * A lane has no descriptors of the tool, and ends when the tool does: all lanes, forked ones
//!   too, are children of the tool, which reaps them by their ids.
//! * A part of a private mapping of huge pages is never moved away from the rest ([`REFUSED`]):
//!   Linux forgets the reservation of the rest then, and the pages are lost until the next boot
//!   (seen on 6.18.44; `mm/mremap.c`, `clear_vma_resv_huge_pages` for the whole old mapping).
//! * Memory is bounded by the arena's size and by limits on locked memory, files and descriptors.

mod access;
mod arena;
mod board;
mod call;
mod clone;
mod command;
mod control;
mod lane;
mod look;
mod maps;
mod ring;
mod script;
mod signal;
mod state;

pub use arena::{Arena, Span};
pub use board::PATTERNS;
pub use command::{Arg, System};
pub use control::{Progress, Puppet, PuppetError, PuppetOptions};
pub use look::{Area, Look};
pub use script::{HugePages, LookToken, Reply, Script, ScriptError, Token, Transfer, Way};

/// How many lanes a puppet has room for.
pub const LANES: usize = 8;

/// The "signal" of a call that a lane did not make, because it would harm the machine.
pub const REFUSED: u32 = u32::MAX;

/// The number of the descriptor of slot 0: slots are descriptors of known numbers.
pub const FIRST_SLOT: u64 = 100;

/// The size of a page of this machine, in bytes.
pub fn page_size() -> u64 {
    rustix::param::page_size() as u64
}

#[cfg(test)]
mod tests;
