//! A snapshot that was loaded: its description, and its pages when asked for.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex},
};

use space::{ByteLen, Errno, PageRange, PageSize, PageSource, RangeSet};

use crate::{
    error::ReadError,
    fetch::{Wanted, unpack_into},
    format::Manifest,
    id::SnapshotId,
    meta::{SnapshotMeta, Summary},
    page_map::{Chunk, Content, Extent, PageMap, index},
    store::{Store, lock},
};

/// Stored bytes asked for at a time: bounds memory, and keeps many requests under way.
const FETCH_BYTES: u64 = 4 << 20;
/// Chunks kept unpacked, for readers that take a page at a time.
const CACHED_CHUNKS: usize = 16;

/// A snapshot of a store.
///
/// Clones share everything. Reading takes `&self` and may be done from several threads.
#[derive(Clone)]
pub struct Snapshot {
    store: Store,
    shared: Arc<Shared>,
}

struct Shared {
    summary: Summary,
    meta: SnapshotMeta,
    layer: Arc<PageMap>,
    map: Arc<PageMap>,
    cache: Mutex<VecDeque<(u32, Arc<[u8]>)>>,
}

/// A piece of a read: where in the buffer, and what belongs there.
struct Piece {
    at: usize,
    len: usize,
    content: Content,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("summary", &self.shared.summary)
            .finish_non_exhaustive()
    }
}

impl Snapshot {
    pub(crate) fn new(store: Store, manifest: Manifest, map: Arc<PageMap>) -> Self {
        let shared = Shared {
            summary: manifest.head.summary,
            meta: manifest.meta,
            layer: manifest.layer,
            map,
            cache: Mutex::default(),
        };
        Self {
            store,
            shared: Arc::new(shared),
        }
    }

    /// Returns its id.
    pub fn id(&self) -> SnapshotId {
        self.shared.summary.id
    }

    /// Returns it in one line.
    pub fn summary(&self) -> &Summary {
        &self.shared.summary
    }

