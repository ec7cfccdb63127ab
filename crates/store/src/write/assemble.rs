//! Packs in the making: chunks appended in memory until there are enough of them.

use bytes::Bytes;
use object_store::PutPayload;

use crate::{
    format::{ENTRY_BYTES, PackEntry, TRAILER_BYTES, encode_pack_footer},
    id::PackId,
};

/// A pack that chunks are appended to.
pub(crate) struct OpenPack {
    pub(crate) id: PackId,
    parts: Vec<Bytes>,
    entries: Vec<PackEntry>,
    bytes: u32,
}

/// A pack that is complete, as it is uploaded.
pub(crate) struct SealedPack {
    pub(crate) id: PackId,
    parts: Vec<Bytes>,
    pub(crate) entries: Vec<PackEntry>,
}

impl OpenPack {
    pub(crate) fn new(id: PackId) -> Self {
        Self {
            id,
            parts: Vec::new(),
            entries: Vec::new(),
            bytes: 0,
        }
    }

    /// Appends a chunk and returns its offset.
    pub(crate) fn append(&mut self, hash: [u8; 32], raw: u32, stored: Bytes) -> u32 {
        let offset = self.bytes;
        let len = u32::try_from(stored.len()).expect("a chunk has 1 MiB at most");
        self.entries.push(PackEntry {
            hash,
            offset,
            stored: len,
            raw,
        });
        self.parts.push(stored);
        self.bytes += len;
        offset
    }

    /// Returns how long the pack would be.
    pub(crate) fn len(&self) -> u64 {
        u64::from(self.bytes) + (self.entries.len() * ENTRY_BYTES + TRAILER_BYTES) as u64
    }

    /// Returns the stored bytes of the chunk at `offset`.
    pub(crate) fn stored(&self, offset: u32) -> Option<Bytes> {
        stored_at(&self.entries, &self.parts, offset)
    }

    /// Completes the pack.
    pub(crate) fn seal(self) -> SealedPack {
        SealedPack {
            id: self.id,
            parts: self.parts,
            entries: self.entries,
        }
    }
}

impl SealedPack {
    /// Returns the bytes of the file; nothing is copied.
    pub(crate) fn payload(&self) -> PutPayload {
        let footer = Bytes::from(encode_pack_footer(&self.entries));
        self.parts.iter().cloned().chain([footer]).collect()
    }

    /// Returns the stored bytes of the chunk at `offset`.
    pub(crate) fn stored(&self, offset: u32) -> Option<Bytes> {
        stored_at(&self.entries, &self.parts, offset)
    }
}

fn stored_at(entries: &[PackEntry], parts: &[Bytes], offset: u32) -> Option<Bytes> {
    let found = entries
        .binary_search_by_key(&offset, |entry| entry.offset)
        .ok()?;
    parts.get(found).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::decode_pack_index;

    #[test]
    fn a_sealed_pack_reads_back() {
        let mut open = OpenPack::new(PackId([1; 16]));
        assert_eq!(open.append([1; 32], 4096, Bytes::from(vec![1; 100])), 0);
        assert_eq!(open.append([2; 32], 4096, Bytes::from(vec![2; 50])), 100);
        assert_eq!(open.stored(100).unwrap(), vec![2; 50]);
        let len = open.len();
        let sealed = open.seal();
        let file: Vec<u8> = sealed
            .payload()
            .iter()
            .flat_map(|part| part.to_vec())
            .collect();
        assert_eq!(file.len() as u64, len);
        assert_eq!(
            decode_pack_index(&file, len).unwrap().entries,
            sealed.entries
        );
        assert_eq!(sealed.stored(0).unwrap(), vec![1; 100]);
        assert_eq!(sealed.stored(1), None);
    }
}
