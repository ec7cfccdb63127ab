//! What `PAGEMAP_SCAN` says of an entry, and protecting it.

use crate::entry::{Bits, Entry, Marker, Present, SwapBits};
use crate::machine::World;
use crate::profile::Kernel;
use crate::uapi::pagemap::Categories;
use crate::vma::{View, VmaFlags};

/// `PM_SCAN_CATEGORIES`.
pub(super) fn known(kernel: Kernel) -> Categories {
    let newer = match kernel {
        Kernel::V6_1 | Kernel::V6_12 => Categories::GUARD | Categories::ACCESSED,
        Kernel::V6_18 => Categories::ACCESSED,
        Kernel::V7_3 => Categories::empty(),
    };
    Categories::all() - newer
}

/// Tells whether an entry is write protected, whatever kind it is of.
pub(super) fn is_protected(entry: Entry) -> bool {
    match entry {
        Entry::Present(present) => present.has(Bits::UFFD_WP),
        Entry::Swap { bits, .. } | Entry::Migration { bits, .. } => {
            bits.contains(SwapBits::UFFD_WP)
        }
        Entry::Marker(marker) => marker.is_protected(),
        Entry::None | Entry::Table(_) | Entry::Hwpoison(_) => false,
    }
}

/// `make_uffd_wp_pte`: the entry, protected.
pub(super) fn protect(entry: Entry) -> Entry {
    match entry {
        Entry::Present(present) => Entry::Present(present.mkuffd_wp()),
        Entry::Swap { slot, bits } => Entry::Swap {
            slot,
            bits: bits | SwapBits::UFFD_WP,
        },
        Entry::Migration { pfn, write, bits } => Entry::Migration {
            pfn,
            write,
            bits: bits | SwapBits::UFFD_WP,
        },
        // A marker of another kind gets the bit that swap entries have.
        Entry::Marker(marker) => Entry::Marker(marker | Marker::PROTECTED),
        Entry::None => Entry::Marker(Marker::UFFD_WP),
        Entry::Table(_) | Entry::Hwpoison(_) => entry,
    }
}

/// Written or accessed: what the missing bit of protection means in a mapping.
fn unprotected(vma: &View) -> Categories {
    if vma.has(VmaFlags::UFFD_RWP) {
        Categories::ACCESSED
    } else {
        Categories::WRITTEN
    }
}

/// What is so of addresses without a table.
pub(super) fn of_hole(vma: &View) -> Categories {
    if vma.has(VmaFlags::UFFD_WP) {
        Categories::WRITTEN
    } else {
        Categories::empty()
    }
}

/// `pagemap_page_category`.
pub(super) fn of_small(world: &World, vma: &View, entry: Entry) -> Categories {
    match entry {
        Entry::None if world.profile.scans_empty_as_written || vma.has(VmaFlags::UFFD_WP) => {
            Categories::WRITTEN
        }
        Entry::None | Entry::Table(_) => Categories::empty(),
        Entry::Present(present) => of_present(world, vma, present),
        other => of_swapped(world, vma, other),
    }
}

/// `pagemap_thp_category`.
pub(super) fn of_huge(world: &World, vma: &View, entry: Entry) -> Categories {
    Categories::HUGE
        | match entry {
            Entry::Present(present) => of_present(world, vma, present),
            Entry::None | Entry::Table(_) => Categories::empty(),
            other => of_swapped(world, vma, other),
        }
}

/// `pagemap_hugetlb_category`: as a huge page, but an empty entry is not written.
pub(super) fn of_hugetlb(world: &World, vma: &View, entry: Entry) -> Categories {
    of_huge(world, vma, entry) - Categories::PFNZERO
}

fn of_present(world: &World, vma: &View, present: Present) -> Categories {
    let mut categories = Categories::PRESENT;
    if !present.has(Bits::UFFD_WP) {
        categories |= unprotected(vma);
    }
    let zero = present.has(Bits::SPECIAL);
    let anon = zero || world.frames.folio(present.pfn).is_anon();
    categories.set(Categories::FILE, !anon);
    categories.set(Categories::PFNZERO, zero);
    categories.set(Categories::SOFT_DIRTY, present.has(Bits::SOFT_DIRTY));
    categories
}

fn of_swapped(world: &World, vma: &View, entry: Entry) -> Categories {
    let mut categories = Categories::SWAPPED;
    if !is_protected(entry) {
        categories |= unprotected(vma);
    }
    match entry {
        Entry::Swap { bits, .. } | Entry::Migration { bits, .. } => {
            let dirty = bits.contains(SwapBits::SOFT_DIRTY);
            categories.set(Categories::SOFT_DIRTY, dirty);
        }
        Entry::Marker(marker) => {
            categories.set(Categories::GUARD, marker.contains(Marker::GUARD));
        }
        Entry::Hwpoison(pfn) => {
            categories.set(Categories::FILE, !world.frames.folio(pfn).is_anon());
        }
        _ => {}
    }
    categories
}
