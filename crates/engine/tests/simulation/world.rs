//! A process's memory as the kernel keeps it, small and simple: one number stands for a page's
//! content. The application's steps are here; what the engine may ask is in `fake`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use space::{
    ByteLen, Mapping, MappingFlags, PageFlags, PageRange, PageSize, Protection, RangeSet, Sharing,
    Tracking, Vaddr,
};

use crate::rng::Rng;

/// Not 4 KiB, which nothing may take for granted; and all memory together is some batches.
pub(crate) const PAGE: u64 = 16384;
/// The address space, in pages.
pub(crate) const FIRST: u64 = 16;
pub(crate) const END: u64 = 176;
/// All of it.
pub(crate) const ALL: ByteLen = ByteLen((END - FIRST) * PAGE);
const FILES: usize = 3;
const FILE_PAGES: u64 = 64;

pub(crate) fn range(start: u64, end: u64) -> PageRange {
    PageRange::new(Vaddr(start * PAGE), Vaddr(end * PAGE)).unwrap()
}

/// Writes the number of a page to its first and its last word; the rest does not matter.
pub(crate) fn fill(bytes: &mut [u8], number: u64) {
    let end = bytes.len();
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[end - 8..].copy_from_slice(&number.to_le_bytes());
}

/// The number of a page.
pub(crate) fn number_of(bytes: &[u8]) -> u64 {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!(word(0), word(bytes.len() - 8), "a torn page");
    word(0)
}

/// What stands behind a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backing {
    Anonymous,
    /// A file, and the file's page at address 0.
    File {
        file: usize,
        origin: u64,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Vma {
    pub(crate) end: u64,
    pub(crate) backing: Backing,
    pub(crate) sharing: Sharing,
    pub(crate) flags: MappingFlags,
    /// The flags as the kernel's files told them last.
    pub(crate) shown: MappingFlags,
    pub(crate) tracked: bool,
    /// Can't be tracked, for no reason that shows.
    pub(crate) stubborn: bool,
    pub(crate) soft_dirty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// The process's own page.
    Own(u64),
    /// The shared page of zeros.
    Zero,
    /// The file's page.
    File,
    /// Nothing but a remembered protection.
    Marker,
    Guard,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Pte {
    pub(crate) content: Content,
    pub(crate) swapped: bool,
    pub(crate) armed: bool,
    pub(crate) soft_dirty: bool,
}

/// How the kernel cheats, to see that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// A write to an armed page leaves it armed, sometimes.
    HidesWrites,
    /// Pages are armed that were not reported, sometimes.
    ArmsUnreported,
    /// New memory in the place of tracked memory counts as tracked and unwritten.
    KeepsTracked,
}

#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) vmas: BTreeMap<u64, Vma>,
    pub(crate) ptes: BTreeMap<u64, Pte>,
    pub(crate) files: Vec<BTreeMap<u64, u64>>,
    /// Pages that a device writes to.
    pub(crate) pinned: RangeSet,
    /// Pages with a hardware error.
    pub(crate) poisoned: BTreeSet<u64>,
    pub(crate) tracking: Tracking,
    pub(crate) frozen: bool,
    /// When it is let go, whatever the engine does.
    pub(crate) deadline: Option<Duration>,
    /// That came to pass.
    pub(crate) overdue: bool,
    /// How often it did.
    pub(crate) times_overdue: u64,
    /// A fork is overdue: nothing may be asked of the tasks but to be let go.
    pub(crate) only_resume: bool,
    pub(crate) twin: bool,
    /// Whether the application does anything by itself.
    pub(crate) busy: bool,
    pub(crate) simple: bool,
    /// Moved pages keep their protection, as in kernels before 6.13.
    pub(crate) stale_moves: bool,
    /// Scans report what is not there as written, everywhere in tracked memory.
    pub(crate) absent_is_written: bool,
    /// Pages that were there at some time since the mappings were listed last.
    pub(crate) seen: BTreeSet<u64>,
    pub(crate) sabotage: Option<Sabotage>,
    /// What `madvise` set is not told.
    pub(crate) secretive: bool,
    /// Page tables that come into the place of the process's own when it is read, and go again
    /// before it stands still.
    pub(crate) guests: Option<BTreeMap<u64, Pte>>,
    /// Whether they are there.
    guests_in: bool,
    next_number: u64,
}

