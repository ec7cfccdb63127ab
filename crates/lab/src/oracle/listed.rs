//! What programs should reach: every success and error that the specification lists for an
//! operation, and why some can't be reached.
//!
//! `oracle run --coverage` shows what stayed at zero, with the reason. A test runs long enough to
//! reach all the rest.

use super::{Coverage, Subject};

/// Whether an ending can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// By any run that is long enough.
    Always,
    /// Where the machine has this (see `Subject::has`).
    With(&'static str),
    /// By no random program, for this reason.
    Never(&'static str),
}

use Reach::{Always, Never, With};

/// An ending that the specification lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The operation.
    pub operation: &'static str,
    /// The ending.
    pub ending: &'static str,
    /// Why it was not reached; `None` if there is no reason.
    pub reason: Option<String>,
}

const ROOT: Reach = Never("the oracle runs as root, who may do this");
const STRUCTURES: Reach = Never("programs pass structures that can be read and written");
const ENOUGH: Reach = Never("programs are too small to use up the machine's memory");
const POISON: Reach =
    Never("no page of the machine is poisoned by chance: only programs that people write do that");
const ONE_THREAD: Reach =
    Never("the oracle lets one lane go on at a time, so that no call meets another half done");
const CASES: Reach = Never(
    "programs with a handler have threads and no forks; the conformance cases wait for a fork event",
);
const LATER: Reach = With("kernel>=7.3");

/// Operation, ending, and whether it can be reached.
const LISTED: &[(&str, &[(&str, Reach)])] = &[
    (
        "mmap",
        &[
            ("ok", Always),
            ("EINVAL", Always),
            ("EEXIST", Always),
            ("ENOMEM", With("hugetlb")),
        ],
    ),
    ("munmap", &[("ok", Always), ("EINVAL", Always)]),
    (
        "mprotect",
        &[("ok", Always), ("EINVAL", Always), ("ENOMEM", Always)],
    ),
    (
        "mremap",
        &[("ok", Always), ("EINVAL", Always), ("EFAULT", Always)],
    ),
    (
        "madvise dontneed",
        &[("ok", Always), ("EINVAL", Always), ("ENOMEM", Always)],
    ),
    (
        "madvise dontneed-locked",
        &[("ok", Always), ("EINVAL", Always), ("ENOMEM", Always)],
    ),
    (
        "madvise free",
        &[("ok", Always), ("EINVAL", Always), ("ENOMEM", Always)],
    ),
    (
        "madvise remove",
        &[("ok", Always), ("EINVAL", Always), ("EACCES", Always)],
    ),
    (
        "madvise pageout",
        &[("ok", Always), ("EINVAL", Always), ("ENOMEM", Always)],
    ),
    (
        "madvise populate-read",
        &[
            ("ok", Always),
            ("EINVAL", Always),
            ("ENOMEM", Always),
            ("EFAULT", Always),
        ],
    ),
    (
        "madvise populate-write",
        &[
            ("ok", Always),
            ("EINVAL", Always),
            ("ENOMEM", Always),
            ("EFAULT", Always),
        ],
    ),
    (
        "madvise collapse",
        &[("ok", With("thp")), ("EINVAL", Always)],
    ),
    (
        "madvise hugepage",
        &[("ok", With("thp")), ("EINVAL", Always)],
    ),
    (
        "madvise nohugepage",
        &[("ok", With("thp")), ("EINVAL", Always)],
    ),
    ("madvise dontfork", &[("ok", Always), ("ENOMEM", Always)]),
    ("madvise wipeonfork", &[("ok", Always), ("EINVAL", Always)]),
    (
        "madvise guard-install",
        &[("ok", With("kernel>=6.18")), ("EINVAL", Always)],
    ),
    (
        "madvise guard-remove",
        &[("ok", With("kernel>=6.18")), ("EINVAL", Always)],
    ),
    ("madvise hwpoison", &[("ok", POISON)]),
    ("madvise soft-offline", &[("ok", POISON)]),
    (
        "mlock",
        &[("ok", Always), ("ENOMEM", Always), ("EINVAL", Always)],
    ),
    ("munlock", &[("ok", Always), ("ENOMEM", Always)]),
    (
        "mincore",
        &[("ok", Always), ("ENOMEM", Always), ("EINVAL", Always)],
    ),
    (
        "load",
        &[
            ("ok", Always),
            ("SIGSEGV 1", Always),
            ("SIGSEGV 2", Always),
            ("SIGBUS 2", Always),
            ("SIGBUS 4", With("memory-failure")),
            ("blocked", Always),
        ],
    ),
    (
        "store",
        &[
            ("ok", Always),
            ("SIGSEGV 1", Always),
            ("SIGSEGV 2", Always),
            ("SIGBUS 2", Always),
            ("SIGBUS 4", With("memory-failure")),
            ("blocked", Always),
        ],
    ),
    ("fork", &[("ok", Always), ("blocked", CASES)]),
    ("exit", &[("ended", Always)]),
    ("memfd", &[("ok", Always), ("EINVAL", Always)]),
    (
        "ftruncate",
        &[("ok", Always), ("EINVAL", Always), ("EPERM", Always)],
    ),
    (
        "fallocate",
        &[
            ("ok", Always),
            ("EINVAL", Always),
            ("EPERM", Always),
            ("EOPNOTSUPP", Always),
        ],
    ),
    ("vmsplice", &[("ok", Always), ("EFAULT", Always)]),
    ("vm-read", &[("ok", Always), ("EFAULT", Always)]),
    ("vm-write", &[("ok", Always), ("EFAULT", Always)]),
    (
        "pin",
        &[("ok", Always), ("EFAULT", Always), ("EBUSY", Always)],
    ),
    ("clear-refs", &[("ok", Always), ("EINVAL", Always)]),
    (
        "scan",
        &[
            ("ok", Always),
            ("EINVAL", Always),
            ("EPERM", Always),
            ("EFAULT", Always),
        ],
    ),
    (
        "userfaultfd",
        &[("ok", Always), ("EINVAL", Always), ("EPERM", ROOT)],
    ),
    (
        "api",
        &[
            ("ok", Always),
            ("EINVAL", Always),
            ("EPERM", ROOT),
            ("EFAULT", STRUCTURES),
        ],
    ),
    (
        "register",
        &[
            ("ok", Always),
            ("EINVAL", Always),
            ("EPERM", Always),
            ("EBUSY", Always),
            ("ENOMEM", Always),
            ("EFAULT", STRUCTURES),
        ],
    ),
    (
        "unregister",
        &[
            ("ok", Always),
            ("EINVAL", Always),
            ("ENOMEM", Always),
            ("EFAULT", STRUCTURES),
        ],
    ),
    (
        "wake",
        &[("ok", Always), ("EINVAL", Always), ("EFAULT", STRUCTURES)],
    ),
    (
        "copy",
        &[
            ("ok", Always),
            ("EAGAIN", Always),
            ("EINVAL", Always),
            ("ENOENT", Always),
            ("EEXIST", Always),
            ("EFAULT", Always),
            ("ENOMEM", ENOUGH),
            ("ESRCH", Always),
        ],
    ),
    (
        "zeropage",
        &[
            ("ok", Always),
            ("EAGAIN", Always),
            ("EINVAL", Always),
            ("ENOENT", Always),
            ("EEXIST", Always),
        ],
    ),
    (
        "continue",
        &[
            ("ok", Always),
            ("EAGAIN", Always),
            ("EINVAL", Always),
            ("ENOENT", Always),
            ("EEXIST", Always),
            ("EFAULT", Always),
            ("EIO", POISON),
        ],
    ),
    (
        "poison",
        &[
            ("ok", Always),
            ("EAGAIN", Always),
            ("EINVAL", Always),
            ("ENOENT", Always),
            ("EEXIST", Always),
        ],
    ),
    (
        "writeprotect",
        &[
            ("ok", Always),
            ("EAGAIN", Always),
            ("EINVAL", Always),
            ("ENOENT", Always),
        ],
    ),
    (
        "move",
        &[
            ("ok", Always),
            ("EAGAIN", ONE_THREAD),
            ("EINVAL", Always),
            ("ENOENT", Always),
            ("EEXIST", Always),
            ("EBUSY", Always),
        ],
    ),
    ("rwprotect", &[("ok", LATER)]),
    ("set-mode", &[("ok", LATER)]),
    (
        "read-event",
        &[("ok", Always), ("EAGAIN", Always), ("EINVAL", Always)],
    ),
];

