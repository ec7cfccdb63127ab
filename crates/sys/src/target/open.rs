//! Opening a process: every reason against it is found before anything is touched.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use space::{Errno, PageSize};

use super::track::Track;
use super::view::View;
use super::{OpenError, STOP_LIMIT, Target};
use crate::denial::{Asked, Denial};
use crate::inject;
use crate::memory::SharedFiles;
use crate::procfs::{ElfClass, Process, RunState, Status};
use crate::task::{Interrupted, Sharers, proc};

impl Target {
    /// Opens process `pid`.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; nothing was touched.
    #[expect(
        clippy::missing_panics_doc,
        reason = "the kernel's page size is a power of two"
    )]
    pub fn open(pid: u32) -> Result<Self, OpenError> {
        if pid == std::process::id() {
            return Err(OpenError::Ourselves(pid));
        }
        let process = Process::open(pid).map_err(|_| OpenError::NoProcess(pid))?;
        let status = process.status().map_err(|_| OpenError::NoProcess(pid))?;
        check(pid, &process, &status)?;
        let pidfd = i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .ok_or(OpenError::NoProcess(pid))
            .and_then(|pid_number| {
                pidfd_open(pid_number, PidfdFlags::empty())
                    .map_err(|errno| failed(pid, "pidfd", errno.into()))
            })?;
        let page_size = PageSize::new(rustix::param::page_size() as u64)
            .expect("the kernel's page size is a power of two");
        let memory_task = task_with_memory(pid, &process)?;
        let view = View::open(memory_task, page_size).map_err(|(what, errno)| match errno {
            Errno::EACCES | Errno::EPERM => denied(pid, memory_task, Asked::Trace, errno),
            Errno::ESRCH | Errno::ENOENT => OpenError::NoProcess(pid),
            errno => OpenError::Failed { pid, what, errno },
        })?;
        let sharers = Sharers::find(pid, memory_task)?;
        must_not_vfork(pid, &sharers)?;
        Ok(Self {
            pid,
            memory_task,
            pidfd,
            view,
            files: Arc::new(SharedFiles::default()),
            track: Track::None,
            absent_is_written: false,
            registered: false,
            attached: None,
            gadgets: None,
            scratch: None,
            sharers,
            interrupted: Interrupted::new(proc::is_filtered(pid)),
            unreaped: inject::left_behind(pid),
            stopped: None,
            stop_error: None,
            inject_error: None,
            stops: Vec::new(),
            stop_limit: STOP_LIMIT,
            risked_wait: None,
            late_call: None,
            late_registration: None,
            process: Process::open(memory_task).map_err(|_| OpenError::NoProcess(pid))?,
        })
    }
}

fn failed(pid: u32, what: &'static str, errno: std::io::Error) -> OpenError {
    OpenError::Failed {
        pid,
        what,
        errno: errno.into(),
    }
}

fn denied(pid: u32, tid: u32, asked: Asked, errno: Errno) -> OpenError {
    OpenError::Denied {
        pid,
        errno,
        why: Denial::of(tid, asked),
    }
}

fn check(pid: u32, process: &Process, status: &Status) -> Result<(), OpenError> {
    if status.process != pid {
        return Err(OpenError::Thread {
            tid: pid,
            pid: status.process,
        });
    }
    let stat = process.stat().map_err(|_| OpenError::NoProcess(pid))?;
    if stat.is_kernel_thread() {
        return Err(OpenError::KernelThread(pid));
    }
    // A first thread that ended looks like a zombie while others live.
    if matches!(stat.state, RunState::Zombie | RunState::Dead) && stat.threads <= 1 {
        return Err(OpenError::Zombie(pid));
    }
    // A thread of ours that failed to stop it may be just ending.
    let begun = Instant::now();
    while proc::is_own_thread(proc::tracer(pid)) && begun.elapsed() < Duration::from_millis(100) {
        std::thread::sleep(Duration::from_millis(1));
    }
    if status.tracer != 0 && proc::tracer(pid) != 0 {
        return Err(OpenError::Traced {
            pid,
            tracer: status.tracer,
        });
    }
    match process.program_kind() {
        Ok(Some(kind)) if kind.class == ElfClass::Bits32 => Err(OpenError::ThirtyTwoBit(pid)),
        Ok(_) => Ok(()),
        Err(error) => match error.errno() {
            errno @ (Errno::EACCES | Errno::EPERM) => Err(denied(pid, pid, Asked::Look, errno)),
            // A program without a file to look at is what its registers say it is.
            _ => Ok(()),
        },
    }
}

/// Refuses processes of which one waits for another to call `execve` or exit: nothing stops it until
/// then, while the other would stand still. Most such waits are over in a moment.
fn must_not_vfork(pid: u32, sharers: &Sharers) -> Result<(), OpenError> {
    const PATIENCE: Duration = Duration::from_millis(50);
    let begun = Instant::now();
    while let Some((parent, child)) = vforked(sharers) {
        if begun.elapsed() > PATIENCE {
            return Err(OpenError::Vfork { pid, parent, child });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Finds a process that waits for its child, which uses the same memory.
fn vforked(sharers: &Sharers) -> Option<(u32, u32)> {
    let processes: Vec<u32> = sharers.processes().collect();
    if processes.len() == 1 {
        return None;
    }
    processes.iter().find_map(|&child| {
        let parent = proc::stat(child).ok()?.parent;
        let waits = processes.contains(&parent) && proc::waits_uninterruptibly(parent);
        waits.then_some((parent, child))
    })
}

/// Finds a task that still has the memory: the first one may have ended before the others.
fn task_with_memory(pid: u32, process: &Process) -> Result<u32, OpenError> {
    let tasks = process.tasks().map_err(|_| OpenError::NoProcess(pid))?;
    for &tid in std::iter::once(&pid).chain(&tasks) {
        let maps = File::open(format!("/proc/{pid}/task/{tid}/maps"));
        let mut byte = [0];
        match maps.and_then(|mut maps| maps.read(&mut byte)) {
            Ok(0) => {}
            Ok(_) => return Ok(tid),
            Err(error) => {
                let errno = Errno::from(error);
                if matches!(errno, Errno::EACCES | Errno::EPERM) {
                    return Err(denied(pid, tid, Asked::Look, errno));
                }
            }
        }
    }
    Err(OpenError::NoProcess(pid))
}
