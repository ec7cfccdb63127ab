//! Comparing what was put with what the memory holds: the check behind `--verify`.

use space::{PageRange, PageSize, RangeSet};

use super::{cut::is_zero, put::Writer};
use crate::{
    error::ReadError,
    fetch::{Wanted, unpack_into},
    id::PackId,
    page_map::{Chunk, Content, Extent, PageMap, index, page_range},
    store::lock,
};

/// A part of the range, and where its content is.
enum Part {
    /// Nothing was put, or it was discarded.
    Absent,
    Zeros,
    Data {
        wanted: Wanted,
        skip: u8,
    },
}

impl Writer {
    /// Compares `bytes` with what was put for the pages of `range`, or is in the parents where
    /// nothing was put, and returns the pages that differ. A page that the snapshot would not
    /// hold differs. A chunk that is compared whole is compared by its hash.
    ///
    /// # Errors
    ///
    /// Those of reading what is compared.
    ///
    /// # Panics
    ///
    /// Panics if `bytes` is not as long as `range`.
    pub fn differs(&self, range: PageRange, bytes: &[u8]) -> Result<Vec<PageRange>, ReadError> {
        assert_eq!(
            range.len().0,
            bytes.len() as u64,
            "as many bytes as the pages have"
        );
        let page_size = self.page_size();
        let first = range.start().0 >> page_size.shift();
        let mut differing = RangeSet::new();
        for (start, end, part) in self.parts(range) {
            let offset = usize::try_from(start - first).expect("within the buffer");
            let pages = usize::try_from(end - start).expect("within the buffer");
            let page = page_size.as_usize();
            let bytes = &bytes[offset * page..][..pages * page];
            let same: Box<dyn Fn(usize) -> bool> = match part {
                Part::Absent => Box::new(|_| false),
                Part::Zeros => Box::new(|number| is_zero(&bytes[number * page..][..page])),
                Part::Data { wanted, skip } => {
                    let whole = skip == 0 && usize::from(wanted.chunk.pages) == pages;
                    if whole && *blake3::hash(bytes).as_bytes() == wanted.chunk.hash {
                        continue;
                    }
                    let raw = self.chunk_content(&wanted)?;
                    let raw = raw[usize::from(skip) * page..][..bytes.len()].to_vec();
                    Box::new(move |number| {
                        raw[number * page..][..page] == bytes[number * page..][..page]
                    })
                }
            };
            for number in (0..pages).filter(|&number| !same(number)) {
                let at = start + number as u64;
                differing.insert(page_range(at, at + 1, page_size));
            }
        }
        Ok(differing.ranges().to_vec())
    }

    /// Cuts a range into parts with one content each, in order.
    fn parts(&self, range: PageRange) -> Vec<(u64, u64, Part)> {
        let shift = self.page_size().shift();
        let (mut at, end) = (range.start().0 >> shift, range.end().0 >> shift);
        let mut parts = Vec::new();
        let state = lock(&self.state);
        for extent in state.overlay.parts(at, end) {
            self.parent_parts(at, extent.start, &mut parts);
            let part = part_of(&extent, &state.packs, &state.chunks, self.page_size());
            parts.push((extent.start, extent.end(), part));
            at = extent.end();
        }
        self.parent_parts(at, end, &mut parts);
        parts
    }

    /// As [`parts`](Self::parts), for pages of which this writer took nothing.
    fn parent_parts(&self, mut at: u64, end: u64, parts: &mut Vec<(u64, u64, Part)>) {
        if at == end {
            return;
        }
        let parent: Option<&PageMap> = self.parent.as_ref().map(|parent| &*parent.map);
        let range = page_range(at, end, self.page_size());
        for extent in parent.map_or(&[][..], |map| map.touching(range)) {
            let extent = extent.part(extent.start.max(at), extent.end().min(end));
            if at < extent.start {
                parts.push((at, extent.start, Part::Absent));
            }
            let part = parent.map(|map| part_of(&extent, &map.packs, &map.chunks, map.page_size));
            parts.push((extent.start, extent.end(), part.unwrap_or(Part::Absent)));
            at = extent.end();
        }
        if at < end {
            parts.push((at, end, Part::Absent));
        }
    }

    /// Reads a chunk, from memory if its pack is not uploaded yet.
    fn chunk_content(&self, wanted: &Wanted) -> Result<Vec<u8>, ReadError> {
        let offset = wanted.chunk.offset;
        let open = {
            let state = lock(&self.state);
            let open = state.open.as_ref().filter(|open| open.id == wanted.pack);
            open.and_then(|open| open.stored(offset))
        };
        let under_way = || self.uploads.under_way(wanted.pack)?.stored(offset);
        let stored = match open.or_else(under_way) {
            Some(stored) => stored,
            None => self
                .store
                .inner
                .fetch(&[*wanted])?
                .pop()
                .unwrap_or_default(),
        };
        let mut raw = vec![0; wanted.raw_len];
        unpack_into(wanted, &stored, &mut raw)?;
        Ok(raw)
    }
}

fn part_of(extent: &Extent, packs: &[PackId], chunks: &[Chunk], page_size: PageSize) -> Part {
    match extent.content {
        Content::Zeros => Part::Zeros,
        Content::Discarded => Part::Absent,
        Content::Data { chunk, skip } => {
            let chunk = chunks[index(chunk)];
            let wanted = Wanted {
                pack: packs[index(chunk.pack)],
                chunk,
                raw_len: usize::from(chunk.pages) * page_size.as_usize(),
            };
            Part::Data { wanted, skip }
        }
    }
}
