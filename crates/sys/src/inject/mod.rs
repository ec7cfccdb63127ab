//! Making a stopped process call the kernel.
//!
//! One of its stopped tasks is sent through a `syscall; ret` (arm64: `svc #0; ret`) that the
//! process has in its own code, with its registers put back by ptrace afterwards. The return address behind that `ret`
//! leads to the process's own `rt_sigreturn` code and to a signal frame with the task's original
//! registers, extended state and signal mask: so if the tracer dies between any two
//! instructions, the task brings itself back. The frame lies in dead memory of the main stack.
//! Nothing of the process's code is changed, and nothing is mapped.
//!
//! What the emergency way costs: a task that waits in a call which only `restart_syscall` can
//! continue gets `EINTR` there, because `rt_sigreturn` forgets the restart block. Tasks that do
//! not are preferred.

mod call;
mod candidate;
mod fork;
mod gadget;
mod scratch;
mod seccomp;

pub use call::InjectError;
pub(crate) use call::{Caller, Rehearsed, Site, rehearse};
pub(crate) use fork::{Child, end, end_within, fork, left_behind, reap};
pub(crate) use seccomp::{Purpose, allows_restart, treats_alike};

/// The arguments of the `userfaultfd` call that is injected.
pub(crate) fn track_args() -> [u64; 6] {
    use rustix::fs::OFlags;
    let flags = u64::from((OFlags::CLOEXEC | OFlags::NONBLOCK).bits())
        | crate::uapi::userfaultfd::UFFD_USER_MODE_ONLY;
    [flags, 0, 0, 0, 0, 0]
}
