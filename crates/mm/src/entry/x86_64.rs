//! The layout of x86_64 (`arch/x86/include/asm/pgtable_types.h`, `pgtable_64.h`).
//!
//! | bit | present | swap |
//! |---|---|---|
//! | 0 | present | 0 |
//! | 1 | write | soft-dirty |
//! | 2 | user | uffd-wp |
//! | 3 | | exclusive |
//! | 5, 6 | accessed, dirty | part of no swap entry (an erratum sets them) |
//! | 7 | page size | 0 |
//! | 8 | global; protnone where bit 0 is clear | 0 |
//! | 9, 10, 11 | special, uffd-wp, soft-dirty | offset, inverted: 9 to 58 |
//! | 12-51 | frame; inverted where protnone | |
//! | 58 | dirty while not writable | |
//! | 59-63 | 59: the key of what may only be executed; 63: no execute | type |

use super::{Bits, Present, SwapBits, SwapWord};
use crate::folio::Pfn;
use crate::table::TableId;

const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const PSE: u64 = 1 << 7;
const PROTNONE: u64 = 1 << 8;
const SPECIAL: u64 = 1 << 9;
const UFFD_WP: u64 = 1 << 10;
const SOFT_DIRTY: u64 = 1 << 11;
const SAVED_DIRTY: u64 = 1 << 58;
const EXEC_ONLY: u64 = 1 << 59;
const NX: u64 = 1 << 63;

const FRAME_SHIFT: u32 = 12;
const FRAME_MASK: u64 = ((1 << 52) - 1) & !((1 << FRAME_SHIFT) - 1);

const SWAP_SOFT_DIRTY: u64 = 1 << 1;
const SWAP_UFFD_WP: u64 = 1 << 2;
const SWAP_EXCLUSIVE: u64 = 1 << 3;
const SWAP_TYPE_SHIFT: u32 = 59;
const SWAP_OFFSET_SHIFT: u32 = 9;
const SWAP_OFFSET_MASK: u64 = (1 << (SWAP_TYPE_SHIFT - SWAP_OFFSET_SHIFT)) - 1;

fn either(on: bool, bits: u64) -> u64 {
    if on { bits } else { 0 }
}

#[inline]
pub(super) fn present(present: Present) -> u64 {
    let has = |bits| present.has(bits);
    let frame = u64::from(present.pfn.0) << FRAME_SHIFT;
    let (frame, there) = if has(Bits::PROT_NONE) {
        // The frame is inverted so that a speculative load finds nothing (L1TF).
        (!frame & FRAME_MASK, PROTNONE)
    } else {
        (frame, PRESENT | USER)
    };
    // Not writable and dirty is the shape of a shadow stack: the dirty bit then moves away.
    let dirty = match (has(Bits::DIRTY), has(Bits::WRITE)) {
        (false, _) => 0,
        (true, true) => DIRTY,
        (true, false) => SAVED_DIRTY,
    };
    frame
        | there
        | dirty
        | either(has(Bits::WRITE), WRITE)
        | either(has(Bits::YOUNG), ACCESSED)
        | either(has(Bits::HUGE), PSE)
        | either(has(Bits::SPECIAL), SPECIAL)
        | either(has(Bits::UFFD_WP), UFFD_WP)
        | either(has(Bits::SOFT_DIRTY), SOFT_DIRTY)
        | either(has(Bits::EXEC_ONLY), EXEC_ONLY)
        | either(!has(Bits::EXEC), NX)
}

#[inline]
pub(super) fn read_present(word: u64) -> Option<Present> {
    if word & (PRESENT | PROTNONE) == 0 {
        return None;
    }
    let protnone = word & PRESENT == 0;
    let frame = if protnone { !word } else { word } & FRAME_MASK;
    let mut bits = Bits::empty();
    bits.set(Bits::WRITE, word & WRITE != 0);
    bits.set(Bits::YOUNG, word & ACCESSED != 0);
    bits.set(Bits::DIRTY, word & (DIRTY | SAVED_DIRTY) != 0);
    bits.set(Bits::SPECIAL, word & SPECIAL != 0);
    bits.set(Bits::UFFD_WP, word & UFFD_WP != 0);
    bits.set(Bits::SOFT_DIRTY, word & SOFT_DIRTY != 0);
    bits.set(Bits::EXEC_ONLY, word & EXEC_ONLY != 0);
    bits.set(Bits::EXEC, word & NX == 0);
    bits.set(Bits::HUGE, word & PSE != 0);
    bits.set(Bits::PROT_NONE, protnone);
    Some(Present {
        pfn: Pfn::narrow(frame >> FRAME_SHIFT),
        bits,
    })
}

pub(super) fn table(table: TableId) -> u64 {
    (u64::from(table.0) << FRAME_SHIFT) | PRESENT | WRITE | USER | ACCESSED | DIRTY
}

#[inline]
pub(super) fn read_table(word: u64) -> Option<TableId> {
    (word & (PRESENT | PSE) == PRESENT)
        .then(|| TableId(Pfn::narrow((word & FRAME_MASK) >> FRAME_SHIFT).0))
}

pub(super) fn swap(swap: SwapWord) -> u64 {
    (u64::from(swap.kind) << SWAP_TYPE_SHIFT)
        | ((!swap.offset & SWAP_OFFSET_MASK) << SWAP_OFFSET_SHIFT)
        | either(swap.bits.contains(SwapBits::SOFT_DIRTY), SWAP_SOFT_DIRTY)
        | either(swap.bits.contains(SwapBits::UFFD_WP), SWAP_UFFD_WP)
        | either(swap.bits.contains(SwapBits::EXCLUSIVE), SWAP_EXCLUSIVE)
}

pub(super) fn read_swap(word: u64) -> SwapWord {
    let mut bits = SwapBits::empty();
    bits.set(SwapBits::SOFT_DIRTY, word & SWAP_SOFT_DIRTY != 0);
    bits.set(SwapBits::UFFD_WP, word & SWAP_UFFD_WP != 0);
    bits.set(SwapBits::EXCLUSIVE, word & SWAP_EXCLUSIVE != 0);
    SwapWord {
        kind: (word >> SWAP_TYPE_SHIFT).to_le_bytes()[0],
        offset: (!word >> SWAP_OFFSET_SHIFT) & SWAP_OFFSET_MASK,
        bits,
    }
}
