//! Folios and the frames they are made of: what Linux keeps in `struct page` and `struct folio`.
//!
//! A [`Frame`] is a base page: its bytes, how often entries of the lowest level map it, and the
//! per-page marks `PageAnonExclusive` and `PageHWPoison`. A [`Folio`] is one or more frames that
//! live and die together: it has the reference count, the owner and all other flags. References
//! are counted as the kernel does: one for each mapping, one for each page that the page cache
//! holds, one for the swap cache, one for each plain pin (`FOLL_GET`) and
//! [`PIN_BIAS`] for each `FOLL_PIN` of a single page.
//!
//! Linux reference: 6.18, `include/linux/mm_types.h`, `mm/rmap.c` (`__folio_add_rmap`,
//! `__folio_remove_rmap`), `include/linux/rmap.h` (`folio_try_dup_anon_rmap_pte`), `mm/gup.c`.

mod content;

#[cfg(test)]
mod tests;

use bitflags::bitflags;

pub use content::Content;

use crate::file::FileId;
use crate::file::hugetlb::pool::Pools;
use crate::vma::AnonVmaId;

/// A page frame's number: an index of the machine's frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pfn(pub u32);

impl Pfn {
    /// Makes a number out of an entry's field; what does not fit is the highest number.
    pub(crate) fn narrow(field: u64) -> Self {
        Self(u32::try_from(field).unwrap_or(u32::MAX))
    }

    /// The frame `pages` further on.
    #[must_use]
    pub fn plus(self, pages: u64) -> Self {
        Self::narrow(u64::from(self.0) + pages)
    }

    fn index(self) -> usize {
        usize::try_from(self.0).expect("an index of a frame fits usize")
    }
}

/// What one `FOLL_PIN` adds to the reference count of a folio of one page.
pub const PIN_BIAS: u32 = 1 << 10;

bitflags! {
    /// Marks of one frame.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct FrameFlags: u8 {
        /// `PageAnonExclusive`: only the process that maps it may have it.
        const EXCLUSIVE = 1;
        /// `PageHWPoison`: the memory is broken.
        const HWPOISON = 1 << 1;
    }
}

bitflags! {
    /// Marks of a folio.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct FolioFlags: u16 {
        /// Was written, so that it can't be dropped.
        const DIRTY = 1;
        /// `MADV_FREE`: an anonymous folio that may be dropped while it is clean
        /// (`swapbacked` is clear).
        const LAZYFREE = 1 << 1;
        /// Has a place in the swap cache.
        const SWAPCACHE = 1 << 2;
        /// Belongs to a hugetlb pool.
        const HUGETLB = 1 << 3;
        /// Holds data; a hugetlb folio that came by a failed copy does not.
        const UPTODATE = 1 << 4;
        /// `PG_mlocked` that outlives the lock of a mapping; locked mappings speak for themselves.
        const MLOCKED = 1 << 5;
        /// A hugetlb folio that took its pool's reservation of the mapping
        /// (`hugetlb_restore_reserve`).
        const RESERVED = 1 << 6;
    }
}

/// Whose a folio is: `folio->mapping` and `folio->index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Nobody's: free, or the kernel's (the zero page, or taken from a file by truncation).
    Kernel,
    /// Private memory of those who map it.
    Anon {
        /// The family of mappings that may map it.
        anon_vma: AnonVmaId,
        /// Its page offset in mappings: `linear_page_index`.
        index: u64,
    },
    /// A page of a file.
    File {
        /// The file.
        file: FileId,
        /// Its page offset in the file.
        index: u64,
    },
}

/// The number of a folio.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FolioId(u32);

impl FolioId {
    fn index(self) -> usize {
        usize::try_from(self.0).expect("an index of a folio fits usize")
    }
}

/// A base page.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its bytes.
    pub content: Content,
    /// How many entries of the lowest level map it.
    pub mapcount: u32,
    /// Its marks.
    pub flags: FrameFlags,
    folio: FolioId,
}

