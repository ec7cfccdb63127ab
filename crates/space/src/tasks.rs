//! Tasks: stopping them all, what their registers hold, and what is known of their process.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{AddressSpace, Errno};

/// One set of registers, in the form of a core's note (`NT_PRSTATUS`' `pr_reg`, `NT_PRFPREG`,
/// `NT_X86_XSTATE`, …), as `PTRACE_GETREGSET` gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterSet {
    /// The note's type, as in `include/uapi/linux/elf.h`: 1 for the general registers.
    pub note: u32,
    /// The registers, in the kernel's layout for the architecture.
    pub bytes: Vec<u8>,
}

/// One task (thread) at the instant of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskState {
    /// Its id in our pid namespace.
    pub tid: u32,
    /// Its name (`comm`).
    pub name: String,
    /// The signal it is stopped with, or 0.
    pub signal: i32,
    /// Signals pending for it alone, bit 0 for signal 1.
    pub signals_pending: u64,
    /// Signals it has blocked.
    pub signals_blocked: u64,
    /// Its `siginfo_t`, where it is stopped with a signal; else empty.
    pub siginfo: Vec<u8>,
    /// Time spent in user mode.
    pub user_time: Duration,
    /// Time spent in the kernel.
    pub system_time: Duration,
    /// Its registers, the general ones first.
    pub registers: Vec<RegisterSet>,
}

/// What is known of the process as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessState {
    /// Its id in our pid namespace.
    pub pid: u32,
    /// The id of its parent.
    pub parent: u32,
    /// Its process group.
    pub process_group: u32,
    /// Its session.
    pub session: u32,
    /// The real user id.
    pub uid: u32,
    /// The real group id.
    pub gid: u32,
    /// Its nice value, -20 to 19.
    pub nice: i32,
    /// The kernel's `PF_*` flags.
    pub flags: u64,
    /// Its name (`comm` of the first task).
    pub name: String,
    /// Its arguments.
    pub command_line: Vec<String>,
    /// The file it runs.
    pub executable: String,
    /// The auxiliary vector, in the kernel's bytes.
    pub auxv: Vec<u8>,
    /// `/proc/PID/limits`, as text.
    pub limits: String,
    /// The ELF machine number: 62 for x86_64, 183 for arm64.
    pub machine: u16,
}

/// How long tasks stood still, and what for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopLength {
    /// What they were stopped for: `attach`, `reap`, …
    pub why: String,
    /// From the first request to stop one to the last resume.
    pub length: Duration,
}

/// All tasks that share one address space, to be stopped together.
pub trait Freeze {
    /// A duplicate of the memory that [`fork`](Self::fork) makes.
    type Twin: AddressSpace;

    /// Stops every task that shares the memory, returns when all stand still, and tells how much
    /// time has passed since the first of them was asked to. On an error all run again.
    ///
    /// # Errors
    ///
    /// [`Errno::ETIMEDOUT`] where a task did not stop within `limit`, [`Errno::ESRCH`] where the
    /// process is gone, [`Errno::EPERM`] where one may not be stopped.
    fn stop(&mut self, limit: Duration) -> Result<Duration, Errno>;

    /// Reads the registers of all stopped tasks, the first task of the process first.
    ///
    /// # Errors
    ///
    /// [`Errno::ESRCH`] where a task died.
    fn tasks(&mut self) -> Result<Vec<TaskState>, Errno>;

    /// Duplicates the memory while the tasks stand still: private memory as it is now.
    ///
    /// # Errors
    ///
    /// [`Errno::ENOSYS`] where this target can't be made to, [`Errno::ETIMEDOUT`] where it took
    /// longer than `limit`: then a task may still be about it, and nothing can be done with the
    /// tasks but to [`resume`](Self::resume) them; others of `fork`.
    fn fork(&mut self, limit: Duration) -> Result<Self::Twin, Errno>;

    /// Has the stopped tasks let go when `limit` has passed from now, whatever the caller does or
    /// waits for then. Each call sets the limit anew; without one they stand still until
    /// [`resume`](Self::resume).
    fn hold(&mut self, limit: Duration);

    /// Lets all tasks run again, and tells how much time has passed since the last of them was
    /// let go: none where they ran already.
    ///
    /// # Errors
    ///
    /// [`Errno::ETIMEDOUT`] where they were let go before, because the limit of
    /// [`hold`](Self::hold) had passed: what was found since the stop is not of one instant.
    fn resume(&mut self) -> Result<Duration, Errno>;

    /// Ends a duplicate; this may stop the tasks for a moment.
    ///
    /// # Errors
    ///
    /// Those of stopping; the duplicate is ended in any case.
    fn reap(&mut self, twin: Self::Twin) -> Result<StopLength, Errno>;
}
