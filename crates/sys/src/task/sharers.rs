//! The processes that share one address space: nearly always one, but `clone(CLONE_VM)` and
//! `vfork` make more.
//!
//! `kcmp` tells which. Where it is refused (by a filter, or for the process of another user), only
//! what everybody may see proves a process to be a stranger: one that is passed over would go on
//! writing while the others stand still. So what can't be told is an error.

use std::time::Duration;

use space::Errno;
use thiserror::Error;

use super::proc;
use crate::denial::{Asked, Denial};
use crate::procfs::{Process, ProcfsError, Status, processes};
use crate::raw::process::{Compared, same};

/// Why it is not known who shares a process's memory.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SharingError {
    /// The processes could not be listed.
    #[error(transparent)]
    List(#[from] ProcfsError),
    /// The process ended meanwhile.
    #[error("process {0} is gone")]
    Gone(u32),
    /// The kernel does not say.
    #[error(
        "whether process {other} shares the memory of process {pid}, and is to be stopped with it, \
         can't be told (kcmp: {errno}){}", hint(*.errno, .why.as_ref())
    )]
    Unknown {
        /// The process asked about.
        pid: u32,
        /// The other.
        other: u32,
        /// What the kernel answered.
        errno: Errno,
        /// Why, where it said that we may not know.
        why: Option<Denial>,
    },
}

impl SharingError {
    /// Returns the kernel's answer.
    pub fn errno(&self) -> Errno {
        match self {
            Self::List(error) => error.errno(),
            Self::Gone(_) => Errno::ESRCH,
            Self::Unknown { errno, .. } => *errno,
        }
    }
}

fn hint(errno: Errno, why: Option<&Denial>) -> String {
    match (errno, why) {
        (_, Some(why)) => format!(": {why}"),
        (Errno::ENOSYS, None) => ": boot a kernel with CONFIG_KCMP=y".to_owned(),
        _ => String::new(),
    }
}

/// The processes that share the memory of one.
#[derive(Clone, Debug)]
pub(crate) struct Sharers {
    processes: Vec<u32>,
    /// A task that has the memory, to compare with.
    memory_task: u32,
    /// The id that the system gave last when the processes were looked through.
    last_id: Option<u32>,
}

impl Sharers {
    /// Looks through all processes for those that share the memory of `leader`.
    pub(crate) fn find(leader: u32, memory_task: u32) -> Result<Self, SharingError> {
        let mut sharers = Self {
            last_id: proc::last_id(),
            processes: vec![leader],
            memory_task,
        };
        sharers.choose_task();
        for pid in processes()? {
            if pid != leader && sharers.is_one(pid)? {
                sharers.processes.push(pid);
            }
        }
        Ok(sharers)
    }

    /// The process that was asked for.
    pub(crate) fn leader(&self) -> u32 {
        self.processes[0]
    }

    /// All processes that share the memory, the one that was asked for first.
    pub(crate) fn processes(&self) -> impl Iterator<Item = u32> {
        self.processes.iter().copied()
    }

    /// Forgets processes that were found and share the memory no more, which may have executed
    /// something since, or have ended and left their id to others; returns them.
    pub(crate) fn forget_strangers(&mut self) -> Vec<u32> {
        if self.processes.len() == 1 {
            return Vec::new();
        }
        self.choose_task();
        let (leader, memory_task) = (self.leader(), self.memory_task);
        // What can't be compared any more has ended, and has no task to stop.
        self.processes
            .extract_if(.., |&mut pid| {
                pid != leader && same(memory_task, pid, Compared::Memory) == Ok(false)
            })
            .collect()
    }

    /// Looks for sharers that were made since the last look, and tells whether there are any. Only
    /// tasks that share the memory can make one: once they stand still and this finds none there
    /// is none.
    pub(crate) fn find_new(&mut self) -> Result<bool, SharingError> {
        /// So many ids are asked about one by one in less time than all processes are listed.
        const IDS_MAX: u32 = 1024;
        let last_id = proc::last_id();
        if last_id.is_some() && last_id == self.last_id {
            return Ok(false);
        }
        // Ids are given in order, until they begin anew: whoever came since has one of these,
        // whatever became of who made it.
        let candidates: Vec<u32> = match (self.last_id, last_id) {
            (Some(then), Some(now)) if then < now && now - then <= IDS_MAX => {
                (then + 1..=now).collect()
            }
            _ => processes()?,
        };
        self.choose_task();
        let known = self.processes.len();
        for id in candidates {
            if self.is_one(id)?
                && let Some(process) = proc::process_of(id)
                && !self.processes.contains(&process)
            {
                self.processes.push(process);
            }
        }
        self.last_id = last_id;
        Ok(self.processes.len() > known)
    }

