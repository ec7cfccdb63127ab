//! Swap: slots with their counts, and the swap cache.
//!
//! A page that was swapped out is known by its slot. When somebody wants it back it is read into
//! the swap cache, where everybody else who has the slot finds the same page. It leaves the cache
//! when nobody names the slot any more.
//!
//! Linux reference: 6.18, `mm/swapfile.c`, `mm/swap_state.c`, `mm/page_io.c`.

use std::collections::BTreeMap;

use crate::entry::SwapSlot;
use crate::folio::{Content, FolioFlags, Frames, Owner, Pfn};
use crate::machine::World;
use crate::profile::Profile;

/// One slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Slot {
    /// Entries and page caches that name it (`swap_map`).
    count: u32,
    /// What was written there.
    content: Content,
    /// The folio in the swap cache, if it is there.
    cached: Option<Pfn>,
}

/// The swap devices of a machine: one, or none.
#[derive(Clone, Debug)]
pub struct Swap {
    slots: Vec<Slot>,
    free: Vec<u64>,
    /// The slots of pages in the swap cache.
    cache: BTreeMap<Pfn, SwapSlot>,
    pages_max: u64,
}

/// The first page of a device is its header. An entry that names it would say nothing on arm64.
const HEADER: u64 = 1;

fn index(slot: SwapSlot) -> usize {
    usize::try_from(slot.offset - HEADER).expect("a slot in use is small")
}

impl Swap {
    pub(crate) fn new(profile: &Profile) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            cache: BTreeMap::new(),
            pages_max: profile.swap_pages,
        }
    }

    fn slot(&mut self, slot: SwapSlot) -> &mut Slot {
        &mut self.slots[index(slot)]
    }

    /// How many slots are free.
    pub fn free_pages(&self) -> u64 {
        self.pages_max - u64::try_from(self.slots.len() - self.free.len()).expect("few slots")
    }

    /// Tells whether the page of a slot is in the swap cache.
    pub fn is_cached(&self, slot: SwapSlot) -> bool {
        self.slots[index(slot)].cached.is_some()
    }

    /// The bytes of a slot.
    pub(crate) fn content(&self, slot: SwapSlot) -> &Content {
        &self.slots[index(slot)].content
    }

    /// How many entries and page caches name a slot (`swap_count`).
    pub fn count(&self, slot: SwapSlot) -> u32 {
        self.slots[index(slot)].count
    }

    /// `vm_swap_full`: more than half is taken.
    fn is_full(&self) -> bool {
        self.free_pages() * 2 < self.pages_max
    }

    /// `swap_duplicate`: one entry more names the slot.
    pub(crate) fn get(&mut self, slot: SwapSlot) {
        self.slot(slot).count += 1;
    }

    /// Writes bytes to a free slot, that one entry names from now on; `None` where all are taken.
    pub(crate) fn write(&mut self, content: Content) -> Option<SwapSlot> {
        if self.free_pages() == 0 {
            return None;
        }
        let new = Slot {
            count: 1,
            content,
            cached: None,
        };
        let offset = match self.free.pop() {
            Some(offset) => offset,
            None => {
                self.slots.push(Slot::default());
                u64::try_from(self.slots.len() - 1).expect("few slots") + HEADER
            }
        };
        let slot = SwapSlot { device: 0, offset };
        *self.slot(slot) = new;
        Some(slot)
    }

    fn release(&mut self, slot: SwapSlot) {
        *self.slot(slot) = Slot::default();
        self.free.push(slot.offset);
    }

    /// Brings the page of a file back, which alone named the slot.
    pub(crate) fn read_file_page(
        &mut self,
        frames: &mut Frames,
        slot: SwapSlot,
        owner: Owner,
    ) -> Pfn {
        let pfn = frames.alloc(0, owner);
        frames.frame_mut(pfn).content = self.slot(slot).content.clone();
        frames.folio_mut(pfn).flags |= FolioFlags::DIRTY;
        self.release(slot);
        pfn
    }
}

/// `swap_free`, `free_swap_and_cache`: one entry less names the slot.
pub(crate) fn put(world: &mut World, slot: SwapSlot) {
    let place = world.swap.slot(slot);
    place.count -= 1;
    if place.count > 0 {
        return;
    }
    match place.cached {
        None => world.swap.release(slot),
        Some(pfn) if world.frames.folio(pfn).mapcount == 0 => uncache(world, pfn),
        // try_to_free_swap, when the page is next written or its swap is wanted.
        Some(_) => {}
    }
}

