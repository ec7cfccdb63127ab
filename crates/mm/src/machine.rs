//! The machine: memory, files, and the processes that share them.
//!
//! [`Machine`] has two halves, so that one process can be worked on while everything it shares
//! with others is at hand: `World` is what all share, `Process` what one has.

use std::collections::{BTreeMap, VecDeque};

use space::Errno;

use crate::access;
use crate::call::madvise::Removal;
use crate::call::moved::Moved;
use crate::call::process_vm::ProcessVm;
use crate::file::hugetlb::orphan::Orphans;
use crate::file::hugetlb::pool::Pools;
use crate::file::{FileId, Files};
use crate::folio::{Frames, Pfn};
use crate::lock::Locks;
use crate::pin::Pins;
use crate::pipe::{PipeId, Pipes};
use crate::populate::Populate;
use crate::profile::Profile;
use crate::stop::{Signal, Wait};
use crate::swap::Swap;
use crate::table::PageTables;
use crate::uffd::{Prepared, UffdId, Uffds, copy};
use crate::vma::anon_vma::AnonVmas;
use crate::vma::merge::Proposal;
use crate::vma::{Vma, VmaFlags, VmaMap};

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pid(pub u32);

/// A thread of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tid(pub u32);

/// A file descriptor of a process: the number a program sees.
pub type Fd = i32;

/// What all processes share.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) profile: Profile,
    pub(crate) frames: Frames,
    pub(crate) files: Files,
    pub(crate) swap: Swap,
    pub(crate) anon_vmas: AnonVmas,
    pub(crate) uffds: Uffds,
    pub(crate) pipes: Pipes,
    pub(crate) pins: Pins,
    /// What threads keep locked while they sleep.
    pub(crate) locks: Locks,
    /// hugetlb pages that other processes have to give up.
    pub(crate) orphans: Orphans,
    /// The huge page of zeros, once it was wanted.
    pub(crate) huge_zero: Option<Pfn>,
    page_shift: u32,
}

impl World {
    /// Base-two logarithm of the page size.
    #[inline]
    pub(crate) fn page_shift(&self) -> u32 {
        self.page_shift
    }

    /// The page size in bytes.
    #[inline]
    pub(crate) fn page_size(&self) -> u64 {
        1 << self.page_shift
    }

    /// The first page boundary at or above `addr`; 0 where it would overflow (`PAGE_ALIGN`).
    pub(crate) fn page_align(&self, addr: u64) -> u64 {
        let mask = self.page_size() - 1;
        addr.wrapping_add(mask) & !mask
    }

    /// Tells whether `addr` is no page boundary (`offset_in_page`).
    pub(crate) fn offset_in_page(&self, addr: u64) -> u64 {
        addr & (self.page_size() - 1)
    }

    /// Gives back what a mapping that was taken out held.
    pub(crate) fn forget(&mut self, vma: Vma) {
        self.anon_vmas.unlink(&vma);
        if let Some(file) = vma.file {
            self.put_file(file);
        }
    }

    /// One descriptor more stands for this.
    pub(crate) fn share(&mut self, descriptor: Descriptor) {
        match descriptor {
            Descriptor::File { file, .. } => self.files.get_ref(file),
            Descriptor::Uffd(uffd) => self.uffds.get(uffd),
            Descriptor::PipeRead(_) | Descriptor::PipeWrite(_) => {
                crate::pipe::share_end(self, descriptor);
            }
        }
    }

    /// Gives one reference of a file back; the last one takes its pages along.
    pub(crate) fn put_file(&mut self, file: FileId) {
        if let Some(gone) = self.files.put_ref(file) {
            gone.release(self);
        }
    }
}

/// The memory of one process (`struct mm_struct`).
#[derive(Clone, Debug)]
pub(crate) struct Mm {
    /// Whose it is; userfaultfds name it.
    pub(crate) pid: Pid,
    pub(crate) vmas: VmaMap,
    pub(crate) tables: PageTables,
    /// `MMF_HAS_PINNED`: a page of it was once pinned.
    pub(crate) has_pinned: bool,
    /// `MMF_DISABLE_THP`: it gets no huge pages, whatever it asks for.
    pub(crate) thp_disabled: bool,
    /// `def_flags`: what `mlockall(MCL_FUTURE)` adds to new mappings.
    pub(crate) def_flags: VmaFlags,
}

/// One process.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) parent: Option<Pid>,
    pub(crate) mm: Mm,
    pub(crate) fds: BTreeMap<Fd, Descriptor>,
}

/// What a file descriptor stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descriptor {
    /// A memfd.
    File {
        /// The file.
        file: FileId,
        /// Whether it was opened for reading only.
        read_only: bool,
    },
    /// A userfaultfd.
    Uffd(UffdId),
    /// The reading end of a pipe.
    PipeRead(PipeId),
    /// The writing end of a pipe.
    PipeWrite(PipeId),
}