/// One or more base pages that are kept together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folio {
    /// The first frame.
    pub first: Pfn,
    /// Base-two logarithm of the number of frames.
    pub order: u8,
    /// Its marks.
    pub flags: FolioFlags,
    /// References of every kind.
    pub refcount: u32,
    /// Mappings of every kind (`_large_mapcount` and its like for one page).
    pub mapcount: u32,
    /// Mappings as a whole by one huge entry.
    pub entire_mapcount: u32,
    /// `FOLL_PIN` pins of a folio of several pages (of one page: see [`PIN_BIAS`]).
    pub pincount: u32,
    /// Whose it is.
    pub owner: Owner,
}

impl Folio {
    /// How many frames it has.
    pub fn pages(&self) -> u64 {
        1 << self.order
    }

    /// Tells whether it is private memory (`folio_test_anon`).
    pub fn is_anon(&self) -> bool {
        matches!(self.owner, Owner::Anon { .. })
    }

    /// References that the page cache holds: one for each page, but one for all of hugetlb.
    pub fn cache_references(&self) -> u32 {
        if self.flags.contains(FolioFlags::HUGETLB) {
            1
        } else {
            1 << self.order
        }
    }

    /// `folio_maybe_dma_pinned`: may be wrong where very many plain references are held.
    pub fn maybe_pinned(&self) -> bool {
        match self.order {
            0 => self.refcount >= PIN_BIAS,
            _ => self.pincount > 0,
        }
    }
}

/// All memory of a machine.
#[derive(Clone, Debug)]
pub struct Frames {
    frames: Vec<Frame>,
    folios: Vec<Folio>,
    /// Numbers of folios that nobody uses.
    folios_free: Vec<FolioId>,
    /// First frames of free blocks, by order. Free blocks are neither split nor joined: memory is
    /// plenty, and where a page lies can't be seen but by who may read frame numbers.
    blocks_free: Vec<Vec<Pfn>>,
    /// The hugetlb pools: a freed huge page goes back to one of them.
    pub pools: Pools,
    page_size: usize,
    in_use: u64,
    had_huge: bool,
}

/// The page of zeros that reads of untouched memory map.
pub const ZERO_PFN: Pfn = Pfn(0);

impl Frames {
    /// Makes memory in which only the zero page is taken.
    pub fn new(page_size: usize) -> Self {
        let mut frames = Self {
            frames: Vec::new(),
            folios: Vec::new(),
            folios_free: Vec::new(),
            blocks_free: Vec::new(),
            pools: Pools::default(),
            page_size,
            in_use: 0,
            had_huge: false,
        };
        let zero = frames.alloc(0, Owner::Kernel);
        assert_eq!(zero, ZERO_PFN, "the zero page is the first");
        frames
    }

    /// How many frames are taken, the zero page included.
    pub fn in_use(&self) -> u64 {
        self.in_use
    }

    /// Copies bytes of a frame to another one, or within it, from the first to the last one: what was
    /// copied onto bytes that are still to be read is copied again (`rep movsb` of `copy_user_generic`).
    pub(crate) fn copy_bytes(
        &mut self,
        (from, start): (Pfn, usize),
        (to, target): (Pfn, usize),
        len: usize,
    ) {
        let mut bytes = vec![0; len];
        self.frame(from).content.read(start, &mut bytes);
        if from == to && start < target {
            let distance = target - start;
            for at in distance..len {
                bytes[at] = bytes[at - distance];
            }
        }
        let size = self.page_size;
        self.frame_mut(to).content.write(target, &bytes, size);
    }

    /// Tells whether a folio of more than one frame was ever made.
    pub fn had_huge(&self) -> bool {
        self.had_huge
    }

    /// The size of a frame in bytes.
    pub fn page_size(&self) -> usize {
        self.page_size
    }

    /// Takes `1 << order` neighbouring frames of zeros, aligned to their number, with one
    /// reference.
    pub fn alloc(&mut self, order: u8, owner: Owner) -> Pfn {
        let first = self.take_block(order);
        let folio = self.new_folio(first, order, owner);
        let count = 1_u64 << order;
        for page in 0..count {
            let frame = &mut self.frames[first.plus(page).index()];
            frame.folio = folio;
        }
        self.in_use += count;
        self.had_huge |= order > 0;
        first
    }