    /// Returns what it says of itself.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.shared.meta
    }

    /// Returns the size of its pages.
    pub fn page_size(&self) -> PageSize {
        self.shared.map.page_size
    }

    /// Returns what its own manifest says of pages: all of them if it is whole, else what changed
    /// since its parent.
    pub fn layer(&self) -> &PageMap {
        &self.shared.layer
    }

    /// Returns where each of its pages is, those of its parents included.
    pub fn map(&self) -> &PageMap {
        &self.shared.map
    }

    /// Returns the pages that it holds, zeros included.
    pub fn captured(&self) -> RangeSet {
        self.shared.map.ranges(|_| true)
    }

    /// Returns the pages that it holds as zeros: they take no room.
    pub fn zeros(&self) -> RangeSet {
        self.shared.map.ranges(|content| *content == Content::Zeros)
    }

    /// Reads the bytes of `ranges`, in order, into the start of `buf`. Stops before the first
    /// page that the snapshot does not hold, and returns how many bytes lie before it. Every byte
    /// is checked against its hash.
    ///
    /// # Errors
    ///
    /// [`ReadError::Chunk`] where stored bytes are damaged, and those of access.
    ///
    /// # Panics
    ///
    /// Panics if `buf` is shorter than the ranges.
    pub fn read_pages(&self, ranges: &[PageRange], buf: &mut [u8]) -> Result<ByteLen, ReadError> {
        let (pieces, len) = self.pieces(ranges);
        let mut rest: &[Piece] = &pieces;
        while !rest.is_empty() {
            let (batch, behind) = rest.split_at(self.batch(rest));
            self.read_batch(batch, buf)?;
            rest = behind;
        }
        Ok(ByteLen(len as u64))
    }

    /// Cuts ranges into pieces with one content each, up to the first missing page.
    fn pieces(&self, ranges: &[PageRange]) -> (Vec<Piece>, usize) {
        let map = &*self.shared.map;
        let shift = map.page_size.shift();
        let mut pieces = Vec::new();
        let mut at = 0;
        for range in ranges {
            let (mut page, end) = (range.start().0 >> shift, range.end().0 >> shift);
            for extent in map.touching(*range) {
                if extent.start > page {
                    break;
                }
                let part = extent.part(page, extent.end().min(end));
                let len = ByteLen(u64::from(part.pages) << shift).as_usize();
                let content = part.content;
                pieces.push(Piece { at, len, content });
                at += len;
                page = part.end();
            }
            if page < end {
                break;
            }
        }
        (pieces, at)
    }

    /// Tells how many pieces to read at once.
    fn batch(&self, pieces: &[Piece]) -> usize {
        let mut bytes = 0;
        let fitting = pieces.iter().take_while(|piece| {
            let before = bytes;
            if let Content::Data { chunk, .. } = piece.content {
                bytes += u64::from(self.shared.map.chunks[index(chunk)].stored);
            }
            before == 0 || bytes <= FETCH_BYTES
        });
        fitting.count()
    }

    fn read_batch(&self, pieces: &[Piece], buf: &mut [u8]) -> Result<(), ReadError> {
        let mut missing: Vec<u32> = Vec::new();
        let mut kept = self.cached();
        for piece in pieces {
            match piece.content {
                Content::Data { chunk, .. } if !kept.contains_key(&chunk) => missing.push(chunk),
                Content::Data { .. } => {}
                Content::Zeros | Content::Discarded => buf[piece.at..][..piece.len].fill(0),
            }
        }
        missing.sort_unstable();
        missing.dedup();
        let wanted: Vec<Wanted> = missing.iter().map(|&chunk| self.wanted(chunk)).collect();
        let stored = self.store.inner.fetch(&wanted)?;
        for piece in pieces {
            let Content::Data { chunk, skip } = piece.content else {
                continue;
            };
            let out = &mut buf[piece.at..][..piece.len];
            let raw_len = self.shared.map.raw_len(self.chunk(chunk));
            if let Ok(number) = missing.binary_search(&chunk)
                && !kept.contains_key(&chunk)
            {
                if out.len() == raw_len {
                    unpack_into(&wanted[number], &stored[number], out)?;
                    continue;
                }
                let mut raw = vec![0; raw_len];
                unpack_into(&wanted[number], &stored[number], &mut raw)?;
                let raw: Arc<[u8]> = raw.into();
                self.cache(chunk, &raw);
                kept.insert(chunk, raw);
            }
            let from = usize::from(skip) << self.page_size().shift();
            out.copy_from_slice(&kept[&chunk][from..][..out.len()]);
        }
        Ok(())
    }

    fn chunk(&self, number: u32) -> &Chunk {
        &self.shared.map.chunks[index(number)]
    }

    fn wanted(&self, number: u32) -> Wanted {
        self.shared.map.wanted(self.chunk(number))
    }

    fn cached(&self) -> HashMap<u32, Arc<[u8]>> {
        lock(&self.shared.cache).iter().cloned().collect()
    }

    fn cache(&self, chunk: u32, raw: &Arc<[u8]>) {
        let mut cache = lock(&self.shared.cache);
        if cache.len() == CACHED_CHUNKS {
            cache.pop_front();
        }
        cache.push_back((chunk, Arc::clone(raw)));
    }

    /// Tells what names the content of an extent of this snapshot: equal names, equal content.
    pub(crate) fn identity(&self, extent: &Extent) -> Option<([u8; 32], u8)> {
        match extent.content {
            Content::Data { chunk, skip } => Some((self.chunk(chunk).hash, skip)),
            Content::Zeros | Content::Discarded => None,
        }
    }
}

impl PageSource for Snapshot {
    /// Reads pages; see [`Snapshot::read_pages`]. Damage and failed access give [`Errno::EIO`].
    fn read(&self, ranges: &[PageRange], buf: &mut [u8]) -> Result<ByteLen, Errno> {
        let read = self.read_pages(ranges, buf).map_err(|_| Errno::EIO)?;
        if read.0 == 0 && !ranges.is_empty() {
            return Err(Errno::EFAULT);
        }
        Ok(read)
    }
}
