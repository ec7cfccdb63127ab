//! Taking pages: hashing and compressing in the calling thread, appending under a lock.

use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use bytes::Bytes;
use hashbrown::HashTable;
use space::{PageRange, PageSink, PageSize};

use super::{
    assemble::OpenPack,
    begin::WriteOptions,
    compress::Buffers,
    cut::{Cut, cut},
    overlay::Overlay,
    upload::Uploads,
};
use crate::{
    error::WriteError,
    id::{PackId, SnapshotId},
    known::{Known, Place},
    lease::Held,
    page_map::{Chunk, Content, Extent, index, number_of},
    store::{Last, Store, lock},
};

/// A pack is full from this length on: several fit into memory, and 4 to 64 MiB are wanted.
pub(super) const PACK_BYTES: u64 = 8 << 20;
/// Chunks of one run that are looked up, compressed and appended together: bounds memory.
const CHUNKS_AT_ONCE: usize = 16;
/// A pack of the index that has no number in the writer's table yet.
const UNUSED: u32 = u32::MAX;

/// What a writer has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteStats {
    /// Raw bytes taken, zeros included.
    pub bytes_read: u64,
    /// Bytes added to packs.
    pub bytes_stored: u64,
    /// Chunks taken.
    pub chunks: u64,
    /// Of these, chunks that were there already.
    pub deduped: u64,
    /// Raw bytes that were zeros.
    pub bytes_zero: u64,
}

#[derive(Default)]
struct Counters {
    bytes_read: AtomicU64,
    bytes_stored: AtomicU64,
    chunks: AtomicU64,
    deduped: AtomicU64,
    bytes_zero: AtomicU64,
}

/// A snapshot in the making.
///
/// Pages may be put by several threads at once. What is put for a page later replaces what was put
/// before; two puts of the same page must not overlap in time. Dropping a writer without
/// [`commit`](Self::commit) leaves only garbage that [`Store::gc`] removes.
pub struct Writer {
    pub(super) store: Store,
    pub(super) id: SnapshotId,
    pub(super) options: WriteOptions,
    pub(super) parent: Option<Last>,
    pub(super) lease: Held,
    pub(super) known: Arc<Known>,
    pub(super) uploads: Arc<Uploads>,
    pub(super) state: Mutex<State>,
    pub(super) buffers: Arc<Buffers>,
    counters: Counters,
}

/// What the writer's lock guards.
pub(super) struct State {
    pub(super) packs: Vec<PackId>,
    pub(super) chunks: Vec<Chunk>,
    pub(super) overlay: Overlay,
    pub(super) open: Option<OpenPack>,
    /// The number in `packs` of the open pack.
    open_number: u32,
    /// Numbers of `chunks`, by hash.
    table: HashTable<u32>,
    /// The numbers in `packs` of the packs of the index.
    known_numbers: Vec<u32>,
}

/// A chunk on its way from a run into the tables.
struct Taken<'a> {
    cut: Cut,
    raw: &'a [u8],
    hash: [u8; 32],
    known: Option<Place>,
    stored: Option<Bytes>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Writer({})", self.id)
    }
}

impl Writer {
    pub(super) fn new(
        store: Store,
        id: SnapshotId,
        options: WriteOptions,
        parent: Option<Last>,
        lease: Held,
        known: Arc<Known>,
    ) -> Self {
        let state = State {
            packs: Vec::new(),
            chunks: Vec::new(),
            overlay: Overlay::default(),
            open: None,
            open_number: UNUSED,
            table: HashTable::new(),
            known_numbers: vec![UNUSED; known.packs().len()],
        };
        Self {
            store,
            id,
            options,
            parent,
            lease,
            known,
            uploads: Arc::default(),
            state: Mutex::new(state),
            buffers: Arc::default(),
            counters: Counters::default(),
        }
    }

    /// Returns the id that the snapshot will have.
    pub fn id(&self) -> SnapshotId {
        self.id
    }

