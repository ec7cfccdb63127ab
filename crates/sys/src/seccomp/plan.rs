//! The decision whether calls may be injected.

use space::Errno;

use super::filter::Filter;
use super::foreseen::Foreseen;
use super::verdict::{SeccompData, Verdict, foresee};
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
    /// Tells everything that may happen to a call.
    ///
    /// # Errors
    ///
    /// [`Reason::Unreadable`] where the filters are not known.
    pub fn foresee(&self, call: &Foreseen) -> Result<Vec<Verdict>, Reason> {
        match self {
            Self::None => Ok(vec![Verdict::Allow]),
            Self::Strict if strict_allows(call) => Ok(vec![Verdict::Allow]),
            Self::Strict => Ok(vec![Verdict::KillProcess]),
            Self::Filters(filters) => Ok(foresee(filters, call)),
            Self::Unreadable(errno) => Err(Reason::Unreadable(*errno)),
        }
    }

    /// Tells whether a call is let through, whatever is not known of it.
    pub fn allows(&self, call: &Foreseen) -> bool {
        self.foresee(call)
            .is_ok_and(|verdicts| verdicts.into_iter().all(Verdict::lets_through))
    }
}

/// Tells whether strict mode lets a call through.
///
/// Only calls of the machine's own convention are ever injected, so those of another are not
/// looked up: they count as refused.
fn strict_allows(call: &Foreseen) -> bool {
    let allowed = [
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_exit,
        libc::SYS_rt_sigreturn,
    ];
    let number = call.nr().map(i64::from);
    call.arch() == Some(SeccompData::NATIVE_ARCH)
        && number.is_some_and(|number| allowed.contains(&number))
}

/// What a call that is to be injected must achieve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It must be carried out: an error of a filter would be in the way.
    Success,
    /// It may fail with an error: it only tidies up, or stands by for an emergency.
    MayFail,
    /// The filters themselves must let it through: it is made when we are dead, and nothing is
    /// suspended any more.
    LetThrough,
}

/// A call that is to be injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The call as it will be made, as far as that is known.
    pub data: Foreseen,
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
    /// A filter lets the call through or not, as an argument or the place of the code says that is
    /// not known before it is made.
    #[error(
        "whether the target's seccomp filter lets the system call {} through or ends it for that \
         hangs on an argument that is not known before the call", named(*.nr)
    )]
    Depends {
        /// The number of the call.
        nr: u32,
    },
    /// A filter answers a call with an error that must be made if the tracer dies.
    #[error(
        "the target's seccomp filter would answer the system call {} with an error ({errno}), and it \
         needs that one to go on should Onionskin be killed meanwhile", named(*.nr)
    )]
    NoWayBack {
        /// The number of the call.
        nr: u32,
        /// The error.
        errno: Errno,
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
        let verdicts = match restriction.foresee(&call.data) {
            Ok(verdicts) => verdicts,
            Err(reason) => return Self::Never(reason),
        };
        let nr = call.data.nr().unwrap_or(u32::MAX);
        let plans = verdicts.iter().map(|&verdict| match verdict {
            Verdict::Allow | Verdict::Log => Self::Inject,
            Verdict::Errno(errno) => match call.need {
                Need::Success => Self::InjectSuspended(errno),
                Need::MayFail => Self::Inject,
                Need::LetThrough => Self::Never(Reason::NoWayBack { nr, errno }),
            },
            Verdict::Trap(_) => Self::Never(Reason::Trap { nr }),
            Verdict::UserNotification => Self::Never(Reason::Supervisor { nr }),
            Verdict::Trace(_) => Self::Never(Reason::Tracer { nr }),
            Verdict::KillProcess | Verdict::KillThread => Self::Never(Reason::Kill { nr }),
        });
        let plans: Vec<Self> = plans.collect();
        let worst = plans.iter().copied().max_by_key(Self::severity);
        match worst.expect("something happens to a call") {
            Self::Never(_) if plans.iter().any(|plan| plan.severity() < 2) => {
                Self::Never(Reason::Depends { nr })
            }
            worst => worst,
        }
    }

    /// The higher, the worse.
    fn severity(&self) -> u8 {
        match self {
            Self::Inject => 0,
            Self::InjectSuspended(_) => 1,
            Self::Never(_) => 2,
        }
    }
}