/// `swap_cache_get_folio`, `swapin_readahead`: the page of a slot, in the swap cache. The
/// reference that its mapping needs is the caller's affair.
pub(crate) fn read(world: &mut World, slot: SwapSlot, owner: Owner) -> Pfn {
    if let Some(pfn) = world.swap.slot(slot).cached {
        return pfn;
    }
    // The reference is the cache's.
    let pfn = world.frames.alloc(0, owner);
    world.frames.frame_mut(pfn).content = world.swap.slot(slot).content.clone();
    world.frames.folio_mut(pfn).flags |= FolioFlags::SWAPCACHE;
    world.swap.slot(slot).cached = Some(pfn);
    world.swap.cache.insert(pfn, slot);
    pfn
}

/// `should_try_to_free_swap` but for what is particular to a fault.
pub(crate) fn is_full(world: &World) -> bool {
    world.swap.is_full()
}

/// `folio_free_swap`: takes a page out of the swap cache if nobody names its slot.
pub(crate) fn try_free(world: &mut World, pfn: Pfn) {
    let named = |slot: &SwapSlot| world.swap.count(*slot) > 0;
    if world.swap.cache.get(&pfn).is_some_and(|slot| !named(slot)) {
        uncache(world, pfn);
        // The only copy is the page itself now.
        if world.frames.folio(pfn).refcount > 0 {
            world.frames.folio_mut(pfn).flags |= FolioFlags::DIRTY;
        }
    }
}

/// `delete_from_swap_cache`, and the slot with it if nobody names it.
fn uncache(world: &mut World, pfn: Pfn) {
    let Some(slot) = world.swap.cache.remove(&pfn) else {
        return;
    };
    let place = world.swap.slot(slot);
    place.cached = None;
    if place.count == 0 {
        world.swap.release(slot);
    }
    world.frames.folio_mut(pfn).flags -= FolioFlags::SWAPCACHE;
    world.frames.put(pfn, 1);
}

/// The slot of a page that is in the swap cache.
pub(crate) fn slot_of(world: &World, pfn: Pfn) -> Option<SwapSlot> {
    world.swap.cache.get(&pfn).copied()
}

/// Tells whether the page of a slot is in the swap cache, and broken there.
pub(crate) fn is_broken(world: &World, slot: SwapSlot) -> bool {
    let cached = world.swap.slots[index(slot)].cached;
    cached.is_some_and(|pfn| crate::failure::is_broken(world, pfn))
}

/// `delete_from_swap_cache` of a page that can be read again: its slot stays as it is.
pub(crate) fn forget(world: &mut World, pfn: Pfn) {
    uncache(world, pfn);
}

/// A page takes another one's place in the swap cache, and its reference.
pub(crate) fn replace(world: &mut World, old: Pfn, new: Pfn) {
    let Some(slot) = world.swap.cache.remove(&old) else {
        return;
    };
    world.swap.cache.insert(new, slot);
    world.swap.slot(slot).cached = Some(new);
    world.frames.folio_mut(old).flags -= FolioFlags::SWAPCACHE;
    world.frames.get(new, 1);
    world.frames.put(old, 1);
}

/// A page is no longer mapped: if only the swap cache has it, it goes, too, and its slot with it
/// where nobody names that (`free_swap_cache`).
pub(crate) fn unmapped(world: &mut World, pfn: Pfn) {
    if world.swap.cache.contains_key(&pfn) && world.frames.folio(pfn).refcount == 1 {
        try_free(world, pfn);
    }
}

/// A page was written to a slot and is not mapped any more: it goes, unless somebody has a
/// reference; then it stays in the swap cache.
pub(crate) fn keep_if_referenced(world: &mut World, slot: SwapSlot, pfn: Pfn) {
    if world.frames.folio(pfn).refcount > 1 {
        // The mapping's reference becomes the cache's.
        world.frames.folio_mut(pfn).flags |= FolioFlags::SWAPCACHE;
        world.swap.slot(slot).cached = Some(pfn);
        world.swap.cache.insert(pfn, slot);
    } else {
        world.frames.put(pfn, 1);
    }
}
