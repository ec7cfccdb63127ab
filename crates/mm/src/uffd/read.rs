//! `read` of a userfaultfd (`userfaultfd_ctx_read`).

use space::Errno;

use super::context::{ANY, Event, QueuedEvent};
use super::{UffdId, UffdMsg};
use crate::machine::{Descriptor, Fd, Machine, Progress, Tid};
use crate::stop::{Stop, Wait};
use crate::uapi::uffd::Features;

impl Machine {
    /// The next fault that nobody has read, or else the next event. The thread that waits for an
    /// event goes on; the one that waits for a page does not.
    ///
    /// # Errors
    ///
    /// `EAGAIN` where there is nothing to read, unless the thread sleeps until there is; `EINVAL`
    /// before `UFFDIO_API`.
    pub fn uffd_read(&mut self, tid: Tid, fd: Fd) -> Result<UffdMsg, Stop> {
        let is_this = |progress: &mut Progress| matches!(progress, Progress::Reading(_));
        let slept = self.task_mut(tid)?.progress.take_if(is_this);
        let uffd = match slept {
            Some(Progress::Reading(uffd)) => uffd,
            _ => self.uffd_ready(tid, fd)?,
        };
        let read = self.next_message(tid, uffd);
        let sleeps = matches!(read, Err(Stop::Blocked(_)));
        if sleeps {
            self.task_mut(tid)?.progress = Some(Progress::Reading(uffd));
        }
        // Whoever sleeps has it open until the call ends (`fdget`).
        match (slept.is_some(), sleeps) {
            (false, true) => self.world.uffds.get(uffd),
            (true, false) => self.uffd_put(uffd),
            _ => {}
        }
        read
    }

    fn next_message(&mut self, tid: Tid, uffd: UffdId) -> Result<UffdMsg, Stop> {
        let context = self.context_mut(uffd);
        let names_thread = context.has(Features::THREAD_ID);
        if let Some(waiter) = context.pending.pop_front() {
            context.read.push(waiter);
            return Ok(UffdMsg::Pagefault {
                flags: waiter.flags,
                address: waiter.address,
                ptid: if names_thread { waiter.tid.0 } else { 0 },
            });
        }
        let Some(QueuedEvent { event, .. }) = context.events.pop_front() else {
            if context.nonblock {
                return Err(Errno::EAGAIN.into());
            }
            let ticket = ANY;
            return Err(Stop::Blocked(Wait { uffd, ticket }));
        };
        context.changing -= 1;
        Ok(match event {
            Event::Fork { new } => {
                let child = self.context(new).pid;
                let (_, process) = self.halves(tid)?;
                let fd = process.add_fd(Descriptor::Uffd(new));
                UffdMsg::Fork { fd, child }
            }
            Event::Remap { from, to, len } => UffdMsg::Remap { from, to, len },
            Event::Remove { start, end } => UffdMsg::Remove { start, end },
            Event::Unmap { start, end } => UffdMsg::Unmap { start, end },
        })
    }
}
