//! Getting chunks out of packs, each checked against its hash.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::GetRange;

use crate::{
    backend::{REQUESTS_AT_ONCE, StorageError, folder, path},
    error::ReadError,
    format::{
        PACK_BYTES_MAX, PackEntry, PackIndex, TRAILER_BYTES, decode_pack_index, decode_trailer,
    },
    id::PackId,
    page_map::Chunk,
    store::{Inner, lock},
};

/// How much of a pack's end is read at first: the index of an ordinary pack.
const TAIL_BYTES: u64 = 32 << 10;

/// A chunk and the pack it was written to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) pack: PackId,
    pub(crate) chunk: Chunk,
    /// Its raw length in bytes.
    pub(crate) raw_len: usize,
}

/// Packs that were packed anew: whoever misses a chunk in one finds it, by its hash, in another.
#[derive(Default)]
pub(crate) struct Moved {
    to: BTreeMap<PackId, Vec<PackId>>,
    indexes: HashMap<PackId, Arc<PackIndex>>,
}

thread_local! {
    static UNPACKER: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const {
        RefCell::new(None)
    };
}

impl Inner {
    /// Gets the stored bytes of chunks, those of one pack in few requests.
    pub(crate) fn fetch(&self, wanted: &[Wanted]) -> Result<Vec<Bytes>, ReadError> {
        let mut by_pack: BTreeMap<PackId, Vec<usize>> = BTreeMap::new();
        for (number, one) in wanted.iter().enumerate() {
            by_pack.entry(one.pack).or_default().push(number);
        }
        let requests = futures_util::stream::iter(by_pack).map(async |(pack, numbers)| {
            let ranges: Vec<Range<u64>> = numbers
                .iter()
                .map(|&number| range_of(&wanted[number].chunk))
                .collect();
            let name = object_store::path::Path::from(path(folder::PACKS, pack));
            let got = self.backend.objects.get_ranges(&name, &ranges).await;
            match got {
                Ok(parts) => Ok((pack, numbers, Some(parts))),
                Err(object_store::Error::NotFound { .. }) => Ok((pack, numbers, None)),
                Err(error) => Err(StorageError::reading(&name, error)),
            }
        });
        let requests = requests.buffer_unordered(REQUESTS_AT_ONCE);
        let answers: Vec<_> = self.backend.wait(requests.try_collect())?;
        let mut parts = vec![Bytes::new(); wanted.len()];
        for (pack, numbers, found) in answers {
            let found = match found {
                Some(found) => found,
                None => self.fetch_moved(pack, &numbers, wanted)?,
            };
            for (number, bytes) in numbers.into_iter().zip(found) {
                parts[number] = bytes;
            }
        }
        Ok(parts)
    }

    /// Gets chunks of a pack that is gone from wherever they were moved to.
    fn fetch_moved(
        &self,
        pack: PackId,
        numbers: &[usize],
        wanted: &[Wanted],
    ) -> Result<Vec<Bytes>, ReadError> {
        self.refresh_moved()?;
        let there: HashSet<PackId> = self
            .backend
            .list_ids(folder::PACKS)?
            .into_iter()
            .map(|(pack, _)| pack)
            .collect();
        let found = numbers.iter().map(|&number| {
            let chunk = &wanted[number].chunk;
            let Some((pack, entry)) =
                self.moved_place(pack, &chunk.hash, |pack| there.contains(&pack))?
            else {
                return Err(ReadError::Chunk {
                    pack,
                    offset: chunk.offset,
                    problem: "the pack is missing",
                });
            };
            let start = u64::from(entry.offset);
            let range = start..start + u64::from(entry.stored);
            let mut parts = self
                .backend
                .get_ranges(&path(folder::PACKS, pack), &[range])?;
            Ok(parts.pop().unwrap_or_default())
        });
        found.collect()
    }

    /// Reads again which packs were packed anew.
    pub(crate) fn refresh_moved(&self) -> Result<(), StorageError> {
        let mut to: BTreeMap<PackId, Vec<PackId>> = BTreeMap::new();
        for listed in self.backend.list(folder::MOVED)? {
            if let Some((from, new)) = parse_moved(&listed.name) {
                to.entry(from).or_default().push(new);
            }
        }
        let mut moved = lock(&self.moved);
        moved
            .indexes
            .retain(|pack, _| to.values().flatten().any(|new| new == pack));
        moved.to = to;
        Ok(())
    }

