//! Which page of a process is where: extents of pages over a table of chunks.
//!
//! A [`PageMap`] is either one layer (it may say that pages were discarded) or resolved, that is,
//! a layer laid over all its parents (it says only what is there). Both are immutable.

use std::{collections::HashMap, hash::BuildHasherDefault};

use space::{PageRange, PageSize, RangeSet, Vaddr};

use crate::{fetch::Wanted, id::PackId};

/// A chunk's place: its hash, the pack, and where in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// BLAKE3 of the raw bytes.
    pub hash: [u8; 32],
    /// Index in the map's table of packs.
    pub pack: u32,
    /// Byte offset in the pack.
    pub offset: u32,
    /// Stored bytes; equal to the raw length where the chunk is not compressed.
    pub stored: u32,
    /// Pages of the chunk, at least one.
    pub pages: u8,
}

/// What the pages of an extent hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Pages of a chunk, from its page `skip` on.
    Data {
        /// Index in the map's table of chunks.
        chunk: u32,
        /// Pages of the chunk in front of the extent's first.
        skip: u8,
    },
    /// Zeros.
    Zeros,
    /// Nothing: what a parent has there is gone. Only in a layer, never in a resolved map.
    Discarded,
}

/// Neighbouring pages with content of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first page's number: its address divided by the page size.
    pub start: u64,
    /// How many pages, at least one.
    pub pages: u32,
    /// What they hold.
    pub content: Content,
}

impl Extent {
    /// The number of the first page behind.
    pub fn end(&self) -> u64 {
        self.start + u64::from(self.pages)
    }

    /// Returns the part from page `start` up to page `end`, which must lie inside.
    pub(crate) fn part(&self, start: u64, end: u64) -> Self {
        debug_assert!(self.start <= start && start < end && end <= self.end());
        let content = match self.content {
            Content::Data { chunk, skip } => {
                let more = u8::try_from(start - self.start).expect("a chunk has 16 pages at most");
                let skip = skip + more;
                Content::Data { chunk, skip }
            }
            other => other,
        };
        let pages = u32::try_from(end - start).expect("a part is no longer than the whole");
        Self {
            start,
            pages,
            content,
        }
    }
}

/// The pages of one layer, or of a whole snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageMap {
    /// The page size that extents and chunks count in.
    pub page_size: PageSize,
    /// The packs that chunks lie in.
    pub packs: Vec<PackId>,
    /// The chunks that extents name.
    pub chunks: Vec<Chunk>,
    /// Sorted, disjoint.
    pub extents: Vec<Extent>,
}

impl PageMap {
    /// Makes a map of nothing.
    pub fn empty(page_size: PageSize) -> Self {
        Self {
            page_size,
            packs: Vec::new(),
            chunks: Vec::new(),
            extents: Vec::new(),
        }
    }

    /// Returns the extents that touch `range`, the first and the last not cut.
    pub fn touching(&self, range: PageRange) -> &[Extent] {
        let shift = self.page_size.shift();
        let (start, end) = (range.start().0 >> shift, range.end().0 >> shift);
        let first = self.extents.partition_point(|extent| extent.end() <= start);
        let behind = first + self.extents[first..].partition_point(|extent| extent.start < end);
        &self.extents[first..behind]
    }

    /// Returns the addresses of an extent of this map.
    pub(crate) fn addresses(&self, extent: &Extent) -> PageRange {
        page_range(extent.start, extent.end(), self.page_size)
    }

    /// Returns the addresses of all extents that `wanted` picks.
    pub(crate) fn ranges(&self, wanted: impl Fn(&Content) -> bool) -> RangeSet {
        let picked = self.extents.iter().filter(|extent| wanted(&extent.content));
        picked.map(|extent| self.addresses(extent)).collect()
    }

    /// Returns the raw length of a chunk of this map.
    pub(crate) fn raw_len(&self, chunk: &Chunk) -> usize {
        usize::from(chunk.pages) * self.page_size.as_usize()
    }

