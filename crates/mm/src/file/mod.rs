//! Files in memory: memfds, shared anonymous memory and hugetlbfs, with the page cache that is
//! all there is of them.
//!
//! The general part is here; [`shmem`] says what is particular to memory in base pages,
//! [`hugetlb`] what is to pools of huge pages.
//!
//! Linux reference: 6.18, `mm/shmem.c`, `mm/filemap.c`, `fs/hugetlbfs/inode.c`, `mm/memfd.c`.

pub mod hugetlb;
pub mod shmem;

use std::collections::BTreeMap;

use crate::entry::SwapSlot;
use crate::folio::{Owner, Pfn};
use crate::machine::World;

/// The number of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId(pub u32);

impl FileId {
    fn index(self) -> usize {
        usize::try_from(self.0).expect("an index of a file fits usize")
    }
}

/// Where a page of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cached {
    /// In this frame.
    Page(Pfn),
    /// On a swap device.
    Swap(SwapSlot),
}

/// What kind of file it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// tmpfs, in base pages.
    Shmem,
    /// hugetlbfs.
    Hugetlb(hugetlb::HugeFile),
}

/// A file in memory.
#[derive(Clone, Debug)]
pub struct File {
    /// Its number.
    pub id: FileId,
    /// Its kind.
    pub kind: FileKind,
    /// What `maps` calls it.
    pub name: String,
    /// Its size in bytes (`i_size`).
    pub size: u64,
    /// `F_SEAL_*`.
    pub seals: u32,
    /// Its pages by page offset (of a hugetlb file: in base pages, only the first of each).
    pub pages: BTreeMap<u64, Cached>,
    /// Descriptors and mappings.
    refs: u32,
}

impl File {
    /// Base-two logarithm of its pages' size.
    pub fn page_shift(&self, base: u32) -> u32 {
        match &self.kind {
            FileKind::Shmem => base,
            FileKind::Hugetlb(huge) => huge.shift,
        }
    }

    /// Tells whether it is of hugetlbfs.
    pub fn is_hugetlb(&self) -> bool {
        matches!(self.kind, FileKind::Hugetlb(_))
    }

    /// The frame of a page that is in memory.
    pub fn page(&self, index: u64) -> Option<Pfn> {
        match self.pages.get(&index)? {
            Cached::Page(pfn) => Some(*pfn),
            Cached::Swap(_) => None,
        }
    }

    /// The last reference is gone: gives back all that the file had.
    pub(crate) fn release(self, world: &mut World) {
        for (&index, &cached) in &self.pages {
            drop_cached(world, index, cached);
        }
        if let FileKind::Hugetlb(huge) = self.kind {
            let pages = u64::try_from(self.pages.len()).expect("a count fits");
            hugetlb::release(world, huge, pages);
        }
    }
}

/// Gives back what the page cache held of one page that was taken out of it.
///
/// A folio of several pages is there under each of their offsets, and leaves with the first.
pub(crate) fn drop_cached(world: &mut World, index: u64, cached: Cached) {
    match cached {
        Cached::Swap(slot) => crate::swap::put(world, slot),
        Cached::Page(pfn) => {
            let folio = world.frames.folio_mut(pfn);
            if !matches!(folio.owner, Owner::File { index: own, .. } if own == index) {
                return;
            }
            let references = folio.cache_references();
            folio.owner = Owner::Kernel;
            world.frames.put(pfn, references);
        }
    }
}

/// Clears the bytes `start..end` of a folio, counted from its first frame on.
pub(crate) fn clear_bytes(world: &mut World, pfn: Pfn, start: u64, end: u64) {
    let page_size = world.page_size();
    let size = world.frames.page_size();
    let narrow = |bytes: u64| usize::try_from(bytes).expect("a page fits usize");
    let mut at = start;
    while at < end {
        let page = at >> world.page_shift();
        let offset = at & (page_size - 1);
        let len = (page_size - offset).min(end - at);
        let content = &mut world.frames.frame_mut(pfn.plus(page)).content;
        content.fill(narrow(offset), narrow(len), 0, size);
        at += len;
    }
}

/// All files of a machine.
#[derive(Clone, Debug, Default)]
pub struct Files {
    list: Vec<Option<File>>,
    /// What is promised to private mappings of hugetlb.
    pub(crate) reserves: hugetlb::reserve::Reserves,
}

impl Files {
    /// Makes a file with one reference.
    pub(crate) fn create(&mut self, kind: FileKind, name: String, size: u64) -> FileId {
        let id = FileId(u32::try_from(self.list.len()).expect("files are counted in 32 bits"));
        self.list.push(Some(File {
            id,
            kind,
            name,
            size,
            seals: 0,
            pages: BTreeMap::new(),
            refs: 1,
        }));
        id
    }

    /// A file that somebody has a reference of.
    #[inline]
    pub fn get(&self, id: FileId) -> &File {
        self.list[id.index()]
            .as_ref()
            .expect("a referenced file is there")
    }

    /// A file that somebody has a reference of, to be changed.
    #[inline]
    pub fn get_mut(&mut self, id: FileId) -> &mut File {
        self.list[id.index()]
            .as_mut()
            .expect("a referenced file is there")
    }

    /// Takes one more reference.
    pub(crate) fn get_ref(&mut self, id: FileId) {
        self.get_mut(id).refs += 1;
    }

    /// Gives a reference back; with the last one, hands out the file.
    pub(crate) fn put_ref(&mut self, id: FileId) -> Option<File> {
        let file = self.get_mut(id);
        file.refs -= 1;
        if file.refs > 0 {
            return None;
        }
        self.list[id.index()].take()
    }

    /// All files.
    pub fn iter(&self) -> impl Iterator<Item = &File> {
        self.list.iter().flatten()
    }
}

impl File {
    /// How many descriptors and mappings refer to it.
    pub fn refs(&self) -> u32 {
        self.refs
    }
}
