//! Having the writes of a process tracked.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use space::{Errno, PageRange, StopLength, Tracking, Vaddr};

use super::scanner::Scanner;
use super::{Target, TrackError, absent};
use crate::arch::{Gadgets, call};
use crate::inject::{self, Caller, InjectError, Purpose, Rehearsed, Site, track_args};
use crate::memory::{SoftDirty, WriteProtect};
use crate::task::{Stopped, Tracer};
use crate::uapi::pagemap::{PM_FRAME, PM_SOFT_DIRTY};

/// So many times what a stop may take, all that is done in it may take.
pub(super) const STEPS: u32 = 4;

/// How much has to be left of the time of a stop for calls to be begun in it, if that is less than
/// a fourth of it: on any machine but the busiest they take much less.
const ROOM: Duration = Duration::from_millis(20);

/// How long calls of a stopped process may take. What has begun is brought to its end all the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowed {
    /// The whole, for messages.
    limit: Duration,
    /// When it is over, if ever.
    until: Option<Instant>,
    /// When it is too late to begin.
    begin_until: Option<Instant>,
}

impl Allowed {
    /// So much from now on.
    pub(super) fn from_now(limit: Duration) -> Self {
        let until = Instant::now().checked_add(limit);
        Self {
            limit,
            until,
            begin_until: until,
        }
    }

    /// What a stop leaves that may last for `limit`.
    pub(super) fn within(tracer: &Tracer, limit: Duration) -> Self {
        let room = ROOM.min(limit / 4);
        let until = tracer.asked().checked_add(limit);
        Self {
            limit,
            until,
            begin_until: until.and_then(|until| until.checked_sub(room)),
        }
    }
}

/// Calls of a process that took longer than it was to stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateCall {
    /// The thread that made them.
    pub tid: u32,
    /// How long they took.
    pub took: Duration,
    /// Whether the thread is back where it was. If not, it finds its own way, and the call that it
    /// waited in ends with `EINTR`.
    pub is_back: bool,
}

/// Which way of tracking is wished for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackWish {
    /// The best that works.
    Best,
    /// Soft-dirty bits, even where there is better.
    SoftDirty,
}

/// How writes are tracked.
#[derive(Debug)]
pub(super) enum Track {
    WriteProtect(WriteProtect),
    SoftDirty(SoftDirty),
    None,
}

impl Track {
    pub(super) fn kind(&self) -> Tracking {
        match self {
            Self::WriteProtect(_) => Tracking::WriteProtect,
            Self::SoftDirty(_) => Tracking::SoftDirty,
            Self::None => Tracking::None,
        }
    }
}

impl Target {
    /// Makes writes trackable. This stops the process for a moment, to have it make a
    /// userfaultfd that only we keep: for no longer than `limit`, unless the task that makes it takes
    /// longer ([`take_late_call`](Self::take_late_call)). Where that was not enough
    /// ([`TrackError::is_late`]), it may be tried again.
    ///
    /// # Errors
    ///
    /// [`TrackError`]; the process goes on as before, and can still be frozen and read.
    pub fn attach(&mut self, wish: TrackWish, limit: Duration) -> Result<(), TrackError> {
        if self.track.kind() != Tracking::None {
            return Ok(());
        }
        let best = match wish {
            TrackWish::SoftDirty => Err(TrackError::NoSoftDirty),
            TrackWish::Best if !matches!(self.view.scanner, Scanner::Ioctl(_)) => {
                Err(TrackError::NoWay)
            }
            TrackWish::Best => self.write_protect(limit).map(Track::WriteProtect),
        };
        self.absent_is_written = best.is_ok() && absent::counts_as_written(self.view.page_size);
        self.track = match best {
            Ok(track) => track,
            Err(error) if error.is_late() => return Err(error),
            Err(error) => Track::SoftDirty(self.soft_dirty(error)?),
        };
        Ok(())
    }

    /// Opens the second-best way, which `error` made necessary.
    fn soft_dirty(&self, error: TrackError) -> Result<SoftDirty, TrackError> {
        match check_soft_dirty() {
            Ok(()) => {}
            Err(TrackError::NoSoftDirty) => return Err(error),
            Err(other) => return Err(other),
        }
        SoftDirty::open(self.pid, self.view.page_size).map_err(|errno| TrackError::Failed {
            what: "opening clear_refs",
            errno,
        })
    }

