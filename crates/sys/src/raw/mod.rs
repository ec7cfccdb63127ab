//! One function for a system call: the only place with unsafe code.
//!
//! Each function takes types that make its call sound (borrowed descriptors, slices, references)
//! and returns the kernel's answer as it is.

pub(crate) mod memory;
pub(crate) mod pagemap;
pub(crate) mod process;
pub(crate) mod ptrace;
pub(crate) mod scratch;
pub(crate) mod userfaultfd;
pub(crate) mod wait;

use space::Errno;

/// Turns the answer of a call that returns -1 on failure into a result.
pub(crate) fn check(answer: libc::c_long) -> Result<u64, Errno> {
    u64::try_from(answer).map_err(|_| Errno::from(std::io::Error::last_os_error()))
}
