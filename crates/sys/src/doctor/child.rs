//! A child of our own that probes are tried on.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use space::{Errno, PageSize, Vaddr};

use super::raw::{Ends, Order, spawn};
use crate::raw::process::kill;
use crate::raw::scratch::ScratchPages;
use crate::raw::wait::{self, Change};

/// How long a probe waits for its child.
const PATIENCE: Duration = Duration::from_secs(2);

/// A child that does what it is told, and is ended when this is dropped.
#[derive(Debug)]
pub(super) struct ProbeChild {
    pid: u32,
    orders: Option<OwnedFd>,
    answers: OwnedFd,
    /// The child's copy of these pages is at the same address.
    scratch: ScratchPages,
    /// A descriptor that the child holds under this number.
    shared: OwnedFd,
}

impl ProbeChild {
    /// Makes one.
    pub(super) fn start(page_size: PageSize) -> Result<Self, Errno> {
        let scratch = ScratchPages::map(1, page_size, false)?;
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|errno| Errno(errno.raw_os_error()));
        let (order_reader, order_writer) = pipe()?;
        let (answer_reader, answer_writer) = pipe()?;
        let ends = Ends {
            orders: order_reader.as_fd(),
            answers: answer_writer.as_fd(),
            order_writer: order_writer.as_fd(),
        };
        let pid = spawn(ends, &scratch)?;
        drop(answer_writer);
        Ok(Self {
            pid,
            orders: Some(order_writer),
            answers: answer_reader,
            scratch,
            shared: order_reader,
        })
    }

    /// Returns its id.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns the address of its scratch page.
    pub(super) fn page(&self) -> Vaddr {
        self.scratch.address(0)
    }

    /// Returns a descriptor that we share with it under the same number: the reading end of a
    /// pipe.
    pub(super) fn shared(&self) -> &OwnedFd {
        &self.shared
    }

    /// Has it carry out an order, and returns its answer: 0 is good.
    pub(super) fn order(&self, order: Order) -> Result<u8, Errno> {
        let errno = |errno: rustix::io::Errno| Errno(errno.raw_os_error());
        let orders = self.orders.as_ref().ok_or(Errno::ESRCH)?;
        rustix::io::write(orders, &[order as u8]).map_err(errno)?;
        let mut answers = [PollFd::new(&self.answers, PollFlags::IN)];
        let timeout = Timespec::try_from(PATIENCE).map_err(|_| Errno::EINVAL)?;
        if poll(&mut answers, Some(&timeout)).map_err(errno)? == 0 {
            return Err(Errno::ETIMEDOUT);
        }
        let mut answer = [0];
        match rustix::io::read(&self.answers, &mut answer).map_err(errno)? {
            1 => Ok(answer[0]),
            _ => Err(Errno::ESRCH),
        }
    }

    /// Waits for it to stop after it was interrupted.
    pub(super) fn wait_stopped(&self) -> Result<(), Errno> {
        match self.wait()? {
            Change::Stopped { .. } => Ok(()),
            Change::Ended => Err(Errno::ESRCH),
        }
    }

    fn wait(&self) -> Result<Change, Errno> {
        const PAUSE: Duration = Duration::from_millis(1);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(change) = wait::poll(self.pid)? {
                return Ok(change);
            }
            std::thread::sleep(PAUSE);
        }
        Err(Errno::ETIMEDOUT)
    }
}

impl Drop for ProbeChild {
    /// Ends it and reaps it.
    fn drop(&mut self) {
        self.orders = None;
        if kill(self.pid).is_ok() {
            _ = wait::reap(self.pid);
        }
    }
}
