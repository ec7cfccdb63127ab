//! Events that tell a userfaultfd what the process did to its memory, and the waiting for them to
//! be read.
//!
//! The calls ask for an event with the functions here, at the places where the kernel has its
//! hooks. `REMOVE` is waited for before anything is removed; `FORK`, `REMAP` and `UNMAP` when all is
//! done, one userfaultfd after the other.
//!
//! Linux reference: 6.18, `fs/userfaultfd.c` (`userfaultfd_event_wait_completion`,
//! `dup_userfaultfd`, `mremap_userfaultfd_prep`, `userfaultfd_remove`, `userfaultfd_unmap_prep`).

use std::collections::VecDeque;
use std::ops::Range;

use space::Errno;

use super::UffdId;
use super::context::{Context, Event, Prepared};
use crate::call::madvise::Removal;
use crate::machine::{Machine, Mm, Pid, Progress, Tid, World};
use crate::stop::{Stop, Wait};
use crate::uapi::uffd::Features;
use crate::vma::{View, Vma, VmaFlags};

/// `userfaultfd_unmap_prep`: each userfaultfd of the mappings of these indexes that asked for
/// `EVENT_UNMAP` gets one, for `start..end`.
pub(crate) fn unmap_prepare(
    world: &mut World,
    mm: &Mm,
    tid: Tid,
    vmas: Range<usize>,
    start: u64,
    end: u64,
) {
    for index in vmas {
        let Some(uffd) = mm.vmas.at(index).uffd else {
            continue;
        };
        let prepared = Prepared {
            tid,
            uffd,
            event: Event::Unmap { start, end },
        };
        if world.uffds.has(Some(uffd), Features::EVENT_UNMAP)
            && !world.uffds.prepared.contains(&prepared)
        {
            prepare(world, prepared);
        }
    }
}

fn prepare(world: &mut World, prepared: Prepared) {
    if let Some(context) = world.uffds.find_mut(prepared.uffd) {
        context.changing += 1;
    }
    world.uffds.prepared.push(prepared);
}

/// `dup_userfaultfd`: the child's copy of a mapping is registered with a new userfaultfd if the
/// parent's asked for `EVENT_FORK`, and with none otherwise.
pub(crate) fn dup(world: &mut World, tid: Tid, child: Pid, copy: &mut Vma) {
    let Some(own) = copy.uffd else {
        return;
    };
    if !world.uffds.has(Some(own), Features::EVENT_FORK) {
        reset(copy);
        return;
    }
    let made = world.uffds.prepared.iter().find_map(|prepared| {
        let same = prepared.tid == tid && prepared.uffd == own;
        match prepared.event {
            Event::Fork { new } if same => Some(new),
            _ => None,
        }
    });
    let new = made.unwrap_or_else(|| {
        let parent = world.uffds.find(own).expect("a registered one is there");
        let mut context = Context::new(child, parent.user_mode_only, parent.features);
        context.nonblock = parent.nonblock;
        let new = world.uffds.add(context);
        let event = Event::Fork { new };
        prepare(
            world,
            Prepared {
                tid,
                uffd: own,
                event,
            },
        );
        new
    });
    copy.uffd = Some(new);
}

/// `userfaultfd_reset_ctx`: a mapping is registered no more.
pub(super) fn reset(vma: &mut Vma) {
    vma.uffd = None;
    vma.flags -= VmaFlags::UFFD;
}

/// `vma_has_uffd_without_event_remap`: moving the mapping lifts its protection.
pub(crate) fn drops_protection(world: &World, vma: &View) -> bool {
    vma.uffd.is_some() && !world.uffds.has(vma.uffd, Features::EVENT_REMAP)
}

/// `mremap_userfaultfd_prep`: whether a mapping that moved `(from, to, len)` stays registered; if
/// so, the event is queued here and waited for at the end of the call.
pub(crate) fn remap_prepare(
    world: &mut World,
    tid: Tid,
    moved: &mut Vma,
    (from, to, len): (u64, u64, u64),
) {
    let Some(uffd) = moved.uffd else {
        return;
    };
    if !world.uffds.has(Some(uffd), Features::EVENT_REMAP) {
        reset(moved);
        return;
    }
    let event = Event::Remap { from, to, len };
    let prepared = Prepared { tid, uffd, event };
    prepare(world, prepared);
    // What `mremap` cuts off the end of the old range is told after the move.
    let list = &mut world.uffds.prepared;
    let is_cut = |prepared: &Prepared| {
        let start = match prepared.event {
            Event::Unmap { start, .. } => Some(start),
            _ => None,
        };
        prepared.tid == tid && start.is_some_and(|start| start != to)
    };
    list.sort_by_key(is_cut);
}

