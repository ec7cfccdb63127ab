//! `UFFDIO_COPY` (`userfaultfd_copy`).

use space::Errno;

use super::fill::{Source, Target, Transfer, What};
use super::{UffdId, range};
use crate::access::Kind;
use crate::call::rw::narrow;
use crate::folio::Content;
use crate::gup;
use crate::machine::{Fd, Machine, Mm, Progress, Tid, World};
use crate::profile::Kernel;
use crate::stop::{Stop, Wait};
use crate::uapi::uffd::mode;
use crate::vma::VmaFlags;

/// Arguments of `UFFDIO_COPY` and `UFFDIO_MOVE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UffdCopy {
    /// Where to.
    pub dst: u64,
    /// Where from.
    pub src: u64,
    /// How many bytes.
    pub len: u64,
    /// `UFFDIO_COPY_MODE_*` or `UFFDIO_MOVE_MODE_*`.
    pub mode: u64,
}

/// A call that sleeps since its source has a fault of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slept {
    /// What is waited for.
    wait: Wait,
    /// The userfaultfd, which is open until the call ends.
    pub(crate) uffd: UffdId,
    /// How many bytes were copied before.
    done: u64,
    /// How many are copied at once: a page of the range.
    unit: u64,
}

fn blocked(wait: Wait) -> Transfer {
    Transfer {
        result: Err(Stop::Blocked(wait)),
        out: None,
    }
}

impl Machine {
    /// Copies bytes of the caller into new pages of a range. The thread may sleep where the source
    /// has a fault of its own.
    pub fn uffd_copy(&mut self, tid: Tid, fd: Fd, args: UffdCopy) -> Transfer {
        let slept = match self.progress(tid) {
            Some(&Progress::Copy(slept)) if self.is_blocked(slept.wait) => {
                return blocked(slept.wait);
            }
            Some(&Progress::Copy(slept)) => Some(slept),
            _ => None,
        };
        let target = match self.copy_target(tid, fd, &args, slept) {
            Ok(target) => target,
            Err(left) => return left,
        };
        let page_size = self.world.page_size();
        let source = |machine: &mut Self, at: u64| {
            let (world, process) = machine.halves(tid)?;
            let read = read_source(world, &mut process.mm, tid, args.src + at, page_size);
            read.map(Source::Bytes)
        };
        // What slept in `copy_from_user` reads to the end before it looks at the range again.
        let read = slept.map_or(Ok(()), |Slept { done, unit, .. }| {
            let mut pages = (done..done + unit).step_by(narrow(page_size));
            pages
                .try_for_each(|at| source(self, at).map(drop))
                .map_err(|stop| (done, stop))
        });
        let before = slept.map_or(0, |slept| slept.done);
        let filled = read.and_then(|()| self.fill(&target, before, source));
        if let Err((done, Stop::Blocked(wait))) = filled {
            self.sleep_in_copy(tid, &target, (done, wait), slept.is_some());
            return blocked(wait);
        }
        let left = self.end_fill(&target, args.mode & mode::DONTWAKE != 0, filled);
        if slept.is_some() {
            if let Ok(task) = self.task_mut(tid) {
                task.progress = None;
            }
            self.uffd_put(target.uffd);
        }
        left
    }

    /// The call sleeps in its source, with the userfaultfd open whatever is closed meanwhile (`fdget`).
    fn sleep_in_copy(
        &mut self,
        tid: Tid,
        target: &Target,
        (done, wait): (u64, Wait),
        slept_before: bool,
    ) {
        let uffd = target.uffd;
        if !slept_before {
            self.world.uffds.get(uffd);
        }
        let unit = self.unit_at(target, done);
        if let Ok(task) = self.task_mut(tid) {
            task.progress = Some(Progress::Copy(Slept {
                wait,
                uffd,
                done,
                unit,
            }));
        }
    }

    /// How many bytes go into the range at once.
    fn unit_at(&self, target: &Target, done: u64) -> u64 {
        let process = self.process(self.context(target.uffd).pid);
        let vma = process
            .ok()
            .and_then(|process| process.mm.vmas.lookup(target.start + done));
        vma.map_or(self.world.page_size(), |vma| 1 << vma.page_shift)
    }

    /// The checks of the call. One that slept has passed those that ask for the descriptor.
    fn copy_target(
        &self,
        tid: Tid,
        fd: Fd,
        args: &UffdCopy,
        slept: Option<Slept>,
    ) -> Result<Target, Transfer> {
        let uffd = match slept {
            Some(slept) => slept.uffd,
            None => self.uffd_ready(tid, fd).map_err(Transfer::refused)?,
        };
        if slept.is_none() && self.is_changing(uffd) {
            return Err(Transfer::changing(self.world.profile.kernel));
        }
        let world = &self.world;
        range::check_unaligned(world, args.src, args.len).map_err(Transfer::refused)?;
        range::check(world, args.dst, args.len).map_err(Transfer::refused)?;
        let protection =
            protection_of(world, args.mode, mode::DONTWAKE).map_err(Transfer::refused)?;
        let pid = self.context(uffd).pid;
        self.process(pid).map_err(Transfer::refused)?;
        Ok(Target {
            uffd,
            start: args.dst,
            len: args.len,
            protection,
            what: What::Bytes,
            source: Some((tid, args.src)),
        })
    }

    /// What all calls that fill do at their end: waking, and the output field.
    pub(super) fn end_fill(
        &mut self,
        target: &Target,
        dontwake: bool,
        filled: Result<(), (u64, Stop)>,
    ) -> Transfer {
        let done = match filled {
            Ok(()) => target.len,
            Err((0, Stop::Failed(errno))) => return Transfer::failed(errno),
            Err((done, _)) => done,
        };
        if !dontwake {
            let context = self.context_mut(target.uffd);
            context.wake(target.start, target.start + done);
        }
        Transfer::done(done, target.len)
    }
}

/// The protection that a mode of `COPY` or `CONTINUE` asks for, if it knows no other bits.
///
/// # Errors
///
/// `EINVAL`.
pub(super) fn protection_of(world: &World, mode: u64, others: u64) -> Result<VmaFlags, Errno> {
    let rwp = if world.profile.kernel >= Kernel::V7_3 {
        mode::RWP
    } else {
        0
    };
    if mode & !(others | mode::WP | rwp) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut protection = VmaFlags::empty();
    protection.set(VmaFlags::UFFD_WP, mode & mode::WP != 0);
    protection.set(VmaFlags::UFFD_RWP, mode & rwp != 0);
    Ok(protection)
}

/// `copy_from_user` of one page: a page that is read as a whole is passed on as it is.
pub(super) fn read_source(
    world: &mut World,
    mm: &mut Mm,
    tid: Tid,
    src: u64,
    len: u64,
) -> Result<Content, Stop> {
    if world.offset_in_page(src) == 0 && len == world.page_size() {
        let pfn = crate::access::reach_by_kernel(world, mm, tid, src, Kind::Load)?;
        return Ok(world.frames.frame(pfn).content.clone());
    }
    let page_size = world.frames.page_size();
    let mut bytes = vec![0; page_size];
    gup::copy_in(world, mm, tid, src, &mut bytes)?;
    let mut content = Content::ZERO;
    content.write(0, &bytes, page_size);
    Ok(content)
}