    fn new_folio(&mut self, first: Pfn, order: u8, owner: Owner) -> FolioId {
        let folio = Folio {
            first,
            order,
            flags: FolioFlags::UPTODATE,
            refcount: 1,
            mapcount: 0,
            entire_mapcount: 0,
            pincount: 0,
            owner,
        };
        if let Some(id) = self.folios_free.pop() {
            self.folios[id.index()] = folio;
            return id;
        }
        self.folios.push(folio);
        FolioId(u32::try_from(self.folios.len() - 1).expect("folios are counted in 32 bits"))
    }

    fn take_block(&mut self, order: u8) -> Pfn {
        let order_at = usize::from(order);
        if self.blocks_free.len() <= order_at {
            self.blocks_free.resize(order_at + 1, Vec::new());
        }
        if let Some(first) = self.blocks_free[order_at].pop() {
            return first;
        }
        let count = 1_usize << order;
        let first = self.frames.len().next_multiple_of(count);
        let hole = self.frames.len()..first;
        self.frames.resize(
            first + count,
            Frame {
                content: Content::ZERO,
                mapcount: 0,
                flags: FrameFlags::empty(),
                folio: FolioId(0),
            },
        );
        for frame in hole {
            let pfn = u32::try_from(frame).expect("frames are counted in 32 bits");
            self.blocks_free[0].push(Pfn(pfn));
        }
        Pfn(u32::try_from(first).expect("frames are counted in 32 bits"))
    }

    /// The frame of a number.
    #[inline]
    pub fn frame(&self, pfn: Pfn) -> &Frame {
        &self.frames[pfn.index()]
    }

    /// The frame of a number, to be changed.
    #[inline]
    pub fn frame_mut(&mut self, pfn: Pfn) -> &mut Frame {
        &mut self.frames[pfn.index()]
    }

    /// The folio that a frame belongs to.
    #[inline]
    pub fn folio(&self, pfn: Pfn) -> &Folio {
        &self.folios[self.frames[pfn.index()].folio.index()]
    }

    /// The folio that a frame belongs to, to be changed.
    #[inline]
    pub fn folio_mut(&mut self, pfn: Pfn) -> &mut Folio {
        &mut self.folios[self.frames[pfn.index()].folio.index()]
    }

    /// Takes `count` references (`folio_ref_add`).
    pub fn get(&mut self, pfn: Pfn, count: u32) {
        self.folio_mut(pfn).refcount += count;
    }

    /// Gives `count` references back (`folio_put_refs`), and frees the folio with the last.
    pub fn put(&mut self, pfn: Pfn, count: u32) {
        let folio = self.folio_mut(pfn);
        assert!(folio.refcount >= count, "a reference is given back once");
        folio.refcount -= count;
        if folio.refcount == 0 {
            self.free(pfn);
        }
    }

    fn free(&mut self, pfn: Pfn) {
        let id = self.frames[pfn.index()].folio;
        let folio = &self.folios[id.index()];
        assert_eq!(folio.mapcount, 0, "a mapped folio is referenced");
        let (first, order) = (folio.first, folio.order);
        let mut broken = false;
        for page in 0..folio.pages() {
            let frame = &mut self.frames[first.plus(page).index()];
            frame.content = Content::ZERO;
            broken |= frame.flags.contains(FrameFlags::HWPOISON);
            frame.flags = FrameFlags::empty();
        }
        let folio = &mut self.folios[id.index()];
        self.in_use -= folio.pages();
        if folio.flags.contains(FolioFlags::HUGETLB) {
            let restores = folio.flags.contains(FolioFlags::RESERVED);
            self.pools.free(order, restores);
        }
        folio.owner = Owner::Kernel;
        self.folios_free.push(id);
        if !broken {
            self.blocks_free[usize::from(order)].push(first);
        }
    }

    /// `folio_add_file_rmap_pte` and its like: counts one more entry that maps this page. The
    /// reference that goes with it is the caller's.
    pub fn add_rmap(&mut self, pfn: Pfn) {
        self.frame_mut(pfn).mapcount += 1;
        self.folio_mut(pfn).mapcount += 1;
    }

