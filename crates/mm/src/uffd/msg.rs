//! What is read from a userfaultfd.

use crate::machine::{Fd, Pid};

/// What is read from a userfaultfd (`struct uffd_msg`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UffdMsg {
    /// A thread waits for a page.
    Pagefault {
        /// `UFFD_PAGEFAULT_FLAG_*`.
        flags: u64,
        /// The address.
        address: u64,
        /// The thread, if `UFFD_FEATURE_THREAD_ID` was asked for, else 0.
        ptid: u32,
    },
    /// The process forked.
    Fork {
        /// The descriptor of the child's userfaultfd, in the reader.
        fd: Fd,
        /// The child.
        child: Pid,
    },
    /// A mapping moved.
    Remap {
        /// From here.
        from: u64,
        /// To there.
        to: u64,
        /// How many bytes.
        len: u64,
    },
    /// Pages are about to go.
    Remove {
        /// From here.
        start: u64,
        /// Up to here.
        end: u64,
    },
    /// A mapping is gone.
    Unmap {
        /// From here.
        start: u64,
        /// Up to here.
        end: u64,
    },
}
