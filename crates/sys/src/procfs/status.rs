//! `/proc/PID/status` and `/proc/PID/task/TID/status`.

use space::ByteLen;

use super::error::ProcfsError;
use super::text::{decimal, fields, hex, lines, small};

/// Real, effective, saved and file-system id of a user or group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// The real id.
    pub real: u32,
    /// The effective id.
    pub effective: u32,
    /// The saved id.
    pub saved: u32,
    /// The id that files are opened with.
    pub file_system: u32,
}

/// Whether system calls are filtered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SeccompMode {
    /// All are allowed, or the kernel has no seccomp.
    #[default]
    Off,
    /// Only `read`, `write`, `_exit` and `sigreturn` are.
    Strict,
    /// Filters decide.
    Filter,
    /// A mode this program does not know.
    Other(u64),
}

/// Sets of signals, bit 0 for signal 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalSets {
    /// Pending for the task alone.
    pub pending: u64,
    /// Pending for the process.
    pub process_pending: u64,
    /// Blocked by the task.
    pub blocked: u64,
    /// Ignored by the process.
    pub ignored: u64,
    /// Handled by the process.
    pub caught: u64,
}

/// What `status` tells of a task or process. Lengths are `None` for what has no memory: kernel
/// threads and zombies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The process it belongs to.
    pub process: u32,
    /// The task.
    pub task: u32,
    /// The process id of its parent; 0 where that is in no view of ours.
    pub parent: u32,
    /// The task that traces it; 0 for none.
    pub tracer: u32,
    /// User ids.
    pub user: Ids,
    /// Group ids.
    pub group: Ids,
    /// The task's id in each pid namespace from that of `/proc` to its own.
    pub namespace_tasks: Vec<u32>,
    /// Whether it is a thread of the kernel; `None` where the kernel does not say (before 6.8).
    pub kernel_thread: Option<bool>,
    /// How many threads the process has.
    pub threads: u32,
    /// The most that was ever mapped.
    pub mapped_max: Option<ByteLen>,
    /// The code of the program.
    pub code: Option<ByteLen>,
    /// Memory in the page tables.
    pub resident: Option<ByteLen>,
    /// Memory pinned for long, as device drivers and io_uring account it.
    pub pinned: Option<ByteLen>,
    /// Memory locked by `mlock`.
    pub locked: Option<ByteLen>,
    /// What the page tables take.
    pub page_tables: Option<ByteLen>,
    /// Memory swapped out.
    pub swapped: Option<ByteLen>,
    /// Memory of hugetlb in the page tables.
    pub hugetlb: Option<ByteLen>,
    /// Whether it is just writing a core.
    pub core_dumping: bool,
    /// Its signals.
    pub signals: SignalSets,
    /// Its effective capabilities, bit by number.
    pub capabilities: u64,
    /// Whether it can't gain privilege by `execve`.
    pub no_new_privileges: bool,
    /// Whether its system calls are filtered.
    pub seccomp: SeccompMode,
    /// By how many filters; `None` where the kernel does not say (before 5.9).
    pub seccomp_filters: Option<u32>,
    /// How often the task gave up its processor to wait.
    pub waits: u64,
}

impl Status {
    /// Reads the file's text. Keys that are not known are passed over.
    ///
    /// # Errors
    ///
    /// [`ProcfsError::Malformed`] where a known key has a value that is not understood, or the
    /// ids are missing.
    pub fn parse(text: &[u8]) -> Result<Self, ProcfsError> {
        let malformed = |line| ProcfsError::Malformed {
            file: "status",
            line,
        };
        let mut status = Self::default();
        for (index, line) in lines(text).enumerate() {
            if let Some(at) = line.iter().position(|&byte| byte == b':') {
                status
                    .take(&line[..at], &line[at + 1..])
                    .ok_or(malformed(index + 1))?;
            }
        }
        if status.process == 0 || status.task == 0 {
            return Err(malformed(lines(text).count()));
        }
        Ok(status)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"Tgid" => self.process = one(value)?,
            b"Pid" => self.task = one(value)?,
            b"PPid" => self.parent = one(value)?,
            b"TracerPid" => self.tracer = one(value)?,
            b"Uid" => self.user = ids(value)?,
            b"Gid" => self.group = ids(value)?,
            b"NSpid" => self.namespace_tasks = fields(value).map(small).collect::<Option<_>>()?,
            b"Kthread" => self.kernel_thread = Some(flag(value)?),
            b"Threads" => self.threads = one(value)?,
            b"VmPeak" => self.mapped_max = Some(kilobytes(value)?),
            b"VmExe" => self.code = Some(kilobytes(value)?),
            b"VmRSS" => self.resident = Some(kilobytes(value)?),
            b"VmPin" => self.pinned = Some(kilobytes(value)?),
            b"VmLck" => self.locked = Some(kilobytes(value)?),
            b"VmPTE" => self.page_tables = Some(kilobytes(value)?),
            b"VmSwap" => self.swapped = Some(kilobytes(value)?),
            b"HugetlbPages" => self.hugetlb = Some(kilobytes(value)?),
            b"CoreDumping" => self.core_dumping = flag(value)?,
            b"SigPnd" => self.signals.pending = mask(value)?,
            b"ShdPnd" => self.signals.process_pending = mask(value)?,
            b"SigBlk" => self.signals.blocked = mask(value)?,
            b"SigIgn" => self.signals.ignored = mask(value)?,
            b"SigCgt" => self.signals.caught = mask(value)?,
            b"CapEff" => self.capabilities = mask(value)?,
            b"NoNewPrivs" => self.no_new_privileges = flag(value)?,
            b"Seccomp" => self.seccomp = seccomp(decimal(value.trim_ascii())?),
            b"Seccomp_filters" => self.seccomp_filters = Some(one(value)?),
            b"voluntary_ctxt_switches" => self.waits = decimal(value.trim_ascii())?,
            _ => {}
        }
        Some(())
    }
}

