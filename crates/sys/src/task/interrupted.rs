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
//! A restart begins its timeout anew; therefore the task carries along since when it waits
//! ([`Mark`]), and one found in the same call when its time is over gets the answer of a timeout: a
//! wait may last up to twice as long, but never for ever. Where nothing can be carried along, the
//! session remembers it ([`Waits`]), and only another session begins it anew.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::net::{AddressFamily, sockopt};
use space::{Errno, Vaddr};

use super::again::make_again;
use super::mark::Mark;
use super::waits::{Wait, Waits};
use super::{Halt, Task, proc, read_general, write_general};
use crate::arch::{
    DECIDES_BEFORE_STOP, Registers, Timeout, WaitingCall, begin_anew, blocked_call,
    calls_can_carry, may_be_marked, waiting_call, waits,
};
use crate::inject::{allows_restart, treats_alike};
use crate::procfs::base_page_size;
use crate::raw::memory;
use crate::raw::process::descriptor_of;

/// How calls of a process that stops interrupt go on. Clones know the same waits.
#[derive(Clone, Debug)]
pub(crate) struct Interrupted {
    /// Whether the process has seccomp filters.
    pub(crate) filtered: bool,
    /// Whether calls may carry marks.
    pub(super) marks: bool,
    waits: Arc<Mutex<Waits>>,
}

impl Interrupted {
    /// Knows of no wait yet.
    pub(crate) fn new(filtered: bool) -> Self {
        Self {
            filtered,
            marks: calls_can_carry(),
            waits: Arc::default(),
        }
    }

    /// The waits that carry no marks.
    pub(crate) fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the wait of a task that just stopped restarted when it goes on. Done at once, task by
    /// task, since a tracer that dies before it leaves the task with `EINTR`.
    pub(crate) fn restart(&self, task: &mut Task) -> Result<(), Errno> {
        let registers = read_general(task.tid)?;
        task.waits = waits(task.tid, &registers);
        let before = self.waits().take(task.tid);
        if let Halt::Signal(signal) = task.halt
            && !proc::ignores(task.tid, signal)
        {
            return Ok(());
        }
        // The kernel would go on by `restart_syscall`, which a filter punishes: the call itself was
        // allowed, and begins anew.
        let is_anew =
            self.filtered && registers.needs_restart_block(task.tid) && !allows_restart(*task);
        task.waits |= is_anew;
        let call = if is_anew {
            blocked_call(&registers)
        } else {
            waiting_call(task.tid, &registers)
        };
        let known = call.and_then(|call| Some((call, length(*task, call.timeout)?)));
        let Some((call, timeout)) = known else {
            return if is_anew {
                anew(task, &registers)
            } else {
                Ok(())
            };
        };
        let mut again = call.again;
        let mark = Mark::from_bits(again.carried());
        let before = before.filter(|wait| mark.is_none() && wait.lasts(task.tid, &again));
        let age = mark.map(Mark::age).or(before.map(Wait::age));
        if age.is_some_and(|age| age >= timeout) {
            let mut over = call.over;
            if mark.is_some() {
                over.carry(0);
            }
            over.set_result(timed_out(*task, &call));
            return write_general(task.tid, &over);
        }
        if mark.is_none() && timeout < Duration::MAX {
            match self.marked(*task, &again, timeout) {
                Some(marked) if before.is_none() => again = marked,
                _ => {
                    let wait = before.unwrap_or_else(|| Wait::begins(&again));
                    self.waits().remember(task.tid, wait);
                }
            }
        }
        if is_anew && DECIDES_BEFORE_STOP {
            return anew(task, &registers);
        }
        write_general(task.tid, &again)?;
        if DECIDES_BEFORE_STOP {
            task.halt = make_again(task.tid, &registers, || Ok(()))?;
        }
        Ok(())
    }

    /// Has a call carry along that its wait begins now, where nobody sees that.
    fn marked(&self, task: Task, again: &Registers, timeout: Duration) -> Option<Registers> {
        let is_free = again.can_carry() && again.carried() == 0;
        if !self.marks || !is_free || timeout >= Mark::LENGTH_MAX {
            return None;
        }
        let mut marked = *again;
        marked.carry(Mark::now().bits());
        (!self.filtered || treats_alike(task, again, &marked)).then_some(marked)
    }
}