    /// Finds a chunk among the packs that the chunks of `pack` were moved to, and from there on:
    /// the place that most moves lead to, of those in packs for which `exists` holds. `None`
    /// where there is none.
    ///
    /// Packs that are gone are passed through: what was in them may have been moved again.
    pub(crate) fn moved_place(
        &self,
        pack: PackId,
        hash: &[u8; 32],
        exists: impl Fn(PackId) -> bool,
    ) -> Result<Option<(PackId, PackEntry)>, ReadError> {
        let mut place = None;
        let mut reached = BTreeSet::from([pack]);
        let mut here = vec![pack];
        while !here.is_empty() {
            let targets: BTreeSet<PackId> = {
                let moved = lock(&self.moved);
                here.iter()
                    .filter_map(|pack| moved.to.get(pack))
                    .flatten()
                    .copied()
                    .collect()
            };
            here = targets
                .into_iter()
                .filter(|&target| reached.insert(target))
                .collect();
            let mut found = None;
            for &target in here.iter().filter(|&&target| exists(target)) {
                let content = match self.moved_index(target) {
                    Err(ReadError::Storage(error)) if error.is_not_found() => continue,
                    other => other?,
                };
                let entry = content.entries.iter().find(|entry| entry.hash == *hash);
                found = found.or(entry.map(|entry| (target, *entry)));
            }
            place = found.or(place);
        }
        Ok(place)
    }

    fn moved_index(&self, pack: PackId) -> Result<Arc<PackIndex>, ReadError> {
        if let Some(found) = lock(&self.moved).indexes.get(&pack) {
            return Ok(Arc::clone(found));
        }
        let content = Arc::new(self.pack_index(pack)?);
        lock(&self.moved).indexes.insert(pack, Arc::clone(&content));
        Ok(content)
    }

    /// Reads the index of a pack.
    pub(crate) fn pack_index(&self, pack: PackId) -> Result<PackIndex, ReadError> {
        self.backend.wait(self.pack_index_async(pack))
    }

    /// As [`pack_index`](Self::pack_index), to be awaited.
    pub(crate) async fn pack_index_async(&self, pack: PackId) -> Result<PackIndex, ReadError> {
        let damaged = |source| ReadError::Pack { pack, source };
        let name = path(folder::PACKS, pack);
        let tail = |bytes| self.backend.get_part_async(&name, GetRange::Suffix(bytes));
        let (mut bytes, len) = tail(TAIL_BYTES).await?;
        let needed = decode_trailer(&bytes).map_err(damaged)?;
        if needed > bytes.len() {
            (bytes, _) = tail(needed as u64).await?;
        }
        decode_pack_index(&bytes, len).map_err(damaged)
    }

    /// Reads a whole pack.
    pub(crate) fn pack_bytes(&self, pack: PackId) -> Result<Bytes, StorageError> {
        self.backend.get(&path(folder::PACKS, pack), PACK_BYTES_MAX)
    }
}

impl StorageError {
    fn reading(path: &object_store::path::Path, error: object_store::Error) -> Self {
        Self {
            action: "reading",
            path: path.to_string(),
            source: Arc::new(error),
        }
    }
}

/// Makes the name of the object that says chunks of `from` are in `to` as well.
pub(crate) fn moved_name(from: PackId, to: PackId) -> String {
    format!("{from}-{to}")
}

/// Reads such a name.
pub(crate) fn parse_moved(name: &str) -> Option<(PackId, PackId)> {
    let (from, to) = name.split_once('-')?;
    Some((from.parse().ok()?, to.parse().ok()?))
}

fn range_of(chunk: &Chunk) -> Range<u64> {
    let start = u64::from(chunk.offset);
    start..start + u64::from(chunk.stored)
}

/// Unpacks a chunk into `raw`, which has exactly its raw length, and checks it.
pub(crate) fn unpack_into(wanted: &Wanted, stored: &[u8], raw: &mut [u8]) -> Result<(), ReadError> {
    unpack_checked(&wanted.chunk.hash, stored, raw).map_err(|problem| ReadError::Chunk {
        pack: wanted.pack,
        offset: wanted.chunk.offset,
        problem,
    })
}

/// Unpacks a chunk's stored bytes into the start of `raw`, which is as long as its content is, and checks
/// the content against its hash.
///
/// # Errors
///
/// What is wrong with the bytes, in words. Then `raw` holds nothing of use.
pub fn unpack_checked(hash: &[u8; 32], stored: &[u8], raw: &mut [u8]) -> Result<(), &'static str> {
    if stored.len() == raw.len() {
        raw.copy_from_slice(stored);
    } else {
        let unpacked = UNPACKER.with_borrow_mut(|unpacker| {
            if unpacker.is_none() {
                *unpacker = zstd::bulk::Decompressor::new().ok();
            }
            let unpacker = unpacker.as_mut().ok_or("no memory to unpack it")?;
            unpacker
                .decompress_to_buffer(stored, raw)
                .map_err(|_| "it can't be unpacked")
        })?;
        if unpacked != raw.len() {
            return Err("it unpacks to another length");
        }
    }
    if blake3::hash(raw).as_bytes() != hash {
        return Err("its content does not match its hash");
    }
    Ok(())
}

const _: () = assert!(TRAILER_BYTES as u64 <= TAIL_BYTES, "a tail holds a trailer");