    /// Returns what is needed to get a chunk of this map.
    pub(crate) fn wanted(&self, chunk: &Chunk) -> Wanted {
        Wanted {
            pack: self.packs[index(chunk.pack)],
            chunk: *chunk,
            raw_len: self.raw_len(chunk),
        }
    }

    /// Lays `layer` over this resolved map; the result is resolved, and its tables name only what
    /// is used.
    #[must_use]
    pub(crate) fn overlaid(&self, layer: &Self) -> Self {
        let mut builder = Builder::new(self.page_size);
        let mut tables = (Renumber::new(self), Renumber::new(layer));
        let mut below = self.extents.iter().copied().peekable();
        let mut rest: Option<Extent> = None;
        for above in &layer.extents {
            while let Some(extent) = rest
                .take()
                .or_else(|| below.next_if(|e| e.start < above.end()))
            {
                if extent.start < above.start {
                    let end = extent.end().min(above.start);
                    builder.push(extent.part(extent.start, end), &mut tables.0);
                }
                if extent.end() > above.end() {
                    rest = Some(extent.part(extent.start.max(above.end()), extent.end()));
                    break;
                }
            }
            if above.content != Content::Discarded {
                builder.push(*above, &mut tables.1);
            }
        }
        for extent in rest.into_iter().chain(below) {
            builder.push(extent, &mut tables.0);
        }
        builder.map
    }

    /// Copies the map with tables that name only what its extents use, neighbours joined.
    #[must_use]
    pub(crate) fn compacted(&self) -> Self {
        let mut builder = Builder::new(self.page_size);
        let mut table = Renumber::new(self);
        for extent in &self.extents {
            builder.push(*extent, &mut table);
        }
        builder.map
    }
}

/// Turns page numbers into addresses.
///
/// # Panics
///
/// Panics on an empty range, or one past the end of the address space.
pub(crate) fn page_range(start: u64, end: u64, page_size: PageSize) -> PageRange {
    let shift = page_size.shift();
    PageRange::new(Vaddr(start << shift), Vaddr(end << shift)).expect("extents are never empty")
}

const UNUSED: u32 = u32::MAX;

/// The numbers that chunks and packs of one map get in another.
struct Renumber<'a> {
    from: &'a PageMap,
    chunks: Vec<u32>,
}

impl<'a> Renumber<'a> {
    fn new(from: &'a PageMap) -> Self {
        Self {
            from,
            chunks: vec![UNUSED; from.chunks.len()],
        }
    }
}

struct Builder {
    map: PageMap,
    packs: HashMap<PackId, u32, BuildHasherDefault<std::hash::DefaultHasher>>,
}

impl Builder {
    fn new(page_size: PageSize) -> Self {
        Self {
            map: PageMap::empty(page_size),
            packs: HashMap::default(),
        }
    }

    /// Appends an extent of another map; neighbours that continue each other become one.
    fn push(&mut self, mut extent: Extent, table: &mut Renumber<'_>) {
        if let Content::Data { chunk, .. } = &mut extent.content {
            *chunk = self.chunk(*chunk, table);
        }
        if let Some(last) = self.map.extents.last_mut()
            && last.end() == extent.start
            && let Some(pages) = last.pages.checked_add(extent.pages)
            && continues(last, &extent)
        {
            last.pages = pages;
            return;
        }
        self.map.extents.push(extent);
    }

    fn chunk(&mut self, number: u32, table: &mut Renumber<'_>) -> u32 {
        let slot = &mut table.chunks[index(number)];
        if *slot == UNUSED {
            let mut chunk = table.from.chunks[index(number)];
            let pack = table.from.packs[index(chunk.pack)];
            let packs = &mut self.map.packs;
            chunk.pack = *self.packs.entry(pack).or_insert_with(|| {
                packs.push(pack);
                number_of(packs.len() - 1)
            });
            self.map.chunks.push(chunk);
            *slot = number_of(self.map.chunks.len() - 1);
        }
        *slot
    }
}

