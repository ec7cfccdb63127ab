//! From a page to the entries that map it: `rmap_walk`.
//!
//! Linux reference: 6.18, `mm/rmap.c` (`rmap_walk_anon`, `rmap_walk_file`).

use crate::access::frame_of;
use crate::entry::{Entry, Present};
use crate::folio::{Owner, Pfn};
use crate::machine::{Mm, World};
use crate::table::Slot;
use crate::vma::{View, Vma};

/// One entry that maps a page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapped {
    /// The mapping it lies in.
    pub(crate) vma: View,
    /// The address of the page.
    pub(crate) addr: u64,
    /// The entry's place: for a page of a huge one, that of the huge entry.
    pub(crate) slot: Slot,
    /// What it says.
    pub(crate) present: Present,
}

/// The entries of a process that map a page, alone or as a part of a huge one, by address.
pub(crate) fn mappings(world: &World, mm: &Mm, pfn: Pfn) -> Vec<Mapped> {
    let folio = world.frames.folio(pfn);
    let offset = u64::from(pfn.0 - folio.first.0);
    let (index, owner) = match folio.owner {
        Owner::Kernel => return Vec::new(),
        Owner::Anon { index, .. } | Owner::File { index, .. } => (index + offset, folio.owner),
    };
    let may_map = |vma: &&Vma| match owner {
        Owner::Anon { anon_vma, .. } => vma.chain.contains(&anon_vma),
        Owner::File { file, .. } => vma.file == Some(file),
        Owner::Kernel => false,
    };
    let page_shift = world.page_shift();
    let entry_at = |vma: &Vma| {
        let pages = index.checked_sub(vma.pgoff)?;
        let addr = vma.start + (pages << page_shift);
        if pages >= vma.bytes() >> page_shift {
            return None;
        }
        let (slot, entry) = mm.tables.lookup(addr);
        let Entry::Present(present) = entry else {
            return None;
        };
        (frame_of(world, mm, present, addr, slot.level) == pfn).then(|| Mapped {
            vma: vma.view(),
            addr,
            slot,
            present,
        })
    };
    mm.vmas
        .iter()
        .filter(may_map)
        .filter_map(entry_at)
        .collect()
}
