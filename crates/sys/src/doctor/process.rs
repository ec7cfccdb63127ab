//! What stands in the way of a snapshot of one process. Nothing is stopped or touched, but that a
//! process with seccomp filters stands still for the moment in which they are read.

use std::time::Duration;

use space::{ByteLen, Errno};

use super::report::{Finding, Row};
use crate::Target;
use crate::denial::{Asked, Denial};
use crate::hazard::{self, Hazards};
use crate::procfs::{ElfClass, Process, ProcfsError, RunState, SeccompMode, Stat, Status};
use crate::task::{Sharers, SharingError};

/// Looks at process `pid`. Where it turns out not to be one that has memory, or not ours to look
/// at, the rows end with that.
pub(super) fn examine(pid: u32) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |name: &str, finding: Finding| {
        rows.push(Row {
            name: name.to_owned(),
            finding,
        });
    };
    let (process, stat, status) = match open(pid) {
        Ok(found) => found,
        Err(error) => {
            add("process", refused("reading /proc", &error));
            return rows;
        }
    };
    add("process", exists(pid, &stat, &status));
    if status.process != pid {
        return rows;
    }
    let kernel_thread = stat.is_kernel_thread() || status.kernel_thread == Some(true);
    if kernel_thread {
        add(
            "kernel_thread",
            Finding::missing("a thread of the kernel has no memory of its own"),
        );
        return rows;
    }
    add("kernel_thread", Finding::works("it is none"));
    let ended = matches!(stat.state, RunState::Zombie | RunState::Dead);
    if ended && stat.threads <= 1 {
        let why = format!("it ended; process {} has not waited for it", stat.parent);
        add("zombie", Finding::missing(why));
        return rows;
    }
    add("zombie", Finding::works("it is none"));
    let user = user(&process, &status);
    let ours = user.is_good();
    add("user", user);
    let tasks = tasks(&process);
    add("tracer", tracer(&tasks));
    for (name, finding) in seccomp(pid, &tasks) {
        add(name, finding);
    }
    add("uninterruptible", uninterruptible(&tasks));
    if ours {
        add("program", program(&process));
        add("pid_namespace", pid_namespace(&process, &status));
        let sharers = Sharers::find(pid, pid).map(|sharers| sharers.processes().skip(1).collect());
        add("shared_memory", shared_memory(pid, &sharers));
        add("vfork", vfork(&stat, &tasks, &sharers));
        let hazards = hazard::inspect(pid);
        add("userfaultfd", userfaultfd(pid, &hazards));
        add("pinned", pinned(pid, &hazards));
        add("thp_split", huge_pages(&process, status.resident));
    }
    rows
}

fn open(pid: u32) -> Result<(Process, Stat, Status), ProcfsError> {
    let process = Process::open(pid)?;
    let (stat, status) = (process.stat()?, process.status()?);
    Ok((process, stat, status))
}

/// What an error of reading means for the row it was read for.
fn refused(what: &str, error: &ProcfsError) -> Finding {
    match error.errno() {
        Errno::EPERM | Errno::EACCES => Finding::denied(format!("{what}: {error}")),
        _ => Finding::missing(format!("{what}: {error}")),
    }
}

fn exists(pid: u32, stat: &Stat, status: &Status) -> Finding {
    if status.process == pid {
        return Finding::works(format!("{} with {} threads", stat.name, stat.threads));
    }
    let owner = status.process;
    Finding::missing(format!("{pid} is a thread of process {owner}"))
        .fix(format!("onionskin doctor --pid {owner}"))
}

/// Opens its memory, without reading: that takes the same right as tracing it.
fn user(process: &Process, status: &Status) -> Finding {
    let uid = status.user.real;
    match process.opens("mem") {
        Ok(()) => Finding::works(format!("it runs as user {uid}, and we may trace it")),
        Err(error) => {
            let finding = refused(&format!("it runs as user {uid}"), &error);
            match error.errno() {
                Errno::EPERM | Errno::EACCES => {
                    let why = Denial::of(process.pid(), Asked::Trace);
                    as_root(
                        Finding::denied(format!("{}; {why}", finding.why)),
                        process.pid(),
                    )
                }
                _ => finding,
            }
        }
    }
}

/// The command that takes a snapshot all the same, and what is different about it.
fn frozen(pid: u32, how: &str) -> String {
    format!("onionskin snapshot {pid} --store ./snaps --strategy freeze  # {how}")
}

/// Says how to go about a process that can't be made to call the kernel.
fn uncalled(finding: Finding, pid: u32) -> Finding {
    if rustix::process::geteuid().is_root() {
        finding.fix(frozen(pid, "nothing is injected"))
    } else {
        as_root(finding, pid)
    }
}