impl Machine {
    /// Where a call that is issued again stands: `Some` with its result if it only had to wait for
    /// an event to be read, an error if it failed or still has to wait.
    pub(crate) fn finish_event(&mut self, tid: Tid) -> Result<Option<u64>, Stop> {
        let progress = &mut self.task_mut(tid)?.progress;
        let Some(Progress::Events { wait, .. }) = progress else {
            return Ok(None);
        };
        let wait = *wait;
        if self.is_blocked(wait) {
            return Err(Stop::Blocked(wait));
        }
        match self.task_mut(tid)?.progress.take() {
            Some(Progress::Events { rest, result, .. }) => {
                self.send_events(tid, rest, result).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// `userfaultfd_unmap_complete`, `mremap_userfaultfd_complete` and
    /// `dup_userfaultfd_complete`: queues the events that a call has prepared and waits for them
    /// to be read; then the call ends in `result`.
    pub(crate) fn complete_events(
        &mut self,
        tid: Tid,
        result: Result<u64, Errno>,
    ) -> Result<u64, Stop> {
        if self.world.uffds.prepared.is_empty() {
            return result.map_err(Stop::Failed);
        }
        let prepared = std::mem::take(&mut self.world.uffds.prepared);
        self.send_events(tid, prepared.into(), result)
    }

    /// `dup_userfaultfd_fail`: a call failed, and what it prepared is not told.
    pub(crate) fn abandon_events(&mut self) {
        for prepared in std::mem::take(&mut self.world.uffds.prepared) {
            self.abandon(prepared);
        }
    }

    fn abandon(&mut self, prepared: Prepared) {
        if let Some(context) = self.world.uffds.find_mut(prepared.uffd) {
            context.changing -= 1;
        }
        self.drop_event(prepared.event);
    }

    /// `userfaultfd_event_wait_completion`, for one event after the other.
    pub(crate) fn send_events(
        &mut self,
        tid: Tid,
        mut rest: VecDeque<Prepared>,
        result: Result<u64, Errno>,
    ) -> Result<u64, Stop> {
        while let Some(Prepared { uffd, event, .. }) = rest.pop_front() {
            let Some(context) = self.world.uffds.find_mut(uffd) else {
                self.drop_event(event);
                continue;
            };
            let ticket = context.queue_event(tid, event);
            let wait = Wait { uffd, ticket };
            self.task_mut(tid)?.progress = Some(Progress::Events { wait, rest, result });
            return Err(Stop::Blocked(wait));
        }
        result.map_err(Stop::Failed)
    }

    /// An event that nobody will read any more.
    pub(super) fn drop_event(&mut self, event: Event) {
        if let Event::Fork { new } = event {
            self.release_unread(new);
        }
    }

    /// `userfaultfd_release_new`: a child's userfaultfd that nobody asked for.
    fn release_unread(&mut self, new: UffdId) {
        let Some(context) = self.world.uffds.remove(new) else {
            return;
        };
        if let Ok((_, process)) = self.halves_of(context.pid) {
            let vmas = &mut process.mm.vmas;
            for index in 0..vmas.len() {
                if vmas.at(index).uffd == Some(new) {
                    reset(vmas.at_mut(index));
                }
            }
        }
    }

    /// `userfaultfd_remove`: tells the userfaultfd of the mapping at `start` that pages are about
    /// to go, if it wants to know, and waits until it knows.
    pub(crate) fn uffd_remove(&mut self, tid: Tid, start: u64, end: u64) -> Result<(), Stop> {
        if let Some(removal) = self.removal(tid)
            && removal.start == start
        {
            if self.is_blocked(removal.wait) {
                return Err(Stop::Blocked(removal.wait));
            }
            self.task_mut(tid)?.progress = None;
            return Ok(());
        }
        let (world, process) = self.halves(tid)?;
        let uffd = process.mm.vmas.lookup(start).and_then(|vma| vma.uffd);
        let Some(uffd) = uffd.filter(|_| world.uffds.has(uffd, Features::EVENT_REMOVE)) else {
            return Ok(());
        };
        let context = world
            .uffds
            .find_mut(uffd)
            .expect("a registered one is there");
        context.changing += 1;
        let ticket = context.queue_event(tid, Event::Remove { start, end });
        let wait = Wait { uffd, ticket };
        self.task_mut(tid)?.progress = Some(Progress::Removal(Removal {
            wait,
            start,
            end,
            unmapped: false,
            hole: None,
        }));
        Err(Stop::Blocked(wait))
    }

    /// The threads of a process are no more: nobody waits for them, and they for nobody.
    pub(crate) fn forget_waits(&mut self, pid: Pid) {
        let own: Vec<Tid> = self.threads_of(pid).collect();
        let gone = |tid: Tid| own.contains(&tid);
        let unread: Vec<Event> = self.world.uffds.forget_threads(gone);
        self.world.locks.forget_threads(gone);
        for event in unread {
            self.drop_event(event);
        }
        for &tid in &own {
            let progress = self.task_mut(tid).map(|task| task.progress.take());
            match progress {
                Ok(Some(Progress::Events { rest, .. })) => {
                    for prepared in rest {
                        self.abandon(prepared);
                    }
                }
                Ok(Some(Progress::Removal(removal))) => removal.release(&mut self.world),
                Ok(Some(Progress::Copy(slept))) => self.uffd_put(slept.uffd),
                Ok(Some(Progress::Reading(uffd))) => self.uffd_put(uffd),
                Ok(Some(Progress::Populate(populate))) => {
                    for prepared in populate.events {
                        self.abandon(prepared);
                    }
                }
                Ok(Some(Progress::Moving(moved))) => moved.release(self),
                Ok(Some(Progress::ProcessVm(call))) => call.release(&mut self.world),
                _ => {}
            }
        }
    }
}
