//! Pins that outlive a call: buffers registered with io_uring.
//!
//! Linux reference: 6.18, `mm/gup.c` (`pin_user_pages`), `io_uring/rsrc.c`.

use crate::folio::Pfn;
use crate::machine::{Pid, World};

/// The number of a registered buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PinId(pub u32);

/// One registered buffer.
#[derive(Clone, Debug)]
pub(crate) struct Pin {
    pub(crate) pages: Vec<Pfn>,
    /// Where in the first page it starts.
    pub(crate) offset: u64,
    pub(crate) len: u64,
    /// Who has the ring: a child gets it from its parent.
    holders: Vec<Pid>,
}

/// All pins of a machine.
#[derive(Clone, Debug, Default)]
pub struct Pins {
    list: Vec<Option<Pin>>,
}

impl Pins {
    pub(crate) fn add(&mut self, pages: Vec<Pfn>, offset: u64, len: u64, owner: Pid) -> PinId {
        let id = PinId(u32::try_from(self.list.len()).expect("pins are counted in 32 bits"));
        self.list.push(Some(Pin {
            pages,
            offset,
            len,
            holders: vec![owner],
        }));
        id
    }

    pub(crate) fn get(&self, id: PinId) -> Option<&Pin> {
        self.list.get(index(id))?.as_ref()
    }

    /// Takes a pin out; what it holds is the caller's affair.
    pub(crate) fn take(&mut self, id: PinId) -> Option<Pin> {
        self.list.get_mut(index(id))?.take()
    }

    /// One process more has the ring; `None` if there is no such pin.
    pub(crate) fn share(&mut self, id: PinId, pid: Pid) -> Option<()> {
        let pin = self.list.get_mut(index(id))?.as_mut()?;
        if !pin.holders.contains(&pid) {
            pin.holders.push(pid);
        }
        Some(())
    }

    /// A child has the rings of its parent.
    pub(crate) fn fork(&mut self, parent: Pid, child: Pid) {
        for pin in self.list.iter_mut().flatten() {
            if pin.holders.contains(&parent) {
                pin.holders.push(child);
            }
        }
    }

    /// Each pinned page, as often as it is pinned.
    pub fn pages(&self) -> impl Iterator<Item = Pfn> {
        let pins = self.list.iter().flatten();
        pins.flat_map(|pin| pin.pages.iter().copied())
    }
}

fn index(id: PinId) -> usize {
    usize::try_from(id.0).expect("an index of a pin fits usize")
}

/// A process ends: rings that nobody else has go, and their pins with them.
pub(crate) fn exit(world: &mut World, pid: Pid) {
    for index in 0..world.pins.list.len() {
        let Some(pin) = &mut world.pins.list[index] else {
            continue;
        };
        pin.holders.retain(|&holder| holder != pid);
        if pin.holders.is_empty() {
            let pages = std::mem::take(&mut pin.pages);
            world.pins.list[index] = None;
            for pfn in pages {
                world.frames.unpin(pfn);
            }
        }
    }
}
