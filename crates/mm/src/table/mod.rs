//! Page tables: arrays of 64-bit words, in as many levels as the architecture has.
//!
//! A table is made when something is to be put into it, and freed as the kernel frees it: when
//! its addresses are unmapped and no mapping beside them needs it ([`PageTables::free_range`]),
//! or when a whole table is empty after a zap ([`PageTables::free_if_empty`]). Whether a table is
//! there can be seen from outside: a huge page is only mapped where there is none.
//!
//! Linux reference: 6.18, `mm/memory.c` (`free_pgd_range`), `mm/pt_reclaim.c`, `mm/pgalloc-track.h`.

#[cfg(test)]
mod tests;

use crate::entry::{Codec, Entry, Present};

/// A table of one address space, its frame so to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableId(pub u32);

impl TableId {
    fn index(self) -> usize {
        usize::try_from(self.0).expect("an index of a table fits usize")
    }
}

/// The shape of an architecture's page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Base-two logarithm of the page size.
    pub page_shift: u32,
    /// Levels, the lowest included.
    pub levels: u32,
}

impl Geometry {
    /// Bits of the address that one level takes.
    pub fn level_bits(self) -> u32 {
        self.page_shift - 3
    }

    /// Base-two logarithm of what one entry of a level covers; level 0 is the lowest (PTE).
    pub fn shift(self, level: u32) -> u32 {
        self.page_shift + level * self.level_bits()
    }

    /// Entries of one table.
    pub fn entries(self) -> usize {
        1 << self.level_bits()
    }

    /// The index of an address in its table of a level.
    pub fn index(self, addr: u64, level: u32) -> usize {
        let mask = (1_u64 << self.level_bits()) - 1;
        usize::try_from((addr >> self.shift(level)) & mask).expect("an index of an entry is small")
    }

    /// The size of a page.
    pub fn page_size(self) -> u64 {
        1 << self.page_shift
    }

    /// The size of a huge page of the second level (`PMD_SIZE`).
    pub fn pmd_size(self) -> u64 {
        1 << self.shift(1)
    }
}

/// The level whose entries map huge pages.
pub const PMD: u32 = 1;

/// The place of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The table.
    pub table: TableId,
    /// Which of its entries.
    pub index: usize,
    /// Its level.
    pub level: u32,
}

/// Neighbouring entries of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first address asked for that the entries map.
    pub start: u64,
    /// The first address behind them, or the end of what was asked for.
    pub end: u64,
    /// The first entry.
    pub slot: Slot,
}

#[derive(Clone, Debug)]
struct Table {
    words: Box<[u64]>,
    /// How many words are not zero.
    live: u32,
}

/// The page tables of one address space.
#[derive(Clone, Debug)]
pub struct PageTables {
    geometry: Geometry,
    codec: Codec,
    tables: Vec<Table>,
    free: Vec<TableId>,
    root: TableId,
}

impl PageTables {
    /// Makes page tables that map nothing.
    pub fn new(geometry: Geometry, codec: Codec) -> Self {
        let mut tables = Self {
            geometry,
            codec,
            tables: Vec::new(),
            free: Vec::new(),
            root: TableId(0),
        };
        tables.root = tables.alloc();
        tables
    }

    /// The shape.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// How words are written.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// How many tables there are (`VmPTE`).
    pub fn tables_used(&self) -> usize {
        self.tables.len() - self.free.len()
    }

    fn alloc(&mut self) -> TableId {
        if let Some(id) = self.free.pop() {
            return id;
        }
        let id = u32::try_from(self.tables.len()).expect("tables are counted in 32 bits");
        self.tables.push(Table {
            words: vec![0; self.geometry.entries()].into_boxed_slice(),
            live: 0,
        });
        TableId(id)
    }

    fn release(&mut self, id: TableId) {
        debug_assert_eq!(self.tables[id.index()].live, 0, "a freed table is empty");
        self.free.push(id);
    }

    /// The word of a place.
    #[inline]
    pub fn word(&self, slot: Slot) -> u64 {
        self.tables[slot.table.index()].words[slot.index]
    }

    /// Writes the word of a place.
    #[inline]
    pub fn set_word(&mut self, slot: Slot, word: u64) {
        let table = &mut self.tables[slot.table.index()];
        let old = std::mem::replace(&mut table.words[slot.index], word);
        table.live += u32::from(word != 0);
        table.live -= u32::from(old != 0);
    }

    /// What a place says.
    #[inline]
    pub fn entry(&self, slot: Slot) -> Entry {
        match slot.level {
            0 => self.codec.decode(self.word(slot)),
            _ => self.codec.decode_upper(self.word(slot)),
        }
    }

    /// Says something at a place.
    #[inline]
    pub fn set(&mut self, slot: Slot, entry: Entry) {
        self.set_word(slot, self.codec.encode(entry));
    }

    /// Maps a page at a place.
    #[inline]
    pub fn set_present(&mut self, slot: Slot, present: Present) {
        self.set_word(slot, self.codec.encode_present(present));
    }

    /// The lowest place on the way to `addr`, down to `level`: there, or where the way ends.
    #[inline]
    pub fn walk(&self, addr: u64, level: u32) -> Slot {
        let mut table = self.root;
        let mut at = self.geometry.levels - 1;
        loop {
            let slot = Slot {
                table,
                index: self.geometry.index(addr, at),
                level: at,
            };
            if at == level {
                return slot;
            }
            match self.codec.decode_upper(self.word(slot)) {
                Entry::Table(lower) => table = lower,
                _ => return slot,
            }
            at -= 1;
        }
    }

