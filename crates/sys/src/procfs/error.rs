//! What may go wrong when `/proc` is read.

use space::Errno;
use thiserror::Error;

/// Why a process's files in `/proc` told nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProcfsError {
    /// The process (or task) does not exist any more.
    #[error("process {pid} is gone")]
    Gone {
        /// Its id.
        pid: u32,
    },
    /// A file could not be read.
    #[error("can't read {file} of process {pid}: {errno}")]
    Read {
        /// The process.
        pid: u32,
        /// The file, relative to the process's directory.
        file: String,
        /// What the kernel answered.
        errno: Errno,
    },
    /// A file has a line that no kernel writes.
    #[error("line {line} of {file} in /proc is not understood")]
    Malformed {
        /// The file.
        file: &'static str,
        /// The line, the first being 1.
        line: usize,
    },
}

impl ProcfsError {
    /// Returns the error number that says the same.
    pub fn errno(&self) -> Errno {
        match self {
            Self::Gone { .. } => Errno::ESRCH,
            Self::Read { errno, .. } => *errno,
            Self::Malformed { .. } => Errno::EIO,
        }
    }
}