    /// Returns what was done so far.
    pub fn stats(&self) -> WriteStats {
        WriteStats {
            bytes_read: self.counters.bytes_read.load(Relaxed),
            bytes_stored: self.counters.bytes_stored.load(Relaxed),
            chunks: self.counters.chunks.load(Relaxed),
            deduped: self.counters.deduped.load(Relaxed),
            bytes_zero: self.counters.bytes_zero.load(Relaxed),
        }
    }

    pub(super) fn page_size(&self) -> PageSize {
        self.options.page_size
    }

    /// Takes the chunks among `cuts`.
    fn take_chunks(&self, cuts: &[(Cut, &[u8])]) -> Result<(), WriteError> {
        let mut taken: Vec<Taken<'_>> = cuts
            .iter()
            .map(|&(cut, raw)| {
                let hash = *blake3::hash(raw).as_bytes();
                let known = self.known.find(&hash);
                Taken {
                    cut,
                    raw,
                    hash,
                    known,
                    stored: None,
                }
            })
            .collect();
        let absent = {
            let state = lock(&self.state);
            let absent = |one: &Taken<'_>| one.known.is_none() && state.find(&one.hash).is_none();
            taken.iter().map(absent).collect::<Vec<_>>()
        };
        let mut new: Vec<_> = taken
            .iter_mut()
            .zip(absent)
            .filter_map(|(one, absent)| absent.then_some(one))
            .collect();
        let raw: Vec<&[u8]> = new.iter().map(|one| one.raw).collect();
        for (one, stored) in new.iter_mut().zip(self.buffers.compress(&raw)) {
            one.stored = Some(stored);
        }
        self.append(taken)
    }

    /// Enters chunks into the tables; those that are nowhere yet go to the open pack.
    fn append(&self, taken: Vec<Taken<'_>>) -> Result<(), WriteError> {
        let mut state = lock(&self.state);
        let (mut stored_bytes, mut deduped) = (0, 0);
        let chunks = taken.len() as u64;
        for one in taken {
            let number = match (state.find(&one.hash), one.known, one.stored) {
                (Some(number), ..) => {
                    deduped += 1;
                    number
                }
                (None, Some(place), _) => {
                    deduped += 1;
                    state.refer(&self.known, place, one.hash, one.cut.pages)
                }
                (None, None, stored) => {
                    // A hash that was in the table when we looked stays there.
                    let stored = stored.expect("chunks that are nowhere were compressed");
                    stored_bytes += stored.len() as u64;
                    state = self.make_room(state)?;
                    // Room is made without the lock: somebody may have stored the same chunk.
                    match state.find(&one.hash) {
                        Some(number) => number,
                        None => state.store(one.hash, one.cut.pages, one.raw.len(), stored),
                    }
                }
            };
            state.overlay.put(Extent {
                start: one.cut.start,
                pages: one.cut.pages,
                content: Content::Data {
                    chunk: number,
                    skip: 0,
                },
            });
        }
        drop(state);
        self.counters.bytes_stored.fetch_add(stored_bytes, Relaxed);
        self.counters.deduped.fetch_add(deduped, Relaxed);
        self.counters.chunks.fetch_add(chunks, Relaxed);
        Ok(())
    }

    /// Sees to it that a pack is open that is not full.
    fn make_room<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
    ) -> Result<MutexGuard<'a, State>, WriteError> {
        if let Some(full) = state.open.take_if(|open| open.len() >= PACK_BYTES) {
            self.uploads.start(&self.store.inner.backend, full.seal());
        }
        while state.open.is_none() {
            if self.uploads.has_room()? {
                let id = PackId::random(self.id).map_err(|_| WriteError::Random)?;
                state.open_number = number_of(state.packs.len());
                state.packs.push(id);
                state.open = Some(OpenPack::new(id));
            } else {
                drop(state);
                self.uploads.wait_for_room()?;
                state = lock(&self.state);
            }
        }
        Ok(state)
    }

    /// Notes that pages hold no data.
    fn put_plain(&self, range: PageRange, content: Content) {
        let shift = self.page_size().shift();
        let (mut start, end) = (range.start().0 >> shift, range.end().0 >> shift);
        let mut state = lock(&self.state);
        while start < end {
            let pages = u32::try_from(end - start).unwrap_or(u32::MAX);
            state.overlay.put(Extent {
                start,
                pages,
                content,
            });
            start += u64::from(pages);
        }
    }
}