    /// The place of `addr` in the table of `level`, if there is such a table.
    pub fn find(&self, addr: u64, level: u32) -> Option<Slot> {
        Some(self.walk(addr, level)).filter(|slot| slot.level == level)
    }

    /// What maps `addr`, and the place that says so: an entry of the lowest level, or a huge one.
    #[inline]
    pub fn lookup(&self, addr: u64) -> (Slot, Entry) {
        let slot = self.walk(addr, 0);
        (slot, self.entry(slot))
    }

    /// The place of `addr` in the table of `level`; makes the tables down to there.
    ///
    /// Returns `None` where a huge entry is in the way.
    pub fn alloc_to(&mut self, addr: u64, level: u32) -> Option<Slot> {
        let mut slot = self.walk(addr, level);
        while slot.level > level {
            if self.word(slot) != 0 {
                return None;
            }
            let table = self.alloc();
            self.set(slot, Entry::Table(table));
            let below = slot.level - 1;
            slot = Slot {
                table,
                index: self.geometry.index(addr, below),
                level: below,
            };
        }
        Some(slot)
    }

    /// The next entries in `start..end` that may say something: the rest of one table of the
    /// lowest level, or one huge entry. Skips what has no tables.
    #[inline]
    pub fn next_run(&self, mut start: u64, end: u64) -> Option<Run> {
        while start < end {
            let slot = self.walk(start, 0);
            let unit = 1_u64 << self.geometry.shift(slot.level);
            let covers = if slot.level == 0 {
                self.geometry.pmd_size()
            } else {
                unit
            };
            let behind = (start & !(covers - 1)).saturating_add(covers);
            if slot.level == 0 || self.word(slot) != 0 {
                return Some(Run {
                    start,
                    end: behind.min(end),
                    slot,
                });
            }
            start = behind;
        }
        None
    }

    /// Visits every place that says something, in order of address, but for tables.
    ///
    /// # Errors
    ///
    /// The first that `visit` fails with.
    pub fn visit_all<E>(&self, mut visit: impl FnMut(u64, Slot) -> Result<(), E>) -> Result<(), E> {
        self.visit_below(self.root, self.geometry.levels - 1, 0, &mut visit)
    }

    fn visit_below<E>(
        &self,
        table: TableId,
        level: u32,
        base: u64,
        visit: &mut impl FnMut(u64, Slot) -> Result<(), E>,
    ) -> Result<(), E> {
        let Table { words, live } = &self.tables[table.index()];
        let mut left = *live;
        for (index, &word) in words.iter().enumerate() {
            if left == 0 {
                break;
            }
            if word == 0 {
                continue;
            }
            left -= 1;
            let offset = u64::try_from(index).expect("an index fits") << self.geometry.shift(level);
            let at = base + offset;
            let slot = Slot {
                table,
                index,
                level,
            };
            if level > 0
                && let Entry::Table(lower) = self.codec.decode_upper(word)
            {
                self.visit_below(lower, level - 1, at, visit)?;
            } else {
                visit(at, slot)?;
            }
        }
        Ok(())
    }

    /// Moves the table below `from` to `to`, both places of the second level.
    pub fn move_table(&mut self, from: Slot, to: Slot) {
        debug_assert_eq!(self.word(to), 0, "nothing is overwritten by a moved table");
        let word = self.word(from);
        self.set_word(from, 0);
        self.set_word(to, word);
    }

    /// Puts a table of the lowest level in the place of a huge or empty entry, and returns it.
    pub fn put_table(&mut self, slot: Slot) -> TableId {
        debug_assert_eq!(slot.level, PMD, "tables are put below the second level");
        let table = self.alloc();
        self.set(slot, Entry::Table(table));
        table
    }

    /// Frees the table of the lowest level around `addr` if nothing is in it; tells whether it
    /// did.
    pub fn free_if_empty(&mut self, addr: u64) -> bool {
        let slot = self.walk(addr, 0);
        if slot.level != 0 || self.tables[slot.table.index()].live != 0 {
            return false;
        }
        let above = self.walk(addr, PMD);
        self.set_word(above, 0);
        self.release(slot.table);
        true
    }

    /// `free_pgd_range`: frees the tables of `start..end`, which maps nothing any more, but none
    /// that covers addresses below `floor` or from `ceiling` on.
    pub fn free_range(&mut self, start: u64, end: u64, floor: u64, ceiling: u64) {
        self.free_below(
            self.root,
            self.geometry.levels - 1,
            0,
            (start, end),
            (floor, ceiling),
        );
    }

    /// Frees the tables below one that starts to map at `base`.
    fn free_below(
        &mut self,
        table: TableId,
        level: u32,
        base: u64,
        (start, end): (u64, u64),
        (floor, ceiling): (u64, u64),
    ) {
        if level == 0 {
            return;
        }
        let unit = 1_u64 << self.geometry.shift(level);
        let first = self.geometry.index(start.max(base), level);
        for index in first..self.geometry.entries() {
            let at = base + unit * u64::try_from(index).expect("an index fits");
            if at >= end {
                break;
            }
            let slot = Slot {
                table,
                index,
                level,
            };
            let Entry::Table(lower) = self.codec.decode_upper(self.word(slot)) else {
                continue;
            };
            self.free_below(lower, level - 1, at, (start, end), (floor, ceiling));
            let within = at >= floor && at + unit <= ceiling;
            if within && self.tables[lower.index()].live == 0 {
                self.set_word(slot, 0);
                self.release(lower);
            }
        }
    }
}
