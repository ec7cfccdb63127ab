//! System calls, one file each: their checks in the kernel's order, and what they do.

pub mod exit;
pub mod fallocate;
pub mod fixed_buffer;
pub mod fork;
pub mod ftruncate;
pub mod madvise;
pub mod memfd;
pub mod mlock;
pub mod mmap;
pub(crate) mod moved;
pub mod mprotect;
pub mod mremap;
pub mod munmap;
pub mod pipe;
mod prctl;
pub mod process_vm;
pub mod rw;
pub mod vmsplice;
