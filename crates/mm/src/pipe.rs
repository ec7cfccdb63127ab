//! Pipes: rings of references of pages, the kernel's own or (`vmsplice`) a program's.
//!
//! Linux reference: 6.18, `fs/pipe.c`, `fs/splice.c`.

use std::collections::VecDeque;

use crate::folio::Pfn;
use crate::machine::{Descriptor, World};

/// The number of a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PipeId(pub u32);

/// How many buffers a ring has (`PIPE_DEF_BUFFERS`).
pub(crate) const BUFFERS: usize = 16;

/// A part of a page (`struct pipe_buffer`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Buffer {
    pub(crate) pfn: Pfn,
    pub(crate) offset: usize,
    pub(crate) len: usize,
    /// `PIPE_BUF_FLAG_CAN_MERGE`: the page is the kernel's own, and more may be added to it.
    pub(crate) own: bool,
}

/// One pipe.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pipe {
    pub(crate) buffers: VecDeque<Buffer>,
    pub(crate) readers: u32,
    pub(crate) writers: u32,
}

/// All pipes of a machine.
#[derive(Clone, Debug, Default)]
pub struct Pipes {
    list: Vec<Pipe>,
    free: Vec<PipeId>,
}

impl Pipes {
    /// A pipe with a descriptor for each end.
    pub(crate) fn create(&mut self) -> PipeId {
        let pipe = Pipe {
            readers: 1,
            writers: 1,
            ..Pipe::default()
        };
        if let Some(id) = self.free.pop() {
            *self.get_mut(id) = pipe;
            return id;
        }
        self.list.push(pipe);
        PipeId(u32::try_from(self.list.len() - 1).expect("pipes are counted in 32 bits"))
    }

    pub(crate) fn get_mut(&mut self, id: PipeId) -> &mut Pipe {
        &mut self.list[usize::try_from(id.0).expect("an index of a pipe fits usize")]
    }

    /// Each page that a pipe refers to.
    pub fn pages(&self) -> impl Iterator<Item = Pfn> {
        let buffers = self.list.iter().flat_map(|pipe| &pipe.buffers);
        buffers.map(|buffer| buffer.pfn)
    }
}

/// One descriptor less stands for an end of a pipe; the last one takes what is in it along.
pub(crate) fn drop_end(world: &mut World, end: Descriptor) {
    let (id, writes) = match end {
        Descriptor::PipeRead(id) => (id, false),
        Descriptor::PipeWrite(id) => (id, true),
        Descriptor::File { .. } | Descriptor::Uffd(_) => return,
    };
    let pipe = world.pipes.get_mut(id);
    if writes {
        pipe.writers -= 1;
    } else {
        pipe.readers -= 1;
    }
    if pipe.writers == 0 && pipe.readers == 0 {
        let gone = std::mem::take(&mut pipe.buffers);
        world.pipes.free.push(id);
        for buffer in gone {
            world.frames.put(buffer.pfn, 1);
        }
    }
}

/// One descriptor more stands for an end of a pipe.
pub(crate) fn share_end(world: &mut World, end: Descriptor) {
    match end {
        Descriptor::PipeRead(id) => world.pipes.get_mut(id).readers += 1,
        Descriptor::PipeWrite(id) => world.pipes.get_mut(id).writers += 1,
        Descriptor::File { .. } | Descriptor::Uffd(_) => {}
    }
}