    /// Tells for what the process could be made to call the kernel, its seccomp filters included.
    /// This stops it for a moment, and makes it call nothing.
    ///
    /// # Errors
    ///
    /// [`TrackError::Inject`] where it has no code for calls, [`TrackError::Stop`] where it could
    /// not be stopped.
    pub(crate) fn could_inject(&mut self, limit: Duration) -> Result<Rehearsed, TrackError> {
        let gadgets = self.find_gadgets()?;
        let pid = self.pid;
        let tracer = self.stop_tasks(limit)?;
        tracer.hold(limit.saturating_mul(STEPS));
        let answer = tracer.run(move |stopped| Ok(inject::rehearse(pid, gadgets, stopped)));
        drop(tracer);
        Ok(answer.map_err(InjectError::from)?)
    }

    /// Tells whether the process could be made to fork, as far as that is known without trying. This
    /// stops it for a moment where its filters have to be read, or where it could not be made to call
    /// anything so far.
    ///
    /// # Errors
    ///
    /// The reason why not.
    pub fn could_fork(&mut self, limit: Duration) -> Result<(), TrackError> {
        self.find_gadgets()?;
        let called = matches!(self.track, Track::WriteProtect(_));
        if called && !crate::task::proc::is_filtered(self.pid) {
            return Ok(());
        }
        let begun = Instant::now();
        let answer = self.could_inject(limit);
        self.stops.push(StopLength {
            why: "filters".into(),
            length: begun.elapsed(),
        });
        Ok(answer?.fork?)
    }

    /// Has the process make a userfaultfd, takes it over and closes the process's own.
    fn write_protect(&mut self, limit: Duration) -> Result<WriteProtect, TrackError> {
        self.refresh().map_err(|errno| TrackError::Failed {
            what: "reading the mappings",
            errno,
        })?;
        self.find_gadgets()?;
        let begun = Instant::now();
        let tracer = match self.stop_tasks(limit) {
            Ok(tracer) => tracer,
            Err(error) => {
                self.stopped_for("attach", begun);
                return Err(error.into());
            }
        };
        tracer.hold(limit.saturating_mul(STEPS));
        let allowed = Allowed::within(&tracer, limit);
        let made = self.inject(&tracer, Purpose::Track, allowed, |caller| {
            let fd = caller.call(call::USERFAULTFD, track_args())?;
            let fd = i32::try_from(fd).map_err(|_| Errno::EIO)?;
            if fd < 0 {
                return Ok(Err(Errno(-fd)));
            }
            let ours = caller.descriptor(fd);
            // Closed before anything is registered with it: whatever becomes of us, nothing of
            // it has an effect on the process.
            caller.close(fd.unsigned_abs())?;
            Ok(ours)
        });
        drop(tracer);
        self.stopped_for("attach", begun);
        let fd = made?.map_err(TrackError::Userfaultfd)?;
        let protect = WriteProtect::new(fd).map_err(TrackError::Userfaultfd)?;
        self.attached = Some(begun);
        Ok(protect)
    }

    /// Takes note of a stop that is over.
    pub(super) fn stopped_for(&mut self, why: &str, begun: Instant) {
        let (why, length) = (why.to_owned(), begun.elapsed());
        self.stops.push(StopLength { why, length });
    }

    /// Looks for the code that injected calls run through, unless that was done before.
    pub(super) fn find_gadgets(&mut self) -> Result<Gadgets, InjectError> {
        if self
            .gadgets
            .is_none_or(|gadgets| !gadgets.hold(self.memory_task))
        {
            let mappings = space::AddressSpace::mappings(self)?;
            self.gadgets = Gadgets::find(self.memory_task, &mappings, self.view.page_size);
        }
        self.gadgets.ok_or(InjectError::NoGadgets)
    }