/// Returns registers without what was written into them so that a wait ends: of a call that a stop
/// ends, or of one that began anew for a filter's sake.
pub(super) fn as_if_undisturbed(tid: u32, mut registers: Registers) -> Registers {
    if Mark::from_bits(registers.carried()).is_some() && may_be_marked(tid, &registers) {
        registers.carry(0);
    }
    registers
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
            let read = read_there(pid, address, &mut argument).ok()?;
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
        Timeout::Connect(fd) => socket(task, fd, sockopt::Timeout::Send),
    }
}

/// What a call returns when its time is over.
fn timed_out(task: Task, call: &WaitingCall) -> i64 {
    const EAGAIN: i64 = -11;
    let is_local = |fd| {
        let socket = descriptor_of(task.pid, task.tid, fd).ok()?;
        Some(sockopt::socket_domain(socket).ok()? == AddressFamily::UNIX)
    };
    match call.timeout {
        // It waits for room in a queue, and no connection is under way.
        Timeout::Connect(fd) if is_local(fd) == Some(true) => EAGAIN,
        _ => call.timed_out,
    }
}

/// A timeout of a socket; `None` where it has none, or is no socket.
fn socket(task: Task, fd: i32, which: sockopt::Timeout) -> Option<Duration> {
    let socket = descriptor_of(task.pid, task.tid, fd).ok()?;
    sockopt::socket_timeout(socket, which).ok()?
}

fn timespec(pid: u32, address: Vaddr) -> Option<Duration> {
    let mut bytes = [0; 16];
    let read = read_there(pid, address, &mut bytes).ok()?;
    let (seconds, nanos) = bytes.split_first_chunk::<8>()?;
    let seconds = u64::try_from(i64::from_ne_bytes(*seconds)).ok()?;
    let nanos = u32::try_from(i64::from_ne_bytes(nanos.try_into().ok()?)).ok()?;
    (read == bytes.len() && nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))
}

/// Reads memory of a stopped task that is there. What is not may be to come from a handler of the process's
/// own, which stands still, and the thread that holds the tasks must not wait for it.
fn read_there(tid: u32, address: Vaddr, buf: &mut [u8]) -> Result<usize, Errno> {
    const THERE: u64 = 3 << 62; // present or swapped
    let page_size = base_page_size().bytes();
    let pagemap = File::open(format!("/proc/{tid}/pagemap"))?;
    for at in [address.0, address.0.saturating_add(buf.len() as u64 - 1)] {
        let mut entry = [0; 8];
        pagemap.read_exact_at(&mut entry, at / page_size * 8)?;
        if u64::from_ne_bytes(entry) & THERE == 0 {
            return Err(Errno::EFAULT);
        }
    }
    memory::read_at(tid, address, buf)
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn no_mark_is_left_in_what_a_snapshot_holds() {
        const RAX: usize = 10;
        const ORIG_RAX: usize = 15;
        const EINTR: i64 = -4;
        const ERESTARTNOHAND: i64 = -514;
        const ERESTART_RESTARTBLOCK: i64 = -516;
        let registers = |number: u64, result: i64| {
            let mut bytes = [0; Registers::BYTES];
            for (at, value) in [(RAX, result.cast_unsigned()), (ORIG_RAX, number)] {
                bytes[at * 8..][..8].copy_from_slice(&value.to_le_bytes());
            }
            Registers::from_bytes(&bytes)
        };
        let (poll, nanosleep, epoll_wait) = (7, 35, 232);
        for (number, result) in [
            (epoll_wait, EINTR),
            (epoll_wait, ERESTARTNOHAND),
            // Its time was over, or an event came just before the stop.
            (epoll_wait, 0),
            (epoll_wait, 3),
            (poll, ERESTARTNOHAND),
            (poll, ERESTART_RESTARTBLOCK),
            (nanosleep, ERESTARTNOHAND),
        ] {
            let before = registers(number, result);
            let mut marked = before;
            marked.carry(Mark::now().bits());
            assert_ne!(marked, before);
            let stored = as_if_undisturbed(std::process::id(), marked);
            assert_eq!(stored, before, "{number} {result}");
        }
        // What is no mark is the program's.
        let mut odd = registers(poll, ERESTARTNOHAND);
        odd.carry(1);
        assert_eq!(as_if_undisturbed(std::process::id(), odd), odd);
    }
}