/// Tells whether `next`, right behind `last`, goes on where that ends.
fn continues(last: &Extent, next: &Extent) -> bool {
    match (last.content, next.content) {
        (Content::Zeros, Content::Zeros) | (Content::Discarded, Content::Discarded) => true,
        (Content::Data { chunk: a, skip: i }, Content::Data { chunk: b, skip: j }) => {
            a == b && u32::from(i) + last.pages == u32::from(j)
        }
        _ => false,
    }
}

/// Turns a table's number into an index.
pub(crate) fn index(number: u32) -> usize {
    usize::try_from(number).expect("usize has 32 bits at least")
}

/// Turns an index of a table into its number.
pub(crate) fn number_of(index: usize) -> u32 {
    u32::try_from(index).expect("tables have fewer than 2^32 entries")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a page holds, for comparison: the pack, the chunk's offset and the page in it.
    type Page = Option<(PackId, u32, u64)>;

    fn map(seed: u8, extents: Vec<(u64, u32, u8)>) -> PageMap {
        let mut map = PageMap::empty(PageSize::new(4096).unwrap());
        map.packs = vec![PackId([seed; 16]), PackId([seed + 1; 16])];
        let mut at = 0;
        for (gap, pages, kind) in extents {
            at += gap;
            let content = match kind {
                0 => Content::Zeros,
                1 => Content::Discarded,
                _ => {
                    map.chunks.push(Chunk {
                        hash: [seed; 32],
                        pack: u32::from(kind % 2),
                        offset: number_of(map.chunks.len()),
                        stored: 10,
                        pages: 16,
                    });
                    let chunk = number_of(map.chunks.len() - 1);
                    Content::Data {
                        chunk,
                        skip: kind - 2,
                    }
                }
            };
            map.extents.push(Extent {
                start: at,
                pages,
                content,
            });
            at += u64::from(pages);
        }
        map
    }

    fn pages(map: &PageMap, into: &mut [Page]) {
        for extent in &map.extents {
            for page in extent.start..extent.end() {
                into[usize::try_from(page).unwrap()] = match extent.content {
                    Content::Zeros => Some((PackId([0; 16]), 0, 0)),
                    Content::Discarded => None,
                    Content::Data { chunk, skip } => {
                        let chunk = map.chunks[index(chunk)];
                        let at = u64::from(skip) + page - extent.start;
                        Some((map.packs[index(chunk.pack)], chunk.offset, at))
                    }
                };
            }
        }
    }

    fn extents(kinds: std::ops::Range<u8>) -> impl Strategy<Value = Vec<(u64, u32, u8)>> {
        let kind = kinds.prop_map(|kind| if kind == 9 { 1 } else { kind });
        prop::collection::vec((0u64..5, 1u32..8, kind), 0..20)
    }

    proptest! {
        #[test]
        fn a_layer_replaces_what_it_covers(
            below in extents(2..9),
            above in extents(0..9),
        ) {
            let (below, above) = (map(1, below), map(7, above));
            let mut want = vec![None; 300];
            pages(&below, &mut want);
            pages(&above, &mut want);
            let merged = below.overlaid(&above);
            let mut found = vec![None; 300];
            pages(&merged, &mut found);
            prop_assert_eq!(found, want);
            prop_assert!(merged.extents.windows(2).all(|two| two[0].end() <= two[1].start));
            prop_assert!(merged.extents.iter().all(|e| e.content != Content::Discarded));
            prop_assert_eq!(merged.compacted(), merged);
        }
    }

    #[test]
    fn touching_finds_the_extents_of_a_range() {
        let map = map(1, vec![(0, 4, 2), (2, 4, 0), (0, 4, 2)]);
        let found = |from, to| map.touching(page_range(from, to, map.page_size)).len();
        assert_eq!(
            [found(0, 4), found(4, 6), found(3, 7), found(0, 99)],
            [1, 0, 2, 3]
        );
    }
}