    /// Has one of the stopped tasks make the calls of `job`.
    pub(super) fn inject<T: Send + 'static>(
        &mut self,
        tracer: &Tracer,
        purpose: Purpose,
        allowed: Allowed,
        job: impl FnOnce(&mut Caller<'_>) -> Result<T, InjectError> + Send + 'static,
    ) -> Result<T, InjectError> {
        let gadgets = self.gadgets.ok_or(InjectError::NoGadgets)?;
        let mappings = space::AddressSpace::mappings(self)?;
        let pagemap = self.view.pagemap.try_clone().map_err(Errno::from)?;
        let (pid, page_size) = (self.pid, self.view.page_size);
        let Allowed { limit, until, .. } = allowed;
        let earlier = self.scratch.map(PageRange::start);
        let answer = tracer.run(move |stopped: &mut Stopped| {
            let site = Site {
                pid,
                mappings: &mappings,
                pagemap: pagemap.as_fd(),
                page_size,
                gadgets,
                earlier,
                purpose,
                limit,
                until,
            };
            let (mut frames, mut risked, mut late) = (None, None, None);
            let begun = Instant::now();
            let is_too_late = allowed.begin_until.is_some_and(|until| begun >= until);
            if stopped.overdue || is_too_late {
                return Ok((Err(InjectError::TimedOut(limit)), frames, risked, late));
            }
            let made = Caller::begin(site, stopped).and_then(|mut caller| {
                frames = caller.frames();
                risked = caller.risked_wait();
                let tid = caller.tid();
                let made = job(&mut caller);
                let is_back = caller.bring_back();
                let is_late = until.is_some_and(|until| Instant::now() > until);
                let took = begun.elapsed();
                late = (is_late || !is_back).then_some(LateCall { tid, took, is_back });
                made
            });
            Ok((made, frames, risked, late))
        });
        let (made, frames, risked, late) = answer?;
        self.late_call = late.or(self.late_call);
        self.risked_wait = risked.or(self.risked_wait);
        if let Some((start, len)) = frames {
            let end = Vaddr(start.0 + len).align_up(page_size);
            self.scratch = end.and_then(|end| PageRange::new(start.align_down(page_size), end));
        }
        made
    }
}

/// Tells whether the kernel has soft-dirty bits, by what a new mapping of our own shows: it
/// counts as written until the bits are cleared. Without frames' numbers, moved page tables would
/// go unnoticed.
fn check_soft_dirty() -> Result<(), TrackError> {
    let mut heap = vec![0_u8; 1 << 22];
    heap.fill(1);
    let address = heap.as_ptr().addr() as u64 + (1 << 21);
    let page_size = rustix::param::page_size() as u64;
    let mut entry = [0; 8];
    let read = std::fs::File::open("/proc/self/pagemap").and_then(|pagemap| {
        std::os::unix::fs::FileExt::read_at(&pagemap, &mut entry, address / page_size * 8)
    });
    std::hint::black_box(&heap);
    let entry = u64::from_ne_bytes(entry);
    match read {
        Ok(8) if entry & PM_SOFT_DIRTY == 0 => Err(TrackError::NoSoftDirty),
        Ok(8) if entry & PM_FRAME == 0 => Err(TrackError::NoFrames),
        Ok(8) => Ok(()),
        _ => Err(TrackError::NoSoftDirty),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use space::Freeze;

    use super::*;
    use crate::programs::Live;

    const LIMIT: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(10);
    /// What the kernel says of an interrupted `ppoll` to whoever traces it.
    const ERESTARTNOHAND: i64 = -514;

    #[test]
    fn a_call_that_is_late_is_brought_to_its_end_and_the_task_back() {
        let directory = tempfile::tempdir().unwrap();
        let (mut parent, _) = Live::start(directory.path(), 0);
        let mut target = Target::open(parent.child.id()).unwrap();
        target.refresh().unwrap();
        target.stop(LIMIT).unwrap();
        let before = target.tasks().unwrap();
        let tracer = Arc::clone(target.stopped.as_ref().unwrap());

        // One that waits for ever, and one behind it.
        let made = target.inject(&tracer, Purpose::Fork, Allowed::from_now(SHORT), |caller| {
            let number = u64::try_from(libc::SYS_ppoll).unwrap();
            let waited = caller.call(number, [0; 6])?;
            Ok((waited, caller.call(number, [0; 6])))
        });
        let too_late = InjectError::TimedOut(SHORT);
        assert_eq!(made, Ok((ERESTARTNOHAND, Err(too_late))));
        let late = target.take_late_call().unwrap();
        assert!(late.is_back && late.tid == parent.child.id(), "{late:?}");
        assert!(late.took > SHORT && late.took < LIMIT, "{late:?}");
        let after = target.tasks().unwrap();
        assert_eq!(before[0].registers, after[0].registers);
        assert_eq!(before[0].signals_blocked, after[0].signals_blocked);

        // Without any time it is not touched.
        let none = Allowed::from_now(Duration::ZERO);
        let made = target.inject(&tracer, Purpose::Fork, none, |_| Ok(()));
        assert_eq!(made, Err(InjectError::TimedOut(Duration::ZERO)));
        assert_eq!(target.take_late_call(), None);

        drop(tracer);
        target.resume().unwrap();
        let answer = parent.ask("?");
        assert!(answer.starts_with("bad=0 "), "{answer}");
    }

    #[test]
    fn a_limit_without_end_is_none() {
        let allowed = Allowed::from_now(Duration::MAX);
        assert_eq!((allowed.until, allowed.begin_until), (None, None));
    }
}
