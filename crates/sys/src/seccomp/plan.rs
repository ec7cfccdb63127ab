//! The decision whether calls may be injected.

use space::Errno;

use super::filter::Filter;
use super::verdict::{SeccompData, Verdict, evaluate};
use crate::arch::call;

/// What seccomp does to a task, as far as it could be found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restriction {
    /// Nothing (`Seccomp: 0` in `/proc/PID/status`).
    None,
    /// Strict mode (1): `read`, `write`, `exit` and `rt_sigreturn` only, anything else kills.
    Strict,
    /// Filters (mode 2), the oldest first.
    Filters(Vec<Filter>),
    /// Filters that could not be read, for that reason (`EACCES`: it takes `CAP_SYS_ADMIN`).
    Unreadable(Errno),
}

impl Restriction {
    /// Tells what would happen to a call.
    ///
    /// # Errors
    ///
    /// [`Reason::Unreadable`] where the filters are not known.
    pub fn verdict(&self, data: &SeccompData) -> Result<Verdict, Reason> {
        match self {
            Self::None => Ok(Verdict::Allow),
            Self::Strict if strict_allows(data) => Ok(Verdict::Allow),
            Self::Strict => Ok(Verdict::KillProcess),
            Self::Filters(filters) => Ok(evaluate(filters, data)),
            Self::Unreadable(errno) => Err(Reason::Unreadable(*errno)),
        }
    }
}

/// Tells whether strict mode lets a call through.
///
/// Only calls of the machine's own convention are ever injected, so those of another are not
/// looked up: they count as refused.
fn strict_allows(data: &SeccompData) -> bool {
    let allowed = [
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_exit,
        libc::SYS_rt_sigreturn,
    ];
    data.arch == SeccompData::NATIVE_ARCH && allowed.contains(&i64::from(data.nr))
}

/// What a call that is to be injected must achieve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It must be carried out: an error of a filter would be in the way.
    Success,
    /// It may fail with an error: it only tidies up, or stands by for an emergency.
    MayFail,
}

/// A call that is to be injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The call as it will be made, with the arguments that it will have.
    pub data: SeccompData,
    /// What it must achieve.
    pub need: Need,
}

/// Why nothing may be injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// A filter would end the process or the thread.
    #[error("the target's seccomp filter would kill it at the system call {}", named(*.nr))]
    Kill {
        /// The number of the call.
        nr: u32,
    },
    /// A filter would send a `SIGSYS`.
    #[error("the target's seccomp filter would send it a SIGSYS at the system call {}", named(*.nr))]
    Trap {
        /// The number of the call.
        nr: u32,
    },
    /// A filter would ask a supervisor, who knows nothing of us and may take its time.
    #[error("the target's seccomp filter would pass the system call {} to its supervisor", named(*.nr))]
    Supervisor {
        /// The number of the call.
        nr: u32,
    },
    /// A filter would stop the call for a tracer.
    #[error("the target's seccomp filter would stop the system call {} for a tracer", named(*.nr))]
    Tracer {
        /// The number of the call.
        nr: u32,
    },
    /// The filters are not known.
    #[error("the target's seccomp filters can't be read ({0}); it takes CAP_SYS_ADMIN")]
    Unreadable(Errno),
}

/// Names a call that we inject; another keeps its number.
fn named(nr: u32) -> String {
    let name = match u64::from(nr) {
        call::CLONE => "clone",
        call::CLOSE => "close",
        call::EXIT_GROUP => "exit_group",
        call::RESTART_SYSCALL => "restart_syscall",
        call::RT_SIGRETURN => "rt_sigreturn",
        call::USERFAULTFD => "userfaultfd",
        call::WAIT4 => "wait4",
        _ => return format!("number {nr}"),
    };
    name.to_owned()
}

/// What users can do about a [`Plan::Never`].
pub const NEVER_ADVICE: &str = "use --strategy freeze, which injects nothing";

/// What to do about a set of calls that all have to be injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Inject them: the filters let them through.
    Inject,
    /// Inject them with the filters suspended: this error would be in the way of one. Should the
    /// tracer die then, the target sees no more than that error.
    InjectSuspended(Errno),
    /// Don't: the target would not survive if the tracer died, or might hang.
    Never(Reason),
}

impl Plan {
    /// Decides for calls that are all to be made under the same restriction.
    ///
    /// One call that must not be injected decides against all; it wins over an error.
    pub fn decide(restriction: &Restriction, calls: &[Call]) -> Self {
        let mut plan = Self::Inject;
        for call in calls {
            match Self::for_call(restriction, call) {
                Self::Inject => {}
                Self::InjectSuspended(errno) if plan == Self::Inject => {
                    plan = Self::InjectSuspended(errno);
                }
                Self::InjectSuspended(_) => {}
                never @ Self::Never(_) => return never,
            }
        }
        plan
    }

    fn for_call(restriction: &Restriction, call: &Call) -> Self {
        let nr = call.data.nr;
        match restriction.verdict(&call.data) {
            Ok(Verdict::Allow | Verdict::Log) => Self::Inject,
            Ok(Verdict::Errno(errno)) => match call.need {
                Need::Success => Self::InjectSuspended(errno),
                Need::MayFail => Self::Inject,
            },
            Ok(Verdict::Trap(_)) => Self::Never(Reason::Trap { nr }),
            Ok(Verdict::UserNotification) => Self::Never(Reason::Supervisor { nr }),
            Ok(Verdict::Trace(_)) => Self::Never(Reason::Tracer { nr }),
            Ok(Verdict::KillProcess | Verdict::KillThread) => Self::Never(Reason::Kill { nr }),
            Err(reason) => Self::Never(reason),
        }
    }
}