/// How far a call came that waits: it goes on there when it is issued again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// A load or store has a fault.
    Access(access::Slept),
    /// An event was queued; there may be others to be queued after it, and then the call ends.
    Events {
        /// What is waited for.
        wait: Wait,
        /// What is queued next.
        rest: VecDeque<Prepared>,
        /// How the call ends.
        result: Result<u64, Errno>,
    },
    /// `madvise`: an event of what it drops was queued, or a file's lock is somebody else's.
    Removal(Removal),
    /// `UFFDIO_COPY`: the source has a fault of its own.
    Copy(copy::Slept),
    /// `read` of a userfaultfd that has nothing to tell: it is open until the call ends.
    Reading(UffdId),
    /// `mlock`, `mmap`, `mremap`: all is done but to fill memory, and a page has a fault of its own.
    Populate(Box<Populate>),
    /// `madvise_inject_error`, `madvise_populate`: a page has a fault of its own.
    Walk {
        /// The call goes on at this address.
        at: u64,
    },
    /// `read`, `write`, `vmsplice`: memory has a fault of its own, or somebody else has the lock.
    Moving(Box<Moved>),
    /// `process_vm_readv`, `process_vm_writev`: memory on either side has a fault of its own.
    ProcessVm(Box<ProcessVm>),
}

/// A thread.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) pid: Pid,
    pub(crate) progress: Option<Progress>,
    /// A signal that a call sent to the thread, and its address.
    pub(crate) pending: Option<(Signal, u64)>,
}

/// A simulated machine.
///
/// Every operation is a method; it names the thread that does it and takes what the system call
/// takes, wrong values included. See the crate's documentation for an example.
#[derive(Clone, Debug)]
pub struct Machine {
    pub(crate) world: World,
    processes: Vec<Option<Box<Process>>>,
    pub(crate) tasks: Vec<Option<Task>>,
}

/// Limits of a process that the model needs to know.
const TID_FIRST: u32 = 1;

impl Machine {
    /// Makes a machine without processes.
    pub fn new(profile: Profile) -> Self {
        let page_size = usize::try_from(profile.page_size()).expect("a page size fits usize");
        let mut frames = Frames::new(page_size);
        frames.pools = Pools::new(&profile);
        Self {
            world: World {
                frames,
                files: Files::default(),
                swap: Swap::new(&profile),
                anon_vmas: AnonVmas::default(),
                uffds: Uffds::default(),
                pipes: Pipes::default(),
                pins: Pins::default(),
                locks: Locks::default(),
                orphans: Orphans::default(),
                huge_zero: None,
                page_shift: profile.geometry().page_shift,
                profile,
            },
            processes: Vec::new(),
            tasks: vec![None],
        }
    }

    /// What is modelled.
    pub fn profile(&self) -> &Profile {
        &self.world.profile
    }

    /// Tells whether there was ever a huge page: what a kernel may refuse to make.
    pub fn had_huge_pages(&self) -> bool {
        self.world.frames.had_huge()
    }

    /// Starts a process that has no memory yet, with one thread.
    pub fn spawn(&mut self) -> Tid {
        let profile = &self.world.profile;
        let tables = PageTables::new(profile.geometry(), profile.arch.codec());
        let tid = self.next_tid();
        let pid = Pid(tid.0);
        self.add_process(Process {
            parent: None,
            mm: Mm {
                pid,
                vmas: VmaMap::default(),
                tables,
                has_pinned: false,
                thp_disabled: false,
                def_flags: VmaFlags::empty(),
            },
            fds: BTreeMap::new(),
        });
        tid
    }

    /// The number that the next thread gets.
    pub(crate) fn next_tid(&self) -> Tid {
        Tid(u32::try_from(self.tasks.len()).expect("threads are counted in 32 bits"))
    }

    /// Adds a process under the number of its first thread, the next one.
    pub(crate) fn add_process(&mut self, process: Process) {
        let pid = process.mm.pid;
        debug_assert_eq!(
            pid.0,
            self.next_tid().0,
            "a process has its first thread's number"
        );
        let index = index_of(pid.0);
        if self.processes.len() <= index {
            self.processes.resize(index + 1, None);
        }
        self.processes[index] = Some(Box::new(process));
        self.tasks.push(Some(Task {
            pid,
            progress: None,
            pending: None,
        }));
    }

    /// Starts another thread of a thread's process.
    ///
    /// # Errors
    ///
    /// `ESRCH` where there is no such thread.
    pub fn spawn_thread(&mut self, tid: Tid) -> Result<Tid, Errno> {
        let pid = self.pid_of(tid)?;
        let new = self.next_tid();
        self.tasks.push(Some(Task {
            pid,
            progress: None,
            pending: None,
        }));
        Ok(new)
    }