/// Says to try as root, to who is not.
fn as_root(finding: Finding, pid: u32) -> Finding {
    if rustix::process::geteuid().is_root() {
        finding
    } else {
        finding.fix(format!("sudo onionskin doctor --pid {pid}"))
    }
}

/// What is known of each task.
struct Task {
    tid: u32,
    state: RunState,
    status: Status,
}

/// Tasks that end meanwhile are left out.
fn tasks(process: &Process) -> Vec<Task> {
    let look = |tid| {
        let task = process.task(tid).ok()?;
        Some(Task {
            tid,
            state: task.stat().ok()?.state,
            status: task.status().ok()?,
        })
    };
    process
        .tasks()
        .unwrap_or_default()
        .into_iter()
        .filter_map(look)
        .collect()
}

fn tracer(tasks: &[Task]) -> Finding {
    let Some(tracer) = tasks
        .iter()
        .map(|task| task.status.tracer)
        .find(|&tracer| tracer != 0)
    else {
        return Finding::works("nobody traces it");
    };
    let name = Process::open(tracer).and_then(|process| process.stat());
    let name = name.map_or_else(|_| "unknown".to_owned(), |stat| stat.name);
    Finding::denied(format!(
        "process {tracer} ({name}) traces it, and there can be only one"
    ))
    .fix(format!("ps -fp {tracer}  # and end its tracing"))
}

/// What filters of system calls would do to the calls that are injected, for each purpose. Reading
/// them takes a stop of the process, so one that has none is left alone.
fn seccomp(pid: u32, tasks: &[Task]) -> [(&'static str, Finding); 3] {
    /// The longest that the stop may take.
    const LIMIT: Duration = Duration::from_millis(500);
    const NAMES: [&str; 3] = ["seccomp_track", "seccomp_fork", "seccomp_reap"];
    let filtered = tasks
        .iter()
        .find(|task| task.status.seccomp != SeccompMode::Off);
    let Some(task) = filtered else {
        let none = Finding::works("its system calls are not filtered");
        return NAMES.map(|name| (name, none.clone()));
    };
    let filters = format!("thread {} has filters", task.tid);
    let answer = match Target::open(pid).map(|mut target| target.could_inject(LIMIT)) {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            let denied = uncalled(Finding::denied(format!("{filters}; {error}")), pid);
            return NAMES.map(|name| (name, denied.clone()));
        }
        Err(error) => {
            let denied = uncalled(Finding::denied(format!("{filters}; {error}")), pid);
            return NAMES.map(|name| (name, denied.clone()));
        }
    };
    let purposes = [
        (answer.track, "a userfaultfd is made"),
        (answer.fork, "a duplicate is made"),
        (answer.reap, "the end of a duplicate is taken note of"),
    ];
    let found = purposes.map(|(answer, what)| match answer {
        Ok(()) => Finding::works(format!(
            "{filters}, which let the calls through by which {what}"
        )),
        Err(error) => {
            let denied = Finding::denied(format!(
                "{filters}; {error}: the calls by which {what} are not injected"
            ));
            uncalled(denied, pid)
        }
    });
    let [track, fork, reap] = found;
    [(NAMES[0], track), (NAMES[1], fork), (NAMES[2], reap)]
}

/// How much of it are huge pages: to arm a part of one splits it.
///
/// The kernel counts them by a walk over all page tables, some milliseconds for each GiB.
fn huge_pages(process: &Process, resident: Option<ByteLen>) -> Finding {
    const RESIDENT_MAX: ByteLen = ByteLen(64 << 30);
    if let Some(resident) = resident.filter(|&resident| resident > RESIDENT_MAX) {
        return Finding::works(format!(
            "not looked at, since that takes long for {} GiB; tracking splits huge pages where they \
             are written",
            resident.0 >> 30
        ))
        .fix(format!("grep AnonHugePages /proc/{}/smaps_rollup", process.pid()));
    }
    let all = match process.smaps_rollup(crate::procfs::base_page_size()) {
        Ok(all) => all,
        Err(error) => return refused("its huge pages", &error),
    };
    Finding::works(match all.anonymous_huge.0 {
        0 => "it has no huge pages that tracking would split".to_owned(),
        huge => format!(
            "{} of {} MiB resident are huge pages, which tracking splits where they are written",
            huge >> 20,
            all.resident.0 >> 20
        ),
    })
}

fn uninterruptible(tasks: &[Task]) -> Finding {
    let waiting: Vec<String> = tasks
        .iter()
        .filter(|task| task.state == RunState::Uninterruptible)
        .map(|task| task.tid.to_string())
        .collect();
    let Some(first) = waiting.first() else {
        return Finding::works("every thread can be stopped");
    };
    Finding::denied(format!(
        "just now threads in a wait that can't be interrupted (D): {}",
        waiting.join(", ")
    ))
    .fix(format!("sudo cat /proc/{first}/stack"))
}

