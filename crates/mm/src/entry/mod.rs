//! What a page table entry says, apart from how an architecture writes it down.
//!
//! Page tables hold real 64-bit words. [`Codec`] turns a word into an [`Entry`] and back, in the
//! layout of the architecture, so that whatever the layout can't say can't be said here either.
//!
//! Linux reference: 6.18, `arch/x86/include/asm/pgtable*.h`, `arch/arm64/include/asm/pgtable*.h`,
//! `include/linux/swapops.h`.

mod arm64;
mod x86_64;

#[cfg(test)]
mod tests;

use bitflags::bitflags;

use crate::folio::Pfn;
use crate::table::TableId;

bitflags! {
    /// The bits of a present entry, under their meaning and not under their position.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Bits: u16 {
        /// Stores are allowed.
        const WRITE = 1;
        /// The page was accessed since the bit was last cleared.
        const YOUNG = 1 << 1;
        /// The page was written through this entry.
        const DIRTY = 1 << 2;
        /// The page has no mapcount (the zero page).
        const SPECIAL = 1 << 3;
        /// Userfaultfd write protection (from 7.3 on: protection of either kind).
        const UFFD_WP = 1 << 4;
        /// Written since `clear_refs` (x86_64 only).
        const SOFT_DIRTY = 1 << 5;
        /// Instruction fetches are allowed.
        const EXEC = 1 << 6;
        /// A leaf of a higher level: a huge page.
        const HUGE = 1 << 7;
        /// There, but not accessible: `PROT_NONE`, NUMA hinting, or RWP.
        const PROT_NONE = 1 << 8;
        /// Only instruction fetches are allowed: the protection key says so (x86_64).
        const EXEC_ONLY = 1 << 9;
    }
}

bitflags! {
    /// The bits that a swap or migration entry keeps.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct SwapBits: u8 {
        /// The anonymous page belonged to one process alone.
        const EXCLUSIVE = 1;
        /// See [`Bits::SOFT_DIRTY`].
        const SOFT_DIRTY = 1 << 1;
        /// See [`Bits::UFFD_WP`].
        const UFFD_WP = 1 << 2;
    }
}

bitflags! {
    /// What a marker says: an entry that is not there, but not empty either (`PTE_MARKER_*`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Marker: u8 {
        /// The page that will come is write protected.
        const UFFD_WP = 1;
        /// An access gets SIGBUS as if the memory were broken.
        const POISONED = 1 << 1;
        /// An access gets SIGSEGV.
        const GUARD = 1 << 2;
        /// The bit of swap entries that says they are write protected: `PAGEMAP_SCAN` sets it also
        /// where it means nothing.
        const PROTECTED = 1 << 7;
    }
}

impl Marker {
    /// `pte_swp_uffd_wp_any`: tells whether it says in either way that the page is protected.
    pub fn is_protected(self) -> bool {
        self.intersects(Self::UFFD_WP | Self::PROTECTED)
    }
}

/// A mapped page: the frame and what may be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present {
    /// The (first) frame.
    pub pfn: Pfn,
    /// What may be done, and was done.
    pub bits: Bits,
}

impl Present {
    /// Tells whether all of `bits` are set.
    pub fn has(self, bits: Bits) -> bool {
        self.bits.contains(bits)
    }

    /// Sets or clears bits.
    #[must_use]
    pub fn with(mut self, bits: Bits, on: bool) -> Self {
        self.bits.set(bits, on);
        self
    }

    /// `pte_mkuffd_wp`: marks the entry protected, which takes the right to write.
    #[must_use]
    pub fn mkuffd_wp(self) -> Self {
        self.with(Bits::UFFD_WP, true).with(Bits::WRITE, false)
    }
}

/// A place on a swap device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SwapSlot {
    /// Which device: below [`SwapSlot::DEVICES_MAX`].
    pub device: u8,
    /// Which page of it.
    pub offset: u64,
}

impl SwapSlot {
    /// How many swap devices an entry can tell apart (`MAX_SWAPFILES`).
    pub const DEVICES_MAX: u8 = 23;
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Nothing.
    None,
    /// The next lower table.
    Table(TableId),
    /// A page.
    Present(Present),
    /// A page on a swap device.
    Swap {
        /// Where.
        slot: SwapSlot,
        /// What is remembered of the page.
        bits: SwapBits,
    },
    /// No page, but something to remember.
    Marker(Marker),
    /// A page whose memory is broken.
    Hwpoison(Pfn),
    /// A page on its way to another frame.
    Migration {
        /// The frame it leaves.
        pfn: Pfn,
        /// Whether it was writable.
        write: bool,
        /// What is remembered of it.
        bits: SwapBits,
    },
}

/// The special swap types, from the top of the five bits (`include/linux/swap.h`).
mod kind {
    pub(super) const HWPOISON: u8 = super::SwapSlot::DEVICES_MAX;
    pub(super) const MIGRATION_READ: u8 = HWPOISON + 1;
    pub(super) const MIGRATION_READ_EXCLUSIVE: u8 = HWPOISON + 2;
    pub(super) const MIGRATION_WRITE: u8 = HWPOISON + 3;
    pub(super) const MARKER: u8 = 31;
}