/// What the specification lists and a run on this machine did not reach.
pub fn missed(coverage: &Coverage, subject: &Subject) -> Vec<Missed> {
    let mut missed = Vec::new();
    for &(operation, endings) in LISTED {
        for &(ending, reach) in endings {
            let seen = coverage
                .rows()
                .any(|row| row.operation == operation && row.ending.to_string() == ending);
            if seen {
                continue;
            }
            let reason = match reach {
                Always => None,
                With(need) if subject.has(need) => None,
                With(need) => Some(format!("this machine is without {need}")),
                Never(reason) => Some(reason.to_owned()),
            };
            missed.push(Missed {
                operation,
                ending,
                reason,
            });
        }
    }
    missed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::{Advice, Op};

    #[test]
    fn operations_are_named_as_programs_name_them() {
        for (operation, _) in LISTED {
            match operation.strip_prefix("madvise ") {
                Some(advice) => assert!(Advice::of(advice).0 < 200),
                None => assert!(Op::NAMES.contains(operation), "{operation}"),
            }
        }
    }

    #[test]
    fn what_stays_at_zero_is_missed() {
        let subject = Subject::nowhere("6.18").unwrap();
        let missed = missed(&Coverage::default(), &subject);
        let find = |operation, ending| {
            let mut all = missed.iter();
            all.find(|one| (one.operation, one.ending) == (operation, ending))
        };
        assert_eq!(find("copy", "EEXIST").unwrap().reason, None);
        assert!(find("api", "EPERM").unwrap().reason.is_some());
        let later = find("rwprotect", "ok").unwrap().reason.clone();
        assert_eq!(later.unwrap(), "this machine is without kernel>=7.3");
    }
}
