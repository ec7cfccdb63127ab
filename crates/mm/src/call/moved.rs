//! Calls that move bytes between memory and a file or a pipe, and sleep half way.
//!
//! Such a call has its file open and its pages referenced while it sleeps, and goes on with these,
//! whatever else was closed, cut off or mapped meanwhile. [`Moved`] is what it remembers.
//!
//! Linux reference: 6.18, `fs/read_write.c` (`fdget`), `lib/iov_iter.c`.

use super::vmsplice::put_all;
use crate::folio::Pfn;
use crate::gup::Fast;
use crate::machine::{Descriptor, Fd, Machine, Mm, Progress, Tid, World};
use crate::pipe::Buffer;
use crate::stop::Stop;

/// How far a call came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    /// What was open under the descriptor when the call began.
    pub(crate) descriptor: Descriptor,
    /// How many bytes count as moved.
    pub(crate) done: u64,
    /// What the call is at.
    pub(super) piece: Piece,
}

/// What a call is at, if it slept there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Piece {
    /// Nothing: it goes on with the next piece.
    #[default]
    None,
    /// Copying from a page of a file, which is referenced, until `end` bytes are moved.
    Page { pfn: Pfn, end: u64 },
    /// Copying from a buffer of a pipe: so many bytes, which count when all of it is copied.
    Part(usize),
    /// Copying to a page that a pipe will have: what was copied of it.
    Bytes(Vec<u8>),
    /// Touching memory before it is copied: the address that is touched next.
    Touch(u64),
    /// Taking references of a program's pages: those that were taken, and whether the rest is looked
    /// up in the mappings.
    Taken { buffers: Vec<Buffer>, walk: Fast },
}

impl Moved {
    /// The call is no more: gives back what it referred to.
    pub(crate) fn release(self, machine: &mut Machine) {
        let world = &mut machine.world;
        match self.piece {
            Piece::Page { pfn, .. } => world.frames.put(pfn, 1),
            Piece::Taken { buffers, .. } => put_all(world, &buffers),
            Piece::None | Piece::Part(_) | Piece::Bytes(_) | Piece::Touch(_) => {}
        }
        machine.drop_descriptor(self.descriptor);
    }
}

impl Machine {
    /// Carries out a call on a descriptor, or goes on with it, and remembers how far it came where it
    /// has to sleep.
    ///
    /// # Errors
    ///
    /// `ESRCH`, `EBADF`, and those of the work.
    pub(super) fn moving(
        &mut self,
        tid: Tid,
        fd: Fd,
        work: impl FnOnce(&mut World, &mut Mm, &mut Moved) -> Result<u64, Stop>,
    ) -> Result<u64, Stop> {
        let slept = self.task_mut(tid)?.progress.take_if(is_moving);
        let (world, process) = self.halves(tid)?;
        let resumes = slept.is_some();
        let mut moved = match slept {
            Some(Progress::Moving(moved)) => *moved,
            _ => Moved {
                descriptor: process.descriptor(fd)?,
                done: 0,
                piece: Piece::None,
            },
        };
        let result = work(world, &mut process.mm, &mut moved);
        if let Err(Stop::Blocked(_)) = result {
            if !resumes {
                world.share(moved.descriptor);
            }
            self.task_mut(tid)?.progress = Some(Progress::Moving(Box::new(moved)));
        } else {
            debug_assert_eq!(moved.piece, Piece::None, "a call that ended is at nothing");
            if resumes {
                self.drop_descriptor(moved.descriptor);
            }
        }
        result
    }
}

fn is_moving(progress: &mut Progress) -> bool {
    matches!(progress, Progress::Moving(_))
}