impl World {
    pub(crate) fn new(seed: u64, tracking: Tracking, simple: bool) -> Self {
        let mut rng = Rng::new(seed);
        let stale_moves = rng.one_in(2);
        let absent_is_written = seed.is_multiple_of(2);
        let mut world = Self {
            rng,
            vmas: BTreeMap::new(),
            ptes: BTreeMap::new(),
            files: vec![BTreeMap::new(); FILES],
            pinned: RangeSet::new(),
            poisoned: BTreeSet::new(),
            tracking,
            frozen: false,
            deadline: None,
            overdue: false,
            times_overdue: 0,
            only_resume: false,
            twin: false,
            busy: true,
            simple,
            stale_moves,
            absent_is_written,
            seen: BTreeSet::new(),
            sabotage: None,
            secretive: false,
            guests: None,
            guests_in: false,
            next_number: 1,
        };
        for file in 0..FILES {
            for page in 0..FILE_PAGES {
                if !world.rng.one_in(3) {
                    let number = world.number();
                    world.files[file].insert(page, number);
                }
            }
        }
        for _ in 0..12 {
            world.map();
        }
        for _ in 0..60 {
            world.touch();
        }
        world
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    pub(crate) fn vma_of(&self, page: u64) -> Option<(u64, &Vma)> {
        let (&start, vma) = self.vmas.range(..=page).next_back()?;
        (page < vma.end).then_some((start, vma))
    }

    /// Lets the application go if it has stood still for as long as it may.
    pub(crate) fn let_go_in_time(&mut self, now: Duration) {
        if self.frozen && self.deadline.is_some_and(|deadline| now >= deadline) {
            (self.frozen, self.overdue) = (false, true);
            self.times_overdue += 1;
        }
    }

    /// The application goes on for a bit.
    pub(crate) fn tick(&mut self) {
        if self.frozen || self.twin || !self.busy {
            return;
        }
        let steps = if self.rng.one_in(3) {
            self.rng.below(4)
        } else {
            0
        };
        for _ in 0..steps {
            self.step();
        }
    }

    pub(crate) fn step(&mut self) {
        if self.simple {
            return self.touch();
        }
        match self.rng.below(64) {
            0..=39 => self.touch(),
            40..=43 => self.dont_need(),
            44..=46 => self.swap(),
            47..=48 => self.map(),
            49 => self.unmap_some(),
            50..=51 => self.move_some(),
            52..=55 => self.write_file(),
            56 => self.advise(),
            57..=58 => self.device_writes(),
            59 => self.serve_foreign(),
            60 => self.grow(),
            61 => self.guard(),
            62 => self.replace_alike(),
            _ => self.new_poison_or_pin(),
        }
    }

    fn some_page(&mut self) -> Option<u64> {
        let page = FIRST + self.rng.below(END - FIRST);
        self.vma_of(page).map(|_| page)
    }

    /// Stores to or loads from some page.
    fn touch(&mut self) {
        let Some(page) = self.some_page() else { return };
        if self.vma_of(page).is_some_and(|(_, vma)| foreign(vma)) && !self.ptes.contains_key(&page)
        {
            return;
        }
        if self.rng.one_in(4) {
            self.load(page);
        } else {
            self.store(page);
        }
    }

    /// Has the guests come or go, where there are any.
    pub(crate) fn move_guests(&mut self, come: bool) {
        if let Some(guests) = &mut self.guests
            && self.guests_in != come
        {
            std::mem::swap(&mut self.ptes, guests);
            self.guests_in = come;
        }
    }

    pub(crate) fn store(&mut self, page: u64) {
        let (backing, sharing) = {
            let (_, vma) = self.vma_of(page).expect("mapped");
            (vma.backing, vma.sharing)
        };
        if matches!(self.ptes.get(&page), Some(pte) if pte.content == Content::Guard) {
            return;
        }
        let number = self.number();
        let hidden = self.sabotage == Some(Sabotage::HidesWrites) && self.rng.one_in(4);
        let armed = hidden && self.ptes.get(&page).is_some_and(|pte| pte.armed);
        let content = match (backing, sharing) {
            (Backing::File { file, origin }, Sharing::Shared) => {
                self.files[file].insert(page.wrapping_add(origin), number);
                Content::File
            }
            _ => Content::Own(number),
        };
        self.set(page, content, armed, true);
    }

    fn load(&mut self, page: u64) {
        let (_, vma) = self.vma_of(page).expect("mapped");
        let (anonymous, own) = (
            vma.backing == Backing::Anonymous,
            self.ptes.get(&page).copied(),
        );
        match own {
            Some(pte) if pte.content == Content::Marker => {
                self.set(page, Content::File, pte.armed, false);
            }
            Some(pte) if pte.swapped => {
                self.ptes.get_mut(&page).unwrap().swapped = false;
            }
            Some(_) => {}
            None if anonymous => self.set(page, Content::Zero, false, false),
            None => self.set(page, Content::File, false, false),
        }
    }

    pub(crate) fn set(&mut self, page: u64, content: Content, armed: bool, soft_dirty: bool) {
        let soft_dirty = soft_dirty || self.ptes.get(&page).is_some_and(|pte| pte.soft_dirty);
        self.seen.insert(page);
        self.ptes.insert(
            page,
            Pte {
                content,
                swapped: false,
                armed,
                soft_dirty,
            },
        );
    }

    fn some_span(&mut self) -> Option<(u64, u64)> {
        let page = self.some_page()?;
        let (_, vma) = self.vma_of(page)?;
        let room = (vma.end - page).min(12);
        Some((page, page + 1 + self.rng.below(room)))
    }

    fn dont_need(&mut self) {
        let Some((start, end)) = self.some_span() else {
            return;
        };
        let vma = self.vma_of(start).unwrap().1.clone();
        if foreign(&vma) {
            return;
        }
        for page in start..end {
            let Some(pte) = self.ptes.get(&page).copied() else {
                continue;
            };
            if pte.content == Content::Guard {
                continue;
            }
            if vma.backing != Backing::Anonymous && pte.armed && vma.tracked {
                self.set(page, Content::Marker, true, false);
            } else {
                self.ptes.remove(&page);
            }
        }
    }

    fn swap(&mut self) {
        let Some(page) = self.some_page() else { return };
        if let Some(pte) = self.ptes.get_mut(&page)
            && matches!(pte.content, Content::Own(_))
        {
            pte.swapped = !pte.swapped;
        }
    }

    /// Maps something somewhere, over whatever is there.
    fn map(&mut self) {
        let start = FIRST + self.rng.below(END - FIRST - 1);
        let end = (start + 1 + self.rng.below(24)).min(END);
        self.unmap(start, end);
        let kind = if self.simple { 0 } else { self.rng.below(10) };
        let file = usize::try_from(self.rng.below(FILES as u64)).unwrap();
        let offset = self.rng.below(FILE_PAGES / 2);
        let backed = Backing::File {
            file,
            origin: offset.wrapping_sub(start),
        };
        let (backing, sharing) = match kind {
            0..=5 => (Backing::Anonymous, Sharing::Private),
            6..=7 => (backed, Sharing::Private),
            _ => (backed, Sharing::Shared),
        };
        let mut flags = MappingFlags::empty();
        let mut stubborn = false;
        if !self.simple {
            if backing == Backing::Anonymous && self.rng.one_in(8) {
                flags |= MappingFlags::USERFAULT | MappingFlags::USERFAULT_WAITS;
            }
            if file == 0 && sharing == Sharing::Shared {
                flags |= MappingFlags::UNLINKED;
            }
            stubborn = self.rng.one_in(10);
        }
        let vma = Vma {
            end,
            backing,
            sharing,
            flags,
            shown: flags,
            tracked: false,
            stubborn,
            soft_dirty: true,
        };
        self.vmas.insert(start, vma);
        self.merge(start);
    }

    /// Private anonymous memory merges with its like; the mark of being new may get lost.
    fn merge(&mut self, start: u64) {
        let alike = |a: &Vma, b: &Vma| {
            a.backing == Backing::Anonymous
                && b.backing == Backing::Anonymous
                && (a.flags, a.tracked, a.stubborn) == (b.flags, b.tracked, b.stubborn)
        };
        let own = self.vmas[&start].clone();
        if let Some(next) = self.vmas.get(&own.end).cloned()
            && alike(&own, &next)
        {
            self.vmas.remove(&own.end);
            let merged = self.vmas.get_mut(&start).unwrap();
            merged.end = next.end;
            merged.soft_dirty = next.soft_dirty;
        }
        let own = self.vmas[&start].clone();
        let before = self.vmas.range(..start).next_back();
        if let Some((&first, left)) = before
            && left.end == start
            && alike(left, &own)
        {
            self.vmas.remove(&start);
            self.vmas.get_mut(&first).unwrap().end = own.end;
        }
    }

    pub(crate) fn unmap(&mut self, start: u64, end: u64) {
        self.split(start);
        self.split(end);
        let gone: Vec<_> = self.vmas.range(start..end).map(|(&at, _)| at).collect();
        for at in gone {
            self.vmas.remove(&at);
        }
        for page in start..end {
            self.ptes.remove(&page);
        }
    }

    /// Makes `at` the start of a mapping, if it lies in one.
    pub(crate) fn split(&mut self, at: u64) {
        if let Some((start, vma)) = self.vma_of(at)
            && start != at
        {
            let right = vma.clone();
            self.vmas.get_mut(&start).unwrap().end = at;
            self.vmas.insert(at, right);
        }
    }

    fn unmap_some(&mut self) {
        if let Some((start, end)) = self.some_span() {
            self.unmap(start, end);
        }
    }

    fn move_some(&mut self) {
        let Some((start, end)) = self.some_span() else {
            return;
        };
        let len = end - start;
        let to = FIRST + self.rng.below(END - FIRST - len);
        if to < end && start < to + len {
            return;
        }
        let mut vma = self.vma_of(start).unwrap().1.clone();
        let pages: Vec<_> = (start..end)
            .map(|page| self.ptes.get(&page).copied())
            .collect();
        self.unmap(start, end);
        self.unmap(to, to + len);
        if let Backing::File { origin, .. } = &mut vma.backing {
            *origin = origin.wrapping_add(start).wrapping_sub(to);
        }
        vma.end = to + len;
        vma.tracked = false;
        if foreign(&vma) {
            vma.flags = MappingFlags::empty();
            vma.shown = vma.flags;
        }
        self.vmas.insert(to, vma);
        for (page, pte) in (to..).zip(pages) {
            if let Some(mut pte) = pte {
                pte.armed &= self.stale_moves;
                pte.soft_dirty = true;
                if pte.content != Content::Marker {
                    self.seen.insert(page);
                    self.ptes.insert(page, pte);
                }
            }
        }
        self.merge(to);
    }

    /// Somebody writes to a file, or makes a hole in it.
    fn write_file(&mut self) {
        let file = usize::try_from(self.rng.below(FILES as u64)).unwrap();
        let page = self.rng.below(FILE_PAGES);
        if self.rng.one_in(3) {
            self.files[file].remove(&page);
            self.unmap_hole(file, page);
        } else {
            let number = self.number();
            self.files[file].insert(page, number);
        }
    }

    fn unmap_hole(&mut self, hole: usize, at: u64) {
        let mut gone = Vec::new();
        for (&page, pte) in &self.ptes {
            if pte.content == Content::File
                && let Some((_, vma)) = self.vma_of(page)
                && let Backing::File { file, origin } = vma.backing
                && (file, page.wrapping_add(origin)) == (hole, at)
            {
                gone.push(page);
            }
        }
        for page in gone {
            self.ptes.remove(&page);
        }
    }

    fn advise(&mut self) {
        let Some((start, end)) = self.some_span() else {
            return;
        };
        let flag = self.rng.pick(&[
            MappingFlags::DONT_DUMP,
            MappingFlags::DONT_FORK,
            MappingFlags::WIPE_ON_FORK,
        ]);
        let vma = self.vma_of(start).unwrap().1;
        if flag == MappingFlags::WIPE_ON_FORK
            && (vma.backing != Backing::Anonymous || vma.sharing == Sharing::Shared)
        {
            return;
        }
        self.split(start);
        self.split(end);
        self.vmas.get_mut(&start).unwrap().flags.toggle(flag);
    }

    /// A device writes to pinned memory; no bit of the page tables changes.
    fn device_writes(&mut self) {
        let Some(page) = self.some_page() else { return };
        let number = self.number();
        if self.pinned.contains(Vaddr(page * PAGE))
            && let Some(pte) = self.ptes.get_mut(&page)
            && matches!(pte.content, Content::Own(_))
            && !pte.swapped
        {
            pte.content = Content::Own(number);
        }
    }

    /// The handler of somebody's userfaultfd brings a page.
    fn serve_foreign(&mut self) {
        let Some(page) = self.some_page() else { return };
        let number = self.number();
        if self.vma_of(page).is_some_and(|(_, vma)| foreign(vma)) && !self.ptes.contains_key(&page)
        {
            self.set(page, Content::Own(number), false, true);
        }
    }

    /// The heap grows upwards where there is room.
    fn grow(&mut self) {
        let Some(page) = self.some_page() else { return };
        let (start, vma) = self.vma_of(page).unwrap();
        let end = vma.end;
        let room = self.vmas.range(end..).next().map_or(END, |(&next, _)| next) - end;
        if room > 0 && vma.backing == Backing::Anonymous {
            let more = 1 + self.rng.below(room.min(6));
            self.vmas.get_mut(&start).unwrap().end = end + more;
        }
    }

    fn guard(&mut self) {
        let Some(page) = self.some_page() else { return };
        let vma = self.vma_of(page).unwrap().1;
        if vma.backing == Backing::Anonymous && !foreign(vma) {
            match self.ptes.get(&page) {
                Some(pte) if pte.content == Content::Guard => {
                    self.ptes.remove(&page);
                }
                _ => {
                    self.ptes.remove(&page);
                    self.set(page, Content::Guard, false, false);
                }
            }
        }
    }

    /// Unmaps a whole mapping and maps the like in its place.
    fn replace_alike(&mut self) {
        let Some(page) = self.some_page() else { return };
        let (start, vma) = self
            .vma_of(page)
            .map(|(at, vma)| (at, vma.clone()))
            .unwrap();
        self.unmap(start, vma.end);
        let tracked = vma.tracked && self.sabotage == Some(Sabotage::KeepsTracked);
        let mut vma = vma;
        vma.tracked = tracked;
        vma.soft_dirty = true;
        let end = vma.end;
        self.vmas.insert(start, vma);
        for page in start..end {
            if self.rng.one_in(2) && !self.vma_of(page).is_some_and(|(_, vma)| foreign(vma)) {
                self.load(page);
                if tracked {
                    self.ptes.get_mut(&page).unwrap().armed = true;
                }
            }
        }
    }

    fn new_poison_or_pin(&mut self) {
        let Some(page) = self.some_page() else { return };
        if self.rng.one_in(8) {
            self.poisoned.insert(page);
        } else {
            self.pinned.insert(range(page, page + 1));
        }
    }

    /// What a scan tells of a page, in a mapping.
    pub(crate) fn flags(&self, page: u64, vma: &Vma) -> PageFlags {
        let mut flags = PageFlags::empty();
        if self.tracking == Tracking::WriteProtect && vma.tracked {
            flags |= PageFlags::TRACKED;
        }
        let Some(pte) = self.ptes.get(&page) else {
            // Whether what is not there counts as written differs from kernel to kernel.
            if vma.tracked && (self.absent_is_written || page.is_multiple_of(3)) {
                flags |= PageFlags::WRITTEN;
            }
            return flags;
        };
        let written = match self.tracking {
            Tracking::SoftDirty => pte.soft_dirty || vma.soft_dirty,
            Tracking::WriteProtect | Tracking::None => !pte.armed,
        };
        if written {
            flags |= PageFlags::WRITTEN;
        }
        if pte.soft_dirty || vma.soft_dirty {
            flags |= PageFlags::SOFT_DIRTY;
        }
        flags |= match pte.content {
            Content::Own(_) if pte.swapped => PageFlags::SWAPPED,
            Content::Own(_) => PageFlags::PRESENT,
            Content::Zero => PageFlags::PRESENT | PageFlags::ZERO,
            Content::File => PageFlags::PRESENT | PageFlags::FILE,
            Content::Marker => PageFlags::SWAPPED,
            Content::Guard => PageFlags::SWAPPED | PageFlags::GUARD,
        };
        flags
    }

    /// The number that a reader finds, or `None` where there is nothing but a hole.
    pub(crate) fn value(&self, page: u64) -> Option<u64> {
        let (_, vma) = self.vma_of(page)?;
        let behind = match vma.backing {
            Backing::Anonymous => None,
            Backing::File { file, origin } => {
                self.files[file].get(&page.wrapping_add(origin)).copied()
            }
        };
        match self.ptes.get(&page).map(|pte| pte.content) {
            Some(Content::Own(number)) => Some(number),
            Some(Content::Zero) => Some(0),
            Some(Content::File | Content::Marker) => Some(behind.unwrap_or(0)),
            Some(Content::Guard) => None,
            None => behind,
        }
    }

    /// The mappings, as the kernel's files tell them.
    pub(crate) fn listed(&mut self) -> Vec<Mapping> {
        let mut listed = Vec::new();
        let starts: Vec<_> = self.vmas.keys().copied().collect();
        for start in starts {
            let fresh = !self.secretive && !self.rng.one_in(4);
            let vma = self.vmas.get_mut(&start).unwrap();
            let waits = MappingFlags::USERFAULT | MappingFlags::USERFAULT_WAITS;
            if fresh {
                vma.shown = vma.flags;
            }
            // Who would wait is known at any time: it decides what may be touched.
            vma.shown.set(waits, vma.flags.contains(waits));
            listed.push(mapping(start, vma));
        }
        listed
    }
}

pub(crate) fn foreign(vma: &Vma) -> bool {
    vma.flags.contains(MappingFlags::USERFAULT_WAITS)
}

fn mapping(start: u64, vma: &Vma) -> Mapping {
    let (inode, file_offset) = match vma.backing {
        Backing::Anonymous => (0, 0),
        Backing::File { file, origin } => (100 + file as u64, start.wrapping_add(origin) * PAGE),
    };
    Mapping {
        range: range(start, vma.end),
        protection: Protection::READ | Protection::WRITE,
        sharing: vma.sharing,
        file_offset,
        device: (0, u32::from(inode != 0)),
        inode,
        name: String::new(),
        flags: vma.shown,
        page_size: PageSize::new(PAGE).unwrap(),
    }
}
