//! Linux's memory management as a model that can be run.
//!
//! [`Machine`] is a computer with processes and nothing but memory. Every operation on memory that
//! Linux has is a method of it, takes what the system call takes, and ends as it would end there:
//! with the same result or error number, the same signal, the same page table entries. The model
//! makes no system calls, knows no time and no chance, and forbids unsafe code.
//!
//! ```
//! use mm::{Arch, Kernel, Machine, Profile};
//!
//! let mut machine = Machine::new(Profile::new(Kernel::V6_18, Arch::X86_64));
//! let tid = machine.spawn();
//! assert!(machine.load(tid, 0x1000, &mut [0]).is_err(), "nothing is mapped yet");
//! ```
//!
//! The `README.md` of the crate teaches what there is to know of Linux's memory management, and
//! shows where each part lives here.
#![forbid(unsafe_code)]
#![expect(
    clippy::missing_panics_doc,
    reason = "a panic here means that the model broke a rule of its own"
)]

pub mod access;
pub mod call;
pub mod entry;
mod failure;
mod fault;
pub mod file;
pub mod folio;
mod gup;
pub mod invariant;
mod lock;
pub mod machine;
pub mod pin;
pub mod pipe;
mod populate;
pub mod profile;
mod protect;
pub mod readout;
mod relocate;
mod rmap;
pub mod space;
pub mod stop;
pub mod swap;
pub mod table;
mod thp;
pub mod uapi;
pub mod uffd;
pub mod vma;
mod zap;

#[cfg(test)]
mod reclaim_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod thp_tests;
#[cfg(test)]
mod transfer_tests;

pub use ::space::Errno;
pub use call::mmap::Mmap;
pub use call::mremap::Mremap;
pub use call::process_vm::Iovec;
pub use invariant::Violation;
pub use machine::{Fd, Machine, Pid, Tid};
pub use profile::{Arch, CowPolicy, Hgm, HgmCounting, Kernel, Profile};
pub use readout::scan::{PageRegion, PagemapScan, ScanReply};
pub use stop::{Signal, Stop, Trap, Wait};