    /// Tells whether a task has the memory.
    fn is_one(&mut self, other: u32) -> Result<bool, SharingError> {
        loop {
            match same(self.memory_task, other, Compared::Memory) {
                Ok(false) => return Ok(false),
                // Tasks that have ended are alike in that they have no memory.
                Ok(true) if has_memory(self.memory_task) => return Ok(true),
                Err(_) if self.is_stranger(other) => return Ok(false),
                Err(errno) if has_memory(self.memory_task) => {
                    let denied = matches!(errno, Errno::EPERM | Errno::EACCES);
                    return Err(SharingError::Unknown {
                        pid: self.leader(),
                        other,
                        errno,
                        why: denied.then(|| Denial::of(other, Asked::Look)),
                    });
                }
                Ok(true) | Err(_) => self.find_task()?,
            }
        }
    }

    /// Tells whether a task surely has other memory, by what belongs to the memory, everybody may
    /// see, and never changes or only grows.
    fn is_stranger(&self, other: u32) -> bool {
        let before = status(self.memory_task);
        let Some(other) = status(other).filter(|other| other.mapped_max.is_some()) else {
            // It has ended, or is a thread of the kernel.
            return true;
        };
        let (Some(before), Some(after)) = (before, status(self.memory_task)) else {
            return false;
        };
        other.code != before.code
            || other.mapped_max < before.mapped_max
            || other.mapped_max > after.mapped_max
    }

    /// As [`choose_task`](Self::choose_task), where a task has to be found. While one executes another
    /// program, there may be none for a moment.
    fn find_task(&mut self) -> Result<(), SharingError> {
        const TRIES: u32 = 50;
        for _ in 0..TRIES {
            self.choose_task();
            if has_memory(self.memory_task) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        Err(SharingError::Gone(self.leader()))
    }

    /// Takes another task to compare with where the one so far has ended.
    fn choose_task(&mut self) {
        if !has_memory(self.memory_task) {
            let tasks = proc::tasks(self.leader()).unwrap_or_default();
            self.memory_task = tasks
                .into_iter()
                .find(|&tid| has_memory(tid))
                .unwrap_or(self.memory_task);
        }
    }
}

fn has_memory(tid: u32) -> bool {
    status(tid).is_some_and(|status| status.mapped_max.is_some())
}

fn status(tid: u32) -> Option<Status> {
    Process::open(tid).and_then(|task| task.status()).ok()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::programs::program;
    use crate::{OpenError, Target};

    /// Names the two processes, where a test runs under a filter that refuses `kcmp`.
    const REFUSED: &str = "ONIONSKIN_TEST_SHARERS";

    /// Two processes with one memory; a third had a copy of it.
    struct Two {
        parent: Child,
        child: u32,
    }

    impl Two {
        fn start() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let mut parent = Command::new(program("hazard", directory.path()))
                .arg("one_memory")
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            BufReader::new(parent.stdout.take().unwrap())
                .read_line(&mut line)
                .unwrap();
            let child = line.trim().parse().unwrap();
            Self { parent, child }
        }
    }

    impl Drop for Two {
        fn drop(&mut self) {
            crate::raw::process::kill(self.child).unwrap();
            self.parent.kill().unwrap();
            self.parent.wait().unwrap();
        }
    }

    fn found(leader: u32) -> Vec<u32> {
        Sharers::find(leader, leader).unwrap().processes().collect()
    }

    #[test]
    fn processes_with_one_memory_find_each_other() {
        let two = Two::start();
        let (parent, child) = (two.parent.id(), two.child);
        assert_eq!(found(parent), [parent, child]);
        assert_eq!(found(child), [child, parent]);
    }

    #[test]
    fn where_kcmp_is_refused_nobody_is_taken_for_a_stranger_without_proof() {
        if let Ok(pids) = std::env::var(REFUSED) {
            let pids: Vec<u32> = pids.split(' ').map(|pid| pid.parse().unwrap()).collect();
            return refused(pids[0], pids[1]);
        }
        let two = Two::start();
        let directory = tempfile::tempdir().unwrap();
        let name = "task::sharers::tests::where_kcmp_is_refused_nobody_is_taken_for_a_stranger_\
                    without_proof";
        let ran = Command::new(program("refuse_kcmp", directory.path()))
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(REFUSED, format!("{} {}", two.parent.id(), two.child))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && said.contains("1 passed"), "{said}");
    }

    fn refused(parent: u32, child: u32) {
        let mut sharers = Sharers {
            processes: vec![parent],
            memory_task: parent,
            last_id: None,
        };
        let unknown = SharingError::Unknown {
            pid: parent,
            other: child,
            errno: Errno::EPERM,
            why: Some(Denial::Filter),
        };
        assert_eq!(sharers.is_one(child), Err(unknown));
        let own = std::process::id();
        assert_eq!(sharers.is_one(own), Ok(false), "another program");
        assert_eq!(sharers.is_one(u32::MAX >> 2), Ok(false), "there is none");
        let opened = Target::open(parent).map(drop);
        assert!(matches!(opened, Err(OpenError::Sharing(_))), "{opened:?}");
        assert_eq!(proc::tracer(parent), 0);
    }
}