    /// `folio_remove_rmap_pte`: counts one entry less.
    pub fn remove_rmap(&mut self, pfn: Pfn) {
        let frame = self.frame_mut(pfn);
        frame.mapcount = frame
            .mapcount
            .checked_sub(1)
            .expect("a mapped page is counted");
        let folio = self.folio_mut(pfn);
        folio.mapcount = folio
            .mapcount
            .checked_sub(1)
            .expect("a mapped folio is counted");
    }

    /// `folio_add_anon_rmap_pmd`, `hugetlb_add_file_rmap`: counts one more huge entry.
    pub fn add_rmap_entire(&mut self, pfn: Pfn) {
        let folio = self.folio_mut(pfn);
        folio.entire_mapcount += 1;
        folio.mapcount += 1;
    }

    /// `folio_remove_rmap_pmd`: counts one huge entry less.
    pub fn remove_rmap_entire(&mut self, pfn: Pfn) {
        let folio = self.folio_mut(pfn);
        let less = |count: u32| count.checked_sub(1).expect("a mapped folio is counted");
        folio.entire_mapcount = less(folio.entire_mapcount);
        folio.mapcount = less(folio.mapcount);
    }

    /// Tells whether the page is marked as the property of one process. Where a huge entry maps
    /// the whole folio, the mark is on its first page.
    pub fn is_exclusive(&self, pfn: Pfn) -> bool {
        let folio = self.folio(pfn);
        let marked = if folio.entire_mapcount > 0 {
            folio.first
        } else {
            pfn
        };
        self.frame(marked).flags.contains(FrameFlags::EXCLUSIVE)
    }

    /// Sets or takes the mark of the page.
    pub fn set_exclusive(&mut self, pfn: Pfn, exclusive: bool) {
        self.frame_mut(pfn)
            .flags
            .set(FrameFlags::EXCLUSIVE, exclusive);
    }

    /// Copies the bytes of one frame to another.
    pub fn copy(&mut self, from: Pfn, to: Pfn) {
        self.frames[to.index()].content = self.frames[from.index()].content.clone();
    }

    /// Pins a page (`FOLL_PIN`). The zero page is not counted.
    pub fn pin(&mut self, pfn: Pfn) {
        if pfn == ZERO_PFN {
            return;
        }
        let folio = self.folio_mut(pfn);
        if folio.order == 0 {
            folio.refcount += PIN_BIAS;
        } else {
            folio.refcount += 1;
            folio.pincount += 1;
        }
    }

    /// Gives a pin back.
    pub fn unpin(&mut self, pfn: Pfn) {
        if pfn == ZERO_PFN {
            return;
        }
        let folio = self.folio_mut(pfn);
        if folio.order == 0 {
            self.put(pfn, PIN_BIAS);
        } else {
            folio.pincount -= 1;
            self.put(pfn, 1);
        }
    }

    /// `__folio_split`: makes each page of a folio one of its own. References beyond the
    /// mappings go to the first; the caller sets the references of the others and the owners.
    pub fn split(&mut self, pfn: Pfn) {
        let folio = self.folio(pfn).clone();
        for page in 1..folio.pages() {
            let at = folio.first.plus(page);
            let owner = match folio.owner {
                Owner::Kernel => Owner::Kernel,
                Owner::Anon { anon_vma, index } => Owner::Anon {
                    anon_vma,
                    index: index + page,
                },
                Owner::File { file, index } => Owner::File {
                    file,
                    index: index + page,
                },
            };
            let id = self.new_folio(at, 0, owner);
            self.frames[at.index()].folio = id;
            let mapcount = self.frames[at.index()].mapcount;
            let tail = &mut self.folios[id.index()];
            tail.flags = folio.flags;
            tail.mapcount = mapcount;
            tail.refcount = mapcount;
        }
        let mapcount = self.frame(folio.first).mapcount;
        let head = self.folio_mut(folio.first);
        head.order = 0;
        head.refcount = folio.refcount - (folio.mapcount - mapcount);
        head.mapcount = mapcount;
    }

    /// Each folio that is in use, by its first frame.
    pub fn folios(&self) -> impl Iterator<Item = &Folio> {
        self.folios.iter().filter(|folio| folio.refcount > 0)
    }
}
