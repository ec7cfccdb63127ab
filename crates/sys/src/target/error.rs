//! Why a process can't be worked on.

use std::time::Duration;

use space::Errno;

use crate::denial::Denial;
use crate::inject::InjectError;
use crate::task::{SharingError, StopError};

/// Why a process can't be opened. Nothing of it was touched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is none of that id.
    #[error("there is no process {0}")]
    NoProcess(u32),
    /// The id is that of a thread.
    #[error("{tid} is a thread of process {pid}; name the process")]
    Thread {
        /// The thread.
        tid: u32,
        /// Its process.
        pid: u32,
    },
    /// It is a thread of the kernel.
    #[error("process {0} is a thread of the kernel and has no memory of its own")]
    KernelThread(u32),
    /// It has ended.
    #[error("process {0} has ended and waits for its parent (a zombie); its memory is gone")]
    Zombie(u32),
    /// It is ourselves.
    #[error("process {0} is this program itself, which can't stop itself")]
    Ourselves(u32),
    /// Somebody traces it.
    #[error(
        "process {pid} is traced already by process {tracer}; a process has one tracer at a time: \
         detach that one (gdb: `detach`), or end it"
    )]
    Traced {
        /// The process.
        pid: u32,
        /// Its tracer.
        tracer: u32,
    },
    /// It is a program of another width.
    #[error("process {0} is a 32-bit program, which this version does not support")]
    ThirtyTwoBit(u32),
    /// We may not look into it.
    #[error("process {pid} may not be traced ({errno}): {why}")]
    Denied {
        /// The process.
        pid: u32,
        /// What the kernel said.
        errno: Errno,
        /// Why.
        why: Denial,
    },
    /// A child uses its memory, or it is such a child, and the parent waits for it.
    #[error(
        "process {pid} can't be stopped just now: process {parent} waits for its child {child} to call \
         execve or exit (vfork), and both use the same memory; try again when it has"
    )]
    Vfork {
        /// The process.
        pid: u32,
        /// The process that waits.
        parent: u32,
        /// The child that it waits for.
        child: u32,
    },
    /// Not all processes that share its memory are known.
    #[error(transparent)]
    Sharing(SharingError),
    /// Something could not be read.
    #[error("process {pid}: {what} can't be read: {errno}")]
    Failed {
        /// The process.
        pid: u32,
        /// What was read.
        what: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
}

impl From<SharingError> for OpenError {
    fn from(error: SharingError) -> Self {
        match error {
            SharingError::Gone(pid) => Self::NoProcess(pid),
            error => Self::Sharing(error),
        }
    }
}

/// Why the writes of a process can't be tracked. It goes on as before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrackError {
    /// It could not be stopped.
    #[error(transparent)]
    Stop(#[from] StopError),
    /// It could not be made to call the kernel.
    #[error(transparent)]
    Inject(#[from] InjectError),
    /// Its kernel has no way.
    #[error(
        "this kernel has neither asynchronous write protection with PAGEMAP_SCAN nor soft-dirty bits: \
         boot Linux 6.7 or newer with CONFIG_USERFAULTFD, or one with CONFIG_MEM_SOFT_DIRTY \
         (`onionskin doctor` shows what is there)"
    )]
    NoWay,
    /// Soft-dirty bits were asked for.
    #[error("this kernel has no soft-dirty bits")]
    NoSoftDirty,
    /// Soft-dirty bits alone don't tell of page tables that were moved.
    #[error(
        "only soft-dirty bits are left to track writes with, and they need CAP_SYS_ADMIN, to see the frames behind pages: run as root"
    )]
    NoFrames,
    /// The kernel refused a userfaultfd.
    #[error("the process can't have a userfaultfd: {0}")]
    Userfaultfd(Errno),
    /// Another step failed.
    #[error("{what} failed: {errno}")]
    Failed {
        /// The step.
        what: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
}

/// Why some memory of a process could not be registered for tracking in time. All of it is copied in
/// the freeze, and it is tried again with the next snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LateRegistration {
    /// The process could not be stopped for it.
    #[error(transparent)]
    Stop(StopError),
    /// There were more mappings, or larger ones, than could be registered while it stood still.
    #[error("it took longer than the {0:.1?} that the process is to stand still for it at most")]
    Slow(Duration),
}

impl TrackError {
    /// Tells whether it was only the time that was too short, so that a moment later it may be enough.
    pub fn is_late(&self) -> bool {
        matches!(
            self,
            Self::Stop(
                StopError::TimedOut { .. }
                    | StopError::Executing { .. }
                    | StopError::Vfork { .. }
                    | StopError::Failed {
                        errno: Errno::ETIMEDOUT,
                        ..
                    }
            ) | Self::Inject(InjectError::TimedOut(_))
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_moment_later_may_be_in_time_is_late() {
        let limit = Duration::from_millis(1);
        let failed = |errno| StopError::Failed { tid: 7, errno };
        for late in [
            StopError::Executing { pid: 7, limit }.into(),
            StopError::Vfork { tid: 7, child: 8 }.into(),
            failed(Errno::ETIMEDOUT).into(),
            TrackError::Inject(InjectError::TimedOut(limit)),
        ] {
            assert!(late.is_late(), "{late}");
        }
        for other in [
            StopError::Gone { pid: 7 }.into(),
            failed(Errno::EPERM).into(),
            TrackError::Inject(InjectError::Died),
        ] {
            assert!(!other.is_late(), "{other}");
        }
    }
}