impl PageSink for Writer {
    type Error = WriteError;

    fn put(&self, range: PageRange, bytes: &[u8]) -> Result<(), WriteError> {
        let page_size = self.page_size();
        let whole = range.start().is_aligned(page_size) && range.end().is_aligned(page_size);
        if !whole || range.len().0 != bytes.len() as u64 {
            return Err(WriteError::Shape {
                range,
                bytes: bytes.len(),
            });
        }
        let first = range.start().0 >> page_size.shift();
        let mut batch = Vec::with_capacity(CHUNKS_AT_ONCE);
        let mut zeros = 0;
        for cut in cut(range, bytes, page_size) {
            let offset = usize::try_from(cut.start - first).expect("within the buffer");
            let len = index(cut.pages) * page_size.as_usize();
            if cut.zeros {
                zeros += len as u64;
                let content = Content::Zeros;
                let (start, pages) = (cut.start, cut.pages);
                lock(&self.state).overlay.put(Extent {
                    start,
                    pages,
                    content,
                });
                continue;
            }
            batch.push((cut, &bytes[offset * page_size.as_usize()..][..len]));
            if batch.len() == CHUNKS_AT_ONCE {
                self.take_chunks(&batch)?;
                batch.clear();
            }
        }
        if !batch.is_empty() {
            self.take_chunks(&batch)?;
        }
        self.counters
            .bytes_read
            .fetch_add(bytes.len() as u64, Relaxed);
        self.counters.bytes_zero.fetch_add(zeros, Relaxed);
        Ok(())
    }

    fn put_zeros(&self, range: PageRange) -> Result<(), WriteError> {
        self.put_plain(range, Content::Zeros);
        Ok(())
    }

    fn discard(&self, range: PageRange) -> Result<(), WriteError> {
        self.put_plain(range, Content::Discarded);
        Ok(())
    }
}

impl State {
    /// Finds a chunk of the table by its hash.
    fn find(&self, hash: &[u8; 32]) -> Option<u32> {
        let same = |&number: &u32| self.chunks[index(number)].hash == *hash;
        self.table.find(bucket(hash), same).copied()
    }

    /// Enters a chunk that another pack of the store holds.
    fn refer(&mut self, known: &Known, place: Place, hash: [u8; 32], pages: u32) -> u32 {
        let mut pack = self.known_numbers[index(place.pack)];
        if pack == UNUSED {
            self.packs.push(known.packs()[index(place.pack)]);
            pack = number_of(self.packs.len() - 1);
            self.known_numbers[index(place.pack)] = pack;
        }
        self.enter(Chunk {
            hash,
            pack,
            offset: place.offset,
            stored: place.stored,
            pages: u8::try_from(pages).expect("a chunk has 16 pages at most"),
        })
    }

    /// Appends a chunk to the open pack and enters it.
    fn store(&mut self, hash: [u8; 32], pages: u32, raw: usize, stored: Bytes) -> u32 {
        let open = self.open.as_mut().expect("room was made before");
        let len = number_of(stored.len());
        let offset = open.append(hash, number_of(raw), stored);
        self.enter(Chunk {
            hash,
            pack: self.open_number,
            offset,
            stored: len,
            pages: u8::try_from(pages).expect("a chunk has 16 pages at most"),
        })
    }

    fn enter(&mut self, chunk: Chunk) -> u32 {
        let number = number_of(self.chunks.len());
        self.chunks.push(chunk);
        let chunks = &self.chunks;
        let rehash = |&number: &u32| bucket(&chunks[index(number)].hash);
        self.table
            .insert_unique(bucket(&chunk.hash), number, rehash);
        number
    }
}

fn bucket(hash: &[u8; 32]) -> u64 {
    let (first, _) = hash.split_first_chunk().expect("a hash has 32 bytes");
    u64::from_le_bytes(*first)
}
