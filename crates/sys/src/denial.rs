//! Why the kernel does not let us look into a process, and what to do about it.
//!
//! It says no more than `EPERM`, so this looks at all that it may have looked at.
//!
//! Linux reference (6.18): `__ptrace_may_access` in `kernel/ptrace.c`, `cap_ptrace_access_check` in
//! `security/commoncap.c`, `security/yama/yama_lsm.c`.

use std::fs;

use crate::doctor::{CAP_SYS_PTRACE, capable};
use crate::namespace;
use crate::procfs::{Process, Status};

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To read what `/proc` tells of a process, or to compare it with another.
    Look,
    /// To trace it, or to open its memory.
    Trace,
}

/// Why a process may not be looked into or traced. As text it says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denial {
    /// It is another user's, and we are not root.
    #[error("it runs as user {0}: run as that user, or as root")]
    AnotherUser(u32),
    /// Root's rights are less than usual.
    #[error(
        "this root lacks CAP_SYS_PTRACE, as in most containers: give it (docker: --cap-add \
         SYS_PTRACE), or run on the host"
    )]
    NoCapability,
    /// Yama keeps one from tracing one's own processes.
    #[error("{}", yama(*.scope))]
    Yama {
        /// What `kernel.yama.ptrace_scope` says.
        scope: u32,
    },
    /// It is ours, and has more rights than we or does not let itself be looked at.
    #[error(
        "it is this user's, but has rights or groups that we lack, or keeps others out (set-user-ID, \
         a program file that can't be read, PR_SET_DUMPABLE): run as root"
    )]
    Protected,
    /// We have the right, but only in a user namespace.
    #[error(
        "we are root in a user namespace only, and it belongs to another one, or a security module \
         keeps us out: run on the host, outside of containers"
    )]
    Namespace,
    /// We have every right.
    #[error(
        "we have CAP_SYS_PTRACE, so a security module (SELinux, AppArmor) forbids it: see the \
         kernel's log"
    )]
    SecurityModule,
    /// The process may be looked into, so the call itself is refused.
    #[error(
        "the process may be looked into, so a filter refuses us the call, as in some containers: \
         allow ptrace and kcmp there, or run on the host"
    )]
    Filter,
}

impl Denial {
    /// Finds out why task `tid` may not be looked into.
    pub(crate) fn of(tid: u32, asked: Asked) -> Self {
        let process = Process::open(tid);
        let probe = match asked {
            Asked::Look => "maps",
            Asked::Trace => "mem",
        };
        if process.as_ref().is_ok_and(|it| it.opens(probe).is_ok()) {
            return Self::Filter;
        }
        let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
        let scope = scope.ok().and_then(|text| text.trim().parse().ok());
        judge(&Facts {
            user: rustix::process::geteuid().as_raw(),
            capable: capable(CAP_SYS_PTRACE),
            in_user_namespace: namespace::is_inside_user(),
            yama_scope: match asked {
                Asked::Look => 0,
                Asked::Trace => scope.unwrap_or(0),
            },
            theirs: process.and_then(|process| process.status()).ok(),
        })
    }
}

/// What the kernel's answer rests on.
struct Facts {
    user: u32,
    capable: bool,
    in_user_namespace: bool,
    /// 0 also where Yama was not asked.
    yama_scope: u32,
    theirs: Option<Status>,
}

fn judge(facts: &Facts) -> Denial {
    let scope = facts.yama_scope;
    if facts.capable {
        return match (scope > 2, facts.in_user_namespace) {
            (true, _) => Denial::Yama { scope },
            (_, true) => Denial::Namespace,
            _ => Denial::SecurityModule,
        };
    }
    let strange = facts.theirs.as_ref().and_then(|theirs| {
        let ids = [theirs.user.real, theirs.user.effective, theirs.user.saved];
        ids.into_iter().find(|&id| id != facts.user)
    });
    match (strange, facts.user) {
        (Some(_), 0) => Denial::NoCapability,
        (Some(user), _) => Denial::AnotherUser(user),
        (None, _) if scope > 0 => Denial::Yama { scope },
        // What it has more than we is a right, if anything.
        (None, 0) => Denial::NoCapability,
        (None, _) => Denial::Protected,
    }
}

fn yama(scope: u32) -> &'static str {
    match scope {
        1 => {
            "Yama lets one trace only one's own descendants (kernel.yama.ptrace_scope is 1): run as \
             root, or `sudo sysctl -w kernel.yama.ptrace_scope=0`"
        }
        2 => {
            "Yama lets nobody trace without CAP_SYS_PTRACE (kernel.yama.ptrace_scope is 2): run as root"
        }
        _ => "Yama lets nobody trace until the next boot (kernel.yama.ptrace_scope is 3)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::Ids;

    fn of(user: u32) -> Option<Status> {
        Some(Status {
            user: Ids {
                real: user,
                effective: user,
                saved: user,
                file_system: user,
            },
            ..Status::default()
        })
    }

    /// What one user is told of a process of user 7.
    fn told(user: u32, capable: bool, in_user_namespace: bool, yama_scope: u32) -> Denial {
        judge(&Facts {
            user,
            capable,
            in_user_namespace,
            yama_scope,
            theirs: of(7),
        })
    }

    #[test]
    fn what_the_kernel_looked_at() {
        assert_eq!(told(5, false, false, 1), Denial::AnotherUser(7));
        assert_eq!(told(0, false, true, 0), Denial::NoCapability);
        assert_eq!(told(7, false, false, 1), Denial::Yama { scope: 1 });
        assert_eq!(told(7, false, false, 0), Denial::Protected);
        assert_eq!(told(0, true, false, 1), Denial::SecurityModule);
        assert_eq!(told(0, true, true, 2), Denial::Namespace);
        assert_eq!(told(0, true, true, 3), Denial::Yama { scope: 3 });
    }

    #[test]
    fn a_set_user_id_program_is_another_users() {
        let mut theirs = of(7);
        theirs.as_mut().unwrap().user.effective = 0;
        let facts = Facts {
            user: 7,
            capable: false,
            in_user_namespace: false,
            yama_scope: 0,
            theirs,
        };
        assert_eq!(judge(&facts), Denial::AnotherUser(0));
    }

    #[test]
    fn who_may_look_is_told_of_a_filter() {
        assert_eq!(Denial::of(std::process::id(), Asked::Trace), Denial::Filter);
    }
}
