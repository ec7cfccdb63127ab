//! `/proc/PID/pagemap` (`pagemap_pmd_range`, `pte_to_pagemap_entry`, `pagemap_hugetlb_range`).

use bitflags::bitflags;
use space::Errno;

use crate::access::frame_of;
use crate::entry::{Bits, Entry, Marker, Present, SwapBits};
use crate::machine::{Machine, Mm, Pid, World};
use crate::table::Slot;
use crate::vma::VmaFlags;

bitflags! {
    /// The flags of a word of pagemap.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct PagemapBits: u64 {
        /// Written since `clear_refs`.
        const SOFT_DIRTY = 1 << 55;
        /// Mapped once.
        const EXCLUSIVE = 1 << 56;
        /// Protected by a userfaultfd.
        const UFFD_WP = 1 << 57;
        /// A guard.
        const GUARD = 1 << 58;
        /// A file's page, or shared memory.
        const FILE = 1 << 61;
        /// On a swap device, or a marker.
        const SWAP = 1 << 62;
        /// In memory.
        const PRESENT = 1 << 63;
    }
}

/// How many low bits of a word are the frame.
pub(crate) const FRAME_BITS: u32 = 55;
/// How many low bits of a swapped page's word are the device.
const SWAP_TYPE_BITS: u32 = 5;

impl Machine {
    /// The words of pagemap for the pages of `start..start + words.len() * page size`, as a reader
    /// with all privileges sees them.
    ///
    /// # Errors
    ///
    /// `ESRCH` where there is no such process.
    pub fn pagemap(&self, pid: Pid, start: u64, words: &mut [u64]) -> Result<(), Errno> {
        let mm = &self.process(pid)?.mm;
        let page_size = self.world.page_size();
        let mut addr = start;
        for word in words {
            *word = page_word(&self.world, mm, addr);
            addr += page_size;
        }
        Ok(())
    }
}

fn page_word(world: &World, mm: &Mm, addr: u64) -> u64 {
    let Some(vma) = mm.vmas.lookup(addr) else {
        return 0;
    };
    let (slot, entry) = mm.tables.lookup(addr);
    let (frame, mut bits) = if vma.is_hugetlb() {
        hugetlb_word(world, mm, addr, slot, entry)
    } else {
        entry_word(world, mm, addr, slot, entry)
    };
    if vma.has(VmaFlags::SOFTDIRTY) {
        bits |= PagemapBits::SOFT_DIRTY;
    }
    frame | bits.bits()
}

/// `pte_to_pagemap_entry`.
fn entry_word(world: &World, mm: &Mm, addr: u64, slot: Slot, entry: Entry) -> (u64, PagemapBits) {
    let mut bits = PagemapBits::empty();
    let mut frame = 0;
    match entry {
        Entry::None | Entry::Table(_) => {}
        Entry::Present(present) => return present_word(world, mm, addr, slot, present),
        Entry::Swap {
            slot: place,
            bits: kept,
        } => {
            bits |= PagemapBits::SWAP;
            bits.set(PagemapBits::SOFT_DIRTY, kept.contains(SwapBits::SOFT_DIRTY));
            bits.set(PagemapBits::UFFD_WP, kept.contains(SwapBits::UFFD_WP));
            frame = u64::from(place.device) | (place.offset << SWAP_TYPE_BITS);
        }
        Entry::Migration { bits: kept, .. } => {
            bits |= PagemapBits::SWAP;
            bits.set(PagemapBits::UFFD_WP, kept.contains(SwapBits::UFFD_WP));
        }
        Entry::Marker(marker) => {
            bits |= PagemapBits::SWAP;
            let protected = marker.is_protected();
            bits.set(PagemapBits::UFFD_WP, protected);
            bits.set(PagemapBits::GUARD, marker.contains(Marker::GUARD));
        }
        Entry::Hwpoison(pfn) => {
            bits |= PagemapBits::SWAP;
            bits.set(PagemapBits::FILE, !world.frames.folio(pfn).is_anon());
        }
    }
    (frame & ((1 << FRAME_BITS) - 1), bits)
}

fn present_word(
    world: &World,
    mm: &Mm,
    addr: u64,
    slot: Slot,
    present: Present,
) -> (u64, PagemapBits) {
    let mut bits = PagemapBits::PRESENT;
    bits.set(PagemapBits::SOFT_DIRTY, present.has(Bits::SOFT_DIRTY));
    bits.set(PagemapBits::UFFD_WP, present.has(Bits::UFFD_WP));
    let pfn = frame_of(world, mm, present, addr, slot.level);
    if !present.has(Bits::SPECIAL) {
        let folio = world.frames.folio(pfn);
        bits.set(PagemapBits::FILE, !folio.is_anon());
        let mapped = world.frames.frame(pfn).mapcount + folio.entire_mapcount;
        bits.set(PagemapBits::EXCLUSIVE, mapped == 1);
    } else if slot.level > 0 {
        // The huge page of zeros is not anonymous, so it is taken for a file's.
        bits |= PagemapBits::FILE;
    }
    (u64::from(pfn.0), bits)
}

/// `pagemap_hugetlb_range`: of what is not there, only protection shows.
fn hugetlb_word(world: &World, mm: &Mm, addr: u64, slot: Slot, entry: Entry) -> (u64, PagemapBits) {
    match entry {
        Entry::Present(present) => {
            let (frame, bits) = present_word(world, mm, addr, slot, present);
            (frame, bits - PagemapBits::SOFT_DIRTY)
        }
        Entry::Marker(marker) if marker.is_protected() => (0, PagemapBits::UFFD_WP),
        _ => (0, PagemapBits::empty()),
    }
}
