//! Calls that a stop interrupts although no signal handler runs.
//!
//! The kernel restarts most interrupted calls by itself, but answers a few with `EINTR`
//! (`signal(7)`): `epoll_wait`, `semop`, `sigtimedwait`, `io_getevents`, `io_uring_enter`, and all
//! that wait for a socket with a timeout (`SO_RCVTIMEO`, `SO_SNDTIMEO`), which end so only where
//! nothing was transferred yet. A program that never sees a signal may not expect that. So a task
//! that we interrupted in one of them is made to restart it, unless a handler runs first
//! (`ERESTARTNOHAND`).
//!
//! A signal that the process ignores interrupts nothing, but it does where a task is traced: the
//! kernel keeps it for the tracer to see. It may stop the task before we do, and is passed over
//! like our own stop. (How others are kept from it: [`Stopped`](super::Stopped).)
//!
//! A restart begins its timeout anew; therefore the first interruption is remembered, and a task
//! found in the same call when its time is over gets the answer of a timeout: a wait may last up
//! to twice as long, but never for ever.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, sockopt};
use space::{Errno, Vaddr};

use super::again::make_again;
use super::{Halt, Task, proc, read_general, write_general};
use crate::arch::{DECIDES_BEFORE_STOP, Registers, Timeout, begin_anew, waiting_call, waits};
use crate::inject::allows_restart;
use crate::raw::memory;
use crate::raw::process::descriptor_of;

/// The interrupted waits of a process, over many stops.
#[derive(Debug, Default)]
pub(crate) struct Interrupted {
    /// Whether the process has seccomp filters.
    pub(crate) filtered: bool,
    waits: BTreeMap<u32, Wait>,
    /// Those of the stop before.
    earlier: BTreeMap<u32, Wait>,
}

#[derive(Debug)]
struct Wait {
    /// With which the task makes the call again.
    registers: Registers,
    since: Instant,
    /// How often the task had given up its processor by then, as far as that is needed.
    switches: Option<u64>,
}

/// A task that goes on in one call from stop to stop gives up its processor when it waits again
/// and when it stops again, and perhaps once between.
const SWITCHES_MAX: u64 = 3;

impl Interrupted {
    /// Makes one that has seen nothing; `filtered` tells whether the process has seccomp filters.
    pub(crate) fn new(filtered: bool) -> Self {
        Self {
            filtered,
            ..Self::default()
        }
    }

    /// Begins a stop.
    pub(crate) fn begin(&mut self) {
        self.earlier = std::mem::take(&mut self.waits);
    }

    /// Has the wait of a task that just stopped restarted when it goes on. Done at once, task by
    /// task, since a tracer that dies before it leaves the task with `EINTR`.
    pub(crate) fn restart(&mut self, task: &mut Task, now: Instant) -> Result<(), Errno> {
        if let Halt::Signal(signal) = task.halt
            && !proc::ignores(task.tid, signal)
        {
            return Ok(());
        }
        let mut registers = read_general(task.tid)?;
        task.waits = waits(task.tid, &registers);
        if self.filtered && registers.needs_restart_block(task.tid) && !allows_restart(*task) {
            // The kernel would go on by `restart_syscall`, which a filter punishes: the call
            // itself was allowed, and begins anew.
            return anew(task, &registers);
        }
        let Some(call) = waiting_call(task.tid, &registers) else {
            return Ok(());
        };
        let Some(timeout) = length(*task, call.timeout) else {
            return Ok(());
        };
        let tid = task.tid;
        let switches = || match timeout {
            Duration::MAX => None,
            _ => proc::voluntary_switches(tid),
        };
        // Only a wait that surely is the same one ends early: a loop makes the same call again.
        let since = self
            .earlier
            .remove(&task.tid)
            .filter(|wait| {
                let passed = wait
                    .switches
                    .zip(switches())
                    .map(|(then, now)| now - then.min(now));
                wait.registers == call.again && passed.is_some_and(|passed| passed <= SWITCHES_MAX)
            })
            .map_or(now, |wait| wait.since);
        if now.duration_since(since) >= timeout {
            registers.set_result(call.timed_out);
            return write_general(task.tid, &registers);
        }
        write_general(task.tid, &call.again)?;
        if DECIDES_BEFORE_STOP {
            task.halt = make_again(task.tid, &registers, || Ok(()))?;
        }
        let wait = Wait {
            registers: call.again,
            since,
            switches: switches(),
        };
        self.waits.insert(task.tid, wait);
        Ok(())
    }
}

/// Has a task that would go on by `restart_syscall` make its call anew.
fn anew(task: &mut Task, registers: &Registers) -> Result<(), Errno> {
    if DECIDES_BEFORE_STOP {
        let tid = task.tid;
        task.halt = make_again(tid, registers, || begin_anew(tid, registers))?;
        Ok(())
    } else {
        begin_anew(task.tid, registers)
    }
}

/// How long a call waits; `None` where that can't be read, so that the kernel's `EINTR` stands.
fn length(task: Task, timeout: Timeout) -> Option<Duration> {
    let pid = task.tid;
    match timeout {
        Timeout::Never => Some(Duration::MAX),
        Timeout::Millis(millis) => Some(Duration::from_millis(millis)),
        Timeout::Timespec(address) => timespec(pid, address),
        Timeout::UringArg(address) => {
            let mut argument = [0; 24];
            let read = memory::read_at(pid, address, &mut argument).ok()?;
            let (_, timespec_address) = argument.split_last_chunk::<8>()?;
            match u64::from_ne_bytes(*timespec_address) {
                _ if read != argument.len() => None,
                0 => Some(Duration::MAX),
                address => timespec(pid, Vaddr(address)),
            }
        }
        Timeout::Receive(fd) => socket(task, fd, sockopt::Timeout::Recv),
        Timeout::Send(fd) => socket(task, fd, sockopt::Timeout::Send),
        Timeout::Splice(from, to) => socket(task, from, sockopt::Timeout::Recv)
            .or_else(|| socket(task, to, sockopt::Timeout::Send)),
        Timeout::Connect(fd) => {
            let length = socket(task, fd, sockopt::Timeout::Send)?;
            let domain = sockopt::socket_domain(descriptor_of(task.pid, task.tid, fd).ok()?);
            // There the end of the time is told in another way, and left to the kernel.
            Some(match domain {
                Ok(AddressFamily::UNIX) => Duration::MAX,
                _ => length,
            })
        }
    }
}

/// A timeout of a socket; `None` where it has none, or is no socket.
fn socket(task: Task, fd: i32, which: sockopt::Timeout) -> Option<Duration> {
    let socket = descriptor_of(task.pid, task.tid, fd).ok()?;
    sockopt::socket_timeout(socket, which).ok()?
}

fn timespec(pid: u32, address: Vaddr) -> Option<Duration> {
    let mut bytes = [0; 16];
    let read = memory::read_at(pid, address, &mut bytes).ok()?;
    let (seconds, nanos) = bytes.split_first_chunk::<8>()?;
    let seconds = u64::try_from(i64::from_ne_bytes(*seconds)).ok()?;
    let nanos = u32::try_from(i64::from_ne_bytes(nanos.try_into().ok()?)).ok()?;
    (read == bytes.len() && nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))
}
