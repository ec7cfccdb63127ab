//! The state of a userfaultfd: `struct userfaultfd_ctx` with its wait queues.

use std::collections::{BTreeMap, VecDeque};

use crate::machine::{Pid, Tid};
use crate::stop::Wait;
use crate::uapi::uffd::Features;

/// The number of a userfaultfd's context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UffdId(pub u32);

/// A fault whose thread sleeps (`struct userfaultfd_wait_queue`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub(crate) ticket: u64,
    pub(crate) tid: Tid,
    /// What `UFFDIO_WAKE` compares, and what is read.
    pub(crate) address: u64,
    /// `UFFD_PAGEFAULT_FLAG_*`.
    pub(crate) flags: u64,
}

/// What happened to the memory of a process that its userfaultfd is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The child's userfaultfd.
    Fork {
        /// The new context.
        new: UffdId,
    },
    Remap {
        from: u64,
        to: u64,
        len: u64,
    },
    Remove {
        start: u64,
        end: u64,
    },
    Unmap {
        start: u64,
        end: u64,
    },
}

/// An event whose thread sleeps until it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueuedEvent {
    pub(crate) ticket: u64,
    pub(crate) tid: Tid,
    pub(crate) event: Event,
}

/// An event that a running call will queue, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prepared {
    pub(crate) tid: Tid,
    pub(crate) uffd: UffdId,
    pub(crate) event: Event,
}

/// The ticket of a reader, who waits for whatever comes.
pub(crate) const ANY: u64 = 0;

/// A userfaultfd (`struct userfaultfd_ctx`).
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// Whose memory it is for.
    pub(crate) pid: Pid,
    /// `UFFD_USER_MODE_ONLY`.
    pub(crate) user_mode_only: bool,
    /// `O_NONBLOCK`: whoever reads when there is nothing is told so.
    pub(crate) nonblock: bool,
    /// What was asked for; `None` before `UFFDIO_API`.
    pub(crate) features: Option<Features>,
    /// Descriptors, and an unread event that carries it.
    pub(crate) refs: u32,
    /// `mmap_changing`: calls that told, or will tell, of a change.
    pub(crate) changing: u32,
    /// `fault_pending_wqh`: faults that were not read, oldest first.
    pub(crate) pending: VecDeque<Waiter>,
    /// `fault_wqh`: faults that were read.
    pub(crate) read: Vec<Waiter>,
    /// `event_wqh`: events that were not read, oldest first.
    pub(crate) events: VecDeque<QueuedEvent>,
    tickets: u64,
}

impl Context {
    pub(crate) fn new(pid: Pid, user_mode_only: bool, features: Option<Features>) -> Self {
        Self {
            pid,
            user_mode_only,
            nonblock: false,
            features,
            refs: 1,
            changing: 0,
            pending: VecDeque::new(),
            read: Vec::new(),
            events: VecDeque::new(),
            tickets: 0,
        }
    }

    /// Tells whether all of `features` were asked for.
    pub(crate) fn has(&self, features: Features) -> bool {
        self.features.is_some_and(|own| own.contains(features))
    }

    fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    /// Queues a fault; a thread that waits already waits on.
    pub(crate) fn queue_fault(&mut self, tid: Tid, address: u64, flags: u64) -> u64 {
        let same = |waiter: &&Waiter| waiter.tid == tid && waiter.address == address;
        let queued = self.pending.iter().chain(&self.read).find(same);
        if let Some(waiter) = queued {
            return waiter.ticket;
        }
        let ticket = self.ticket();
        self.pending.push_back(Waiter {
            ticket,
            tid,
            address,
            flags,
        });
        ticket
    }

    /// Queues an event.
    pub(crate) fn queue_event(&mut self, tid: Tid, event: Event) -> u64 {
        let ticket = self.ticket();
        self.events.push_back(QueuedEvent { ticket, tid, event });
        ticket
    }

    /// `wake_userfault`: lets the threads go whose faults lie in `start..end`.
    pub(crate) fn wake(&mut self, start: u64, end: u64) {
        let sleeps = |waiter: &Waiter| waiter.address < start || waiter.address >= end;
        self.pending.retain(sleeps);
        self.read.retain(sleeps);
    }

    fn waits(&self, ticket: u64) -> bool {
        if ticket == ANY {
            return self.pending.is_empty() && self.events.is_empty();
        }
        self.pending
            .iter()
            .chain(&self.read)
            .any(|waiter| waiter.ticket == ticket)
            || self.events.iter().any(|event| event.ticket == ticket)
    }
}

/// All contexts of a machine.
#[derive(Clone, Debug, Default)]
pub struct Uffds {
    contexts: BTreeMap<UffdId, Context>,
    created: u32,
    /// Events of calls that run just now.
    pub(crate) prepared: Vec<Prepared>,
}

impl Uffds {
    /// Adds a context with one reference.
    pub(crate) fn add(&mut self, context: Context) -> UffdId {
        let id = UffdId(self.created);
        self.created += 1;
        self.contexts.insert(id, context);
        id
    }

    /// A context, unless it was released.
    pub(crate) fn find(&self, id: UffdId) -> Option<&Context> {
        self.contexts.get(&id)
    }

    /// As [`find`](Self::find), to be changed.
    pub(crate) fn find_mut(&mut self, id: UffdId) -> Option<&mut Context> {
        self.contexts.get_mut(&id)
    }

    /// Takes a context out.
    pub(crate) fn remove(&mut self, id: UffdId) -> Option<Context> {
        self.contexts.remove(&id)
    }

    /// Tells whether all of `features` were asked for; not so of no context at all.
    pub(crate) fn has(&self, id: Option<UffdId>, features: Features) -> bool {
        id.and_then(|id| self.find(id))
            .is_some_and(|context| context.has(features))
    }

    /// One descriptor more stands for a userfaultfd.
    pub(crate) fn get(&mut self, id: UffdId) {
        if let Some(context) = self.find_mut(id) {
            context.refs += 1;
        }
    }

    /// Tells whether a fault or event is still queued.
    pub(crate) fn waits(&self, wait: Wait) -> bool {
        self.find(wait.uffd)
            .is_some_and(|context| context.waits(wait.ticket))
    }

    /// The faults and events of threads that are no more.
    pub(crate) fn forget_threads(&mut self, gone: impl Fn(Tid) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        for context in self.contexts.values_mut() {
            context.pending.retain(|waiter| !gone(waiter.tid));
            context.read.retain(|waiter| !gone(waiter.tid));
            context.events.retain(|queued| {
                let keep = !gone(queued.tid);
                if !keep {
                    context.changing -= 1;
                    events.push(queued.event);
                }
                keep
            });
        }
        events
    }
}