    /// The process of a thread.
    ///
    /// # Errors
    ///
    /// `ESRCH` where there is no such thread.
    #[inline]
    pub fn pid_of(&self, tid: Tid) -> Result<Pid, Errno> {
        match self.tasks.get(index_of(tid.0)) {
            Some(Some(task)) => Ok(task.pid),
            _ => Err(Errno::ESRCH),
        }
    }

    /// The threads of a process.
    pub fn threads_of(&self, pid: Pid) -> impl Iterator<Item = Tid> {
        (TID_FIRST..)
            .zip(self.tasks.iter().skip(1))
            .filter(move |(_, task)| task.as_ref().is_some_and(|task| task.pid == pid))
            .map(|(tid, _)| Tid(tid))
    }

    /// The process that forked a process.
    ///
    /// # Errors
    ///
    /// `ESRCH` where there is no such process.
    pub fn parent_of(&self, pid: Pid) -> Result<Option<Pid>, Errno> {
        Ok(self.process(pid)?.parent)
    }

    /// The processes there are.
    pub fn pids(&self) -> impl Iterator<Item = Pid> {
        self.processes
            .iter()
            .flatten()
            .map(|process| process.mm.pid)
    }

    /// The two halves: what all share, and the process of a thread.
    #[inline]
    pub(crate) fn halves(&mut self, tid: Tid) -> Result<(&mut World, &mut Process), Errno> {
        let pid = self.pid_of(tid)?;
        self.halves_of(pid)
    }

    /// As [`halves`](Self::halves), for a process.
    #[inline]
    pub(crate) fn halves_of(&mut self, pid: Pid) -> Result<(&mut World, &mut Process), Errno> {
        self.take_orphans();
        match self.processes.get_mut(index_of(pid.0)) {
            Some(Some(process)) => {
                crate::thp::apply_cuts(&mut self.world, &mut process.mm);
                Ok((&mut self.world, process))
            }
            _ => Err(Errno::ESRCH),
        }
    }

    /// A process, to be looked at.
    pub(crate) fn process(&self, pid: Pid) -> Result<&Process, Errno> {
        match self.processes.get(index_of(pid.0)) {
            Some(Some(process)) => Ok(process),
            _ => Err(Errno::ESRCH),
        }
    }

    /// Everything shared, and every process beside it: for what looks for all who map a page.
    pub(crate) fn all(&mut self) -> (&mut World, impl Iterator<Item = &mut Process>) {
        let processes = self
            .processes
            .iter_mut()
            .flatten()
            .map(|process| &mut **process);
        (&mut self.world, processes)
    }

    /// Takes a process out.
    pub(crate) fn take_process(&mut self, pid: Pid) -> Option<Box<Process>> {
        for task in &mut self.tasks {
            if task.as_ref().is_some_and(|task| task.pid == pid) {
                *task = None;
            }
        }
        self.processes.get_mut(index_of(pid.0))?.take()
    }

    /// How far a thread's call came that waits.
    pub(crate) fn progress(&self, tid: Tid) -> Option<&Progress> {
        let task = self.tasks.get(index_of(tid.0))?.as_ref()?;
        task.progress.as_ref()
    }

    /// A thread.
    pub(crate) fn task_mut(&mut self, tid: Tid) -> Result<&mut Task, Errno> {
        match self.tasks.get_mut(index_of(tid.0)) {
            Some(Some(task)) => Ok(task),
            _ => Err(Errno::ESRCH),
        }
    }
}

impl Mm {
    /// `vma_modify`: gives a part of a mapping what is proposed. Huge entries across its ends are split
    /// (`vma_adjust_trans_huge`).
    ///
    /// # Errors
    ///
    /// Those of [`VmaMap::modify`].
    pub(crate) fn modify(
        &mut self,
        world: &mut World,
        index: usize,
        proposal: &Proposal,
    ) -> Result<usize, Errno> {
        let modified = self.vmas.modify(world, index, proposal);
        crate::thp::apply_cuts(world, self);
        modified
    }
}

impl Process {
    /// `fget`: what a descriptor stands for.
    pub(crate) fn descriptor(&self, fd: Fd) -> Result<Descriptor, Errno> {
        self.fds.get(&fd).copied().ok_or(Errno::EBADF)
    }

    /// Puts something under the lowest free number from 3 on.
    pub(crate) fn add_fd(&mut self, descriptor: Descriptor) -> Fd {
        let mut fd = 3;
        for &used in self.fds.keys() {
            if used == fd {
                fd += 1;
            }
        }
        self.fds.insert(fd, descriptor);
        fd
    }
}

fn index_of(number: u32) -> usize {
    usize::try_from(number).expect("a number of a process fits usize")
}