/// Writes and reads the words of one architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// x86_64 with four levels of 512 entries.
    X86_64,
    /// arm64 with pages of 4, 16 or 64 KiB.
    Arm64 {
        /// The base-two logarithm of the page size.
        page_shift: u32,
    },
}

/// The parts of a swap entry that all architectures have: type, offset, and the bits beside.
#[derive(Clone, Copy)]
struct SwapWord {
    kind: u8,
    offset: u64,
    bits: SwapBits,
}

impl Codec {
    /// Writes an entry down.
    #[inline]
    pub fn encode(self, entry: Entry) -> u64 {
        match entry {
            Entry::None => 0,
            Entry::Table(table) => match self {
                Self::X86_64 => x86_64::table(table),
                Self::Arm64 { page_shift } => arm64::table(page_shift, table),
            },
            Entry::Present(present) => self.encode_present(present),
            Entry::Swap { slot, bits } => self.encode_swap(SwapWord {
                kind: slot.device,
                offset: slot.offset,
                bits,
            }),
            Entry::Marker(marker) => {
                let mut bits = SwapBits::empty();
                bits.set(SwapBits::UFFD_WP, marker.contains(Marker::PROTECTED));
                self.encode_swap(SwapWord {
                    kind: kind::MARKER,
                    offset: u64::from((marker - Marker::PROTECTED).bits()),
                    bits,
                })
            }
            Entry::Hwpoison(pfn) => self.encode_swap(SwapWord {
                kind: kind::HWPOISON,
                offset: u64::from(pfn.0),
                bits: SwapBits::empty(),
            }),
            Entry::Migration { pfn, write, bits } => self.encode_swap(SwapWord {
                kind: match (write, bits.contains(SwapBits::EXCLUSIVE)) {
                    (true, _) => kind::MIGRATION_WRITE,
                    (false, true) => kind::MIGRATION_READ_EXCLUSIVE,
                    (false, false) => kind::MIGRATION_READ,
                },
                offset: u64::from(pfn.0),
                bits: bits - SwapBits::EXCLUSIVE,
            }),
        }
    }

    /// Writes a present entry down.
    #[inline]
    pub fn encode_present(self, present: Present) -> u64 {
        match self {
            Self::X86_64 => x86_64::present(present),
            Self::Arm64 { page_shift } => arm64::present(page_shift, present),
        }
    }

    /// Reads a word of a table that has no tables below it.
    #[inline]
    pub fn decode(self, word: u64) -> Entry {
        if word == 0 {
            return Entry::None;
        }
        if let Some(present) = self.decode_present(word) {
            return Entry::Present(present);
        }
        let SwapWord { kind, offset, bits } = match self {
            Self::X86_64 => x86_64::read_swap(word),
            Self::Arm64 { .. } => arm64::read_swap(word),
        };
        // Offsets that stand for frames and markers are small: this only narrows a type.
        let small = u32::try_from(offset).unwrap_or(u32::MAX);
        match kind {
            kind::MARKER => {
                let mut marker = Marker::from_bits_truncate(small.to_le_bytes()[0]);
                marker.set(Marker::PROTECTED, bits.contains(SwapBits::UFFD_WP));
                Entry::Marker(marker)
            }
            kind::HWPOISON => Entry::Hwpoison(Pfn(small)),
            kind::MIGRATION_READ..=kind::MIGRATION_WRITE => Entry::Migration {
                pfn: Pfn(small),
                write: kind == kind::MIGRATION_WRITE,
                bits: bits | exclusive_of(kind),
            },
            device => Entry::Swap {
                slot: SwapSlot { device, offset },
                bits,
            },
        }
    }

    /// Reads a word if it maps a page.
    #[inline]
    pub fn decode_present(self, word: u64) -> Option<Present> {
        match self {
            Self::X86_64 => x86_64::read_present(word),
            Self::Arm64 { page_shift } => arm64::read_present(page_shift, word),
        }
    }

    /// Reads a word of a table that has tables below it.
    #[inline]
    pub fn decode_upper(self, word: u64) -> Entry {
        let table = match self {
            Self::X86_64 => x86_64::read_table(word),
            Self::Arm64 { page_shift } => arm64::read_table(page_shift, word),
        };
        match table {
            Some(table) => Entry::Table(table),
            None => self.decode(word),
        }
    }

    /// Tells whether the layout has a soft-dirty bit.
    pub fn has_soft_dirty(self) -> bool {
        match self {
            Self::X86_64 => true,
            Self::Arm64 { .. } => false,
        }
    }

    #[inline]
    fn encode_swap(self, swap: SwapWord) -> u64 {
        match self {
            Self::X86_64 => x86_64::swap(swap),
            Self::Arm64 { .. } => arm64::swap(swap),
        }
    }
}

/// A writable page is exclusive without saying so.
fn exclusive_of(kind: u8) -> SwapBits {
    match kind {
        kind::MIGRATION_READ => SwapBits::empty(),
        _ => SwapBits::EXCLUSIVE,
    }
}