fn program(process: &Process) -> Finding {
    match process.program_kind() {
        Ok(Some(kind)) if kind.class == ElfClass::Bits32 => {
            Finding::missing("32-bit programs can't be snapshotted")
                .fix(format!("gcore {}", process.pid()))
        }
        Ok(Some(kind)) => Finding::works(format!("64-bit, machine {}", kind.machine)),
        Ok(None) => Finding::works("its file is no ELF program: its registers tell what it is"),
        Err(error) => refused("its program", &error),
    }
}

fn pid_namespace(process: &Process, status: &Status) -> Finding {
    let own = std::fs::read_link("/proc/self/ns/pid").ok();
    let own = own.map(|link| link.to_string_lossy().into_owned());
    match (process.link("ns/pid"), own) {
        (Ok(theirs), Some(own)) if theirs == own => Finding::works("it is ours"),
        (Ok(theirs), Some(_)) => {
            let inside = status
                .namespace_tasks
                .last()
                .copied()
                .unwrap_or(process.pid());
            Finding::works(format!(
                "it is another, {theirs}, in which its id is {inside}"
            ))
        }
        (Err(error), _) => refused("its pid namespace", &error),
        (Ok(_), None) => Finding::missing("our own pid namespace can't be read"),
    }
}

/// The processes that share its memory, or why that is not known.
type SharerList = Result<Vec<u32>, SharingError>;

fn list(pids: &[u32]) -> String {
    pids.iter()
        .map(u32::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

fn shared_memory(pid: u32, sharers: &SharerList) -> Finding {
    match sharers {
        Ok(pids) if pids.is_empty() => Finding::works("no other process shares its memory"),
        Ok(pids) => Finding::works(format!(
            "other processes share its memory and are stopped with it: {}",
            list(pids)
        )),
        Err(error) if error.errno() == Errno::ENOSYS => {
            Finding::missing(error.to_string()).fix("boot a kernel with CONFIG_KCMP=y")
        }
        Err(error) => as_root(Finding::denied(error.to_string()), pid),
    }
}

/// A `vfork` in flight: the parent waits, uninterruptibly, for a child that uses its memory.
fn vfork(stat: &Stat, tasks: &[Task], sharers: &SharerList) -> Finding {
    let none = || Finding::works("none is in flight");
    let Ok(sharers) = sharers else {
        return none();
    };
    let waits = |tasks: &[Task]| {
        tasks
            .iter()
            .any(|task| task.state == RunState::Uninterruptible)
    };
    if sharers.contains(&stat.parent) {
        let parent = Process::open(stat.parent).map(|process| self::tasks(&process));
        if parent.is_ok_and(|tasks| waits(&tasks)) {
            return Finding::denied(format!(
                "it is a vfork child: it uses the memory of process {}",
                stat.parent
            ))
            .fix(format!("onionskin doctor --pid {}", stat.parent));
        }
    }
    let child = sharers.iter().find(|&&pid| {
        Process::open(pid)
            .and_then(|process| process.stat())
            .is_ok_and(|child| child.parent == stat.pid)
    });
    match child {
        Some(child) if waits(tasks) => Finding::denied(format!(
            "it waits for its vfork child {child} to execute or end"
        ))
        .fix(format!(
            "ps -o pid,stat,etime,args -p {child}  # and wait until it has"
        )),
        _ => none(),
    }
}

fn userfaultfd(pid: u32, hazards: &Result<Hazards, ProcfsError>) -> Finding {
    match hazards {
        Ok(hazards) if hazards.userfaultfds.is_empty() => Finding::works("it has none of its own"),
        Ok(hazards) => Finding::denied(format!(
            "it has its own (descriptors {}): what is registered with it can't be tracked, and is \
             copied in the freeze",
            list(&hazards.userfaultfds)
        ))
        .fix(frozen(pid, "all is copied in the freeze")),
        Err(error) => refused("its descriptors", error),
    }
}

fn pinned(pid: u32, hazards: &Result<Hazards, ProcfsError>) -> Finding {
    match hazards {
        Ok(hazards) if hazards.unproven.is_empty() && hazards.pinned.is_empty() => {
            Finding::works("no sign of writes past its page tables")
        }
        Ok(hazards) if hazards.unproven.is_empty() => Finding::works(format!(
            "{} ranges are written past its page tables, all known and copied in the freeze",
            hazards.pinned.len()
        )),
        Ok(hazards) => {
            let reasons: Vec<&str> = hazards
                .unproven
                .iter()
                .map(|unproven| unproven.reason.as_str())
                .collect();
            Finding::denied(format!(
                "a snapshot would be unproven: {}",
                reasons.join("; ")
            ))
            .fix(format!(
                "ls -l /proc/{pid}/fd  # and have it close what is named, or do without --strict"
            ))
        }
        Err(error) => refused("signs of pinned memory", error),
    }
}
