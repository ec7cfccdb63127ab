//! What the store's packs hold already: the index that new chunks are looked up in.
//!
//! Bounded: [`ENTRIES_MAX`] chunks, 29 bytes each. What does not fit is merely stored twice.

use std::collections::HashSet;

use hashbrown::HashTable;

use crate::{
    format::PackIndex,
    id::PackId,
    page_map::{index, number_of},
};

/// Chunks in the index: seven eighths of 2^19, so that the table takes 15 MiB and never grows.
const ENTRIES_MAX: usize = (1 << 19) / 8 * 7;
/// Bytes of a hash that are kept.
const PREFIX_BYTES: usize = 16;

/// Where a chunk is known to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The number of the pack in [`Known::packs`].
    pub(crate) pack: u32,
    /// Byte offset in it.
    pub(crate) offset: u32,
    /// Stored bytes.
    pub(crate) stored: u32,
}

#[derive(Clone, Copy)]
struct Entry {
    prefix: [u8; PREFIX_BYTES],
    place: Place,
}

/// The index.
#[derive(Clone, Default)]
pub(crate) struct Known {
    packs: Vec<PackId>,
    table: HashTable<Entry>,
}

impl Known {
    /// The packs whose chunks are in the index.
    pub(crate) fn packs(&self) -> &[PackId] {
        &self.packs
    }

    /// Tells whether no more chunks fit.
    pub(crate) fn is_full(&self) -> bool {
        self.table.len() >= ENTRIES_MAX
    }

    /// Finds a chunk by its hash.
    pub(crate) fn find(&self, hash: &[u8; 32]) -> Option<Place> {
        let found = self
            .table
            .find(bucket(hash), |entry| entry.prefix == hash[..PREFIX_BYTES])?;
        Some(found.place)
    }

    /// Takes up a pack's chunks, as far as they fit.
    pub(crate) fn add(&mut self, pack: PackId, content: &PackIndex) {
        let number = number_of(self.packs.len());
        self.packs.push(pack);
        for entry in &content.entries {
            if self.is_full() {
                return;
            }
            if self.find(&entry.hash).is_some() {
                continue;
            }
            let mut prefix = [0; PREFIX_BYTES];
            prefix.copy_from_slice(&entry.hash[..PREFIX_BYTES]);
            let place = Place {
                pack: number,
                offset: entry.offset,
                stored: entry.stored,
            };
            let rehash = |entry: &Entry| bucket_of_prefix(&entry.prefix);
            self.table
                .insert_unique(bucket(&entry.hash), Entry { prefix, place }, rehash);
        }
    }

    /// Forgets all packs but those in `kept`.
    pub(crate) fn retain(&mut self, kept: &HashSet<PackId>) {
        if self.packs.iter().all(|pack| kept.contains(pack)) {
            return;
        }
        let mut numbers = Vec::with_capacity(self.packs.len());
        let mut packs = Vec::new();
        for pack in &self.packs {
            let stays = kept.contains(pack);
            numbers.push(stays.then(|| number_of(packs.len())));
            packs.extend(stays.then_some(*pack));
        }
        self.table
            .retain(|entry| match numbers[index(entry.place.pack)] {
                Some(number) => {
                    entry.place.pack = number;
                    true
                }
                None => false,
            });
        self.packs = packs;
    }
}

fn bucket(hash: &[u8; 32]) -> u64 {
    let (prefix, _) = hash
        .split_first_chunk()
        .expect("a hash is longer than its prefix");
    bucket_of_prefix(prefix)
}

fn bucket_of_prefix(prefix: &[u8; PREFIX_BYTES]) -> u64 {
    let (first, _) = prefix.split_first_chunk().expect("a prefix has 16 bytes");
    u64::from_le_bytes(*first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::PackEntry;

    fn content(first: u8, count: u8) -> PackIndex {
        let entry = |n| PackEntry {
            hash: *blake3::hash(&[n]).as_bytes(),
            offset: u32::from(n),
            stored: 10,
            raw: 4096,
        };
        PackIndex {
            entries: (first..first + count).map(entry).collect(),
        }
    }

    #[test]
    fn forgets_packs_and_keeps_the_others() {
        let mut known = Known::default();
        let packs = [1, 2, 3].map(|n| PackId([n; 16]));
        known.add(packs[0], &content(0, 10));
        known.add(packs[1], &content(5, 10));
        known.add(packs[2], &content(20, 10));
        let find = |known: &Known, n: u8| {
            let place = known.find(blake3::hash(&[n]).as_bytes())?;
            assert_eq!(place.offset, u32::from(n));
            Some(known.packs()[index(place.pack)])
        };
        assert_eq!(find(&known, 7), Some(packs[0]));
        assert_eq!(find(&known, 12), Some(packs[1]));
        known.retain(&[packs[0], packs[2]].into());
        assert_eq!(find(&known, 7), Some(packs[0]));
        assert_eq!(find(&known, 12), None);
        assert_eq!(find(&known, 25), Some(packs[2]));
        assert_eq!(known.packs(), [packs[0], packs[2]]);
    }
}