fn one(value: &[u8]) -> Option<u32> {
    small(value.trim_ascii())
}

fn mask(value: &[u8]) -> Option<u64> {
    hex(value.trim_ascii())
}

fn flag(value: &[u8]) -> Option<bool> {
    one(value).map(|number| number != 0)
}

fn seccomp(mode: u64) -> SeccompMode {
    match mode {
        0 => SeccompMode::Off,
        1 => SeccompMode::Strict,
        2 => SeccompMode::Filter,
        other => SeccompMode::Other(other),
    }
}

fn ids(value: &[u8]) -> Option<Ids> {
    let mut numbers = fields(value).map(small);
    Some(Ids {
        real: numbers.next()??,
        effective: numbers.next()??,
        saved: numbers.next()??,
        file_system: numbers.next()??,
    })
}

fn kilobytes(value: &[u8]) -> Option<ByteLen> {
    let number = value.trim_ascii().strip_suffix(b"kB")?.trim_ascii();
    decimal(number)?.checked_mul(1024).map(ByteLen)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "\
Name:\ta: Tgid
Umask:\t0022
State:\tS (sleeping)
Tgid:\t6503
Ngid:\t0
Pid:\t6504
PPid:\t6493
TracerPid:\t12
Uid:\t1000\t1001\t1002\t1003
Gid:\t5\t6\t7\t8
NSpid:\t6504\t2
Kthread:\t0
VmPin:\t      16 kB
VmRSS:\t    1688 kB
VmPTE:\t      44 kB
CoreDumping:\t1
Threads:\t3
SigPnd:\t0000000000000001
ShdPnd:\t0000000000000002
SigBlk:\t0000000000000004
SigIgn:\t0000000000000008
SigCgt:\tffffffffffffffff
CapEff:\t000001fffeffffff
NoNewPrivs:\t1
Seccomp:\t2
Seccomp_filters:\t3
";

    #[test]
    fn known_keys_are_read() {
        let status = Status::parse(TEXT.as_bytes()).unwrap();
        assert_eq!(
            (status.process, status.task, status.parent),
            (6503, 6504, 6493)
        );
        assert_eq!(status.tracer, 12);
        let user = Ids {
            real: 1000,
            effective: 1001,
            saved: 1002,
            file_system: 1003,
        };
        assert_eq!(status.user, user);
        assert_eq!(status.group.file_system, 8);
        assert_eq!(status.namespace_tasks, [6504, 2]);
        assert_eq!(status.kernel_thread, Some(false));
        assert_eq!(status.pinned, Some(ByteLen(16 * 1024)));
        assert_eq!(status.locked, None);
        assert!(status.core_dumping && status.no_new_privileges);
        assert_eq!(status.signals.process_pending, 2);
        assert_eq!(status.signals.caught, u64::MAX);
        assert_eq!(status.seccomp, SeccompMode::Filter);
        assert_eq!(status.seccomp_filters, Some(3));
    }

    #[test]
    fn a_wrong_value_names_its_line() {
        for (good, wrong, line) in [
            ("Threads:\t3", "Threads:\tx", 17),
            ("VmRSS:\t    1688 kB", "VmRSS:\t    1688", 14),
            ("Uid:\t1000\t1001", "Uid:\t1000\t-1", 9),
        ] {
            let text = TEXT.replace(good, wrong);
            let want = ProcfsError::Malformed {
                file: "status",
                line,
            };
            assert_eq!(Status::parse(text.as_bytes()), Err(want));
        }
        assert!(Status::parse(b"").is_err());
    }

    proptest! {
        #[test]
        fn damaged_text_does_not_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut text = TEXT.as_bytes().to_vec();
            let at = at.index(text.len());
            text[at] = byte;
            let _ = Status::parse(&text);
            let _ = Status::parse(&text[at..]);
        }
    }
}
