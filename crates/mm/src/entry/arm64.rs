//! The layout of arm64 (`arch/arm64/include/asm/pgtable-hwdef.h`, `pgtable-prot.h`), from 6.10 on.
//!
//! | bit | present | swap |
//! |---|---|---|
//! | 0, 1 | 3: page or table, 1: block, 0: present but invalid | 0 |
//! | 2, 3 | memory type | exclusive, uffd-wp |
//! | 6 | user | 6-10: type |
//! | 7 | read only | |
//! | 10 | accessed | |
//! | 11 | not global; with bits 0, 1 clear: present but invalid | 0 |
//! | 12-47 | frame | 12-61: offset |
//! | 51 | write (DBM) | |
//! | 53, 54 | no execute: kernel, user | |
//! | 55 | dirty (software) | |
//! | 56 | special | |
//! | 58 | uffd-wp | |
//!
//! There is no soft-dirty bit.

use super::{Bits, Present, SwapBits, SwapWord};
use crate::folio::Pfn;
use crate::table::TableId;

const TYPE_MASK: u64 = 3;
const TYPE_PAGE: u64 = 3;
const TYPE_BLOCK: u64 = 1;
const USER: u64 = 1 << 6;
const RDONLY: u64 = 1 << 7;
const SHARED: u64 = 3 << 8;
const AF: u64 = 1 << 10;
const NG: u64 = 1 << 11;
const WRITE: u64 = 1 << 51;
const PXN: u64 = 1 << 53;
const UXN: u64 = 1 << 54;
const DIRTY: u64 = 1 << 55;
const SPECIAL: u64 = 1 << 56;
const UFFD_WP: u64 = 1 << 58;

const ADDRESS_BITS: u32 = 48;

const SWAP_EXCLUSIVE: u64 = 1 << 2;
const SWAP_UFFD_WP: u64 = 1 << 3;
const SWAP_TYPE_SHIFT: u32 = 6;
const SWAP_TYPE_MASK: u64 = 31;
const SWAP_OFFSET_SHIFT: u32 = 12;
const SWAP_OFFSET_MASK: u64 = (1 << 50) - 1;

fn either(on: bool, bits: u64) -> u64 {
    if on { bits } else { 0 }
}

fn frame_mask(page_shift: u32) -> u64 {
    ((1 << ADDRESS_BITS) - 1) & !((1 << page_shift) - 1)
}

#[inline]
pub(super) fn present(page_shift: u32, present: Present) -> u64 {
    let has = |bits| present.has(bits);
    let frame = u64::from(present.pfn.0) << page_shift;
    let there = match (has(Bits::PROT_NONE), has(Bits::HUGE)) {
        (false, false) => TYPE_PAGE | USER,
        (false, true) => TYPE_BLOCK | USER,
        // Hardware ignores the word. The user bit tells pages from blocks here; the kernel knows
        // from the level of the table.
        (true, false) => USER,
        (true, true) => 0,
    };
    let hardware_dirty = has(Bits::DIRTY) && has(Bits::WRITE);
    frame
        | there
        | NG
        | SHARED
        | PXN
        | either(!hardware_dirty, RDONLY)
        | either(has(Bits::DIRTY), DIRTY)
        | either(has(Bits::WRITE), WRITE)
        | either(has(Bits::YOUNG), AF)
        | either(has(Bits::SPECIAL), SPECIAL)
        | either(has(Bits::UFFD_WP), UFFD_WP)
        | either(!has(Bits::EXEC), UXN)
}

#[inline]
pub(super) fn read_present(page_shift: u32, word: u64) -> Option<Present> {
    let kind = word & TYPE_MASK;
    let (protnone, huge) = match kind {
        TYPE_PAGE => (false, false),
        TYPE_BLOCK => (false, true),
        0 if word & NG != 0 => (true, word & USER == 0),
        _ => return None,
    };
    let mut bits = Bits::empty();
    bits.set(Bits::WRITE, word & WRITE != 0);
    bits.set(Bits::YOUNG, word & AF != 0);
    bits.set(Bits::DIRTY, word & DIRTY != 0);
    bits.set(Bits::SPECIAL, word & SPECIAL != 0);
    bits.set(Bits::UFFD_WP, word & UFFD_WP != 0);
    bits.set(Bits::EXEC, word & UXN == 0);
    bits.set(Bits::HUGE, huge);
    bits.set(Bits::PROT_NONE, protnone);
    Some(Present {
        pfn: Pfn::narrow((word & frame_mask(page_shift)) >> page_shift),
        bits,
    })
}

pub(super) fn table(page_shift: u32, table: TableId) -> u64 {
    (u64::from(table.0) << page_shift) | TYPE_PAGE
}

#[inline]
pub(super) fn read_table(page_shift: u32, word: u64) -> Option<TableId> {
    // A page descriptor has attributes, a table descriptor none.
    (word & TYPE_MASK == TYPE_PAGE && word & NG == 0)
        .then(|| TableId(Pfn::narrow((word & frame_mask(page_shift)) >> page_shift).0))
}

pub(super) fn swap(swap: SwapWord) -> u64 {
    (u64::from(swap.kind) << SWAP_TYPE_SHIFT)
        | ((swap.offset & SWAP_OFFSET_MASK) << SWAP_OFFSET_SHIFT)
        | either(swap.bits.contains(SwapBits::UFFD_WP), SWAP_UFFD_WP)
        | either(swap.bits.contains(SwapBits::EXCLUSIVE), SWAP_EXCLUSIVE)
}

pub(super) fn read_swap(word: u64) -> SwapWord {
    let mut bits = SwapBits::empty();
    bits.set(SwapBits::UFFD_WP, word & SWAP_UFFD_WP != 0);
    bits.set(SwapBits::EXCLUSIVE, word & SWAP_EXCLUSIVE != 0);
    SwapWord {
        kind: ((word >> SWAP_TYPE_SHIFT) & SWAP_TYPE_MASK).to_le_bytes()[0],
        offset: (word >> SWAP_OFFSET_SHIFT) & SWAP_OFFSET_MASK,
        bits,
    }
}
