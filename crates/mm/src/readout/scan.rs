//! `PAGEMAP_SCAN` (`do_pagemap_scan`): which pages of a range are what, and protecting those that
//! were written in the same step.
//!
//! Categories are in `category`. The output has the kernel's form: it is filled in pieces of
//! at most `piece` regions, and a scan stops early where a piece or the output is full.

pub(super) mod category;

use space::Errno;

use crate::entry::Entry;
use crate::machine::{Machine, Mm, Pid, World};
use crate::profile::Kernel;
use crate::protect::Change;
use crate::table::Run;
use crate::uapi::pagemap::{ARGUMENT_SIZE, Categories, ScanFlags};
use crate::uffd;
use crate::vma::{View, VmaFlags};
use category::{is_protected, protect};

/// Arguments of the call (`struct pm_scan_arg`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PagemapScan {
    /// Size of the structure: 96.
    pub size: u64,
    /// `PM_SCAN_*`.
    pub flags: u64,
    /// First address.
    pub start: u64,
    /// First address behind.
    pub end: u64,
    /// How many regions fit in the vector; `None` without one (`vec` is null).
    pub vec_len: Option<u64>,
    /// Stop after so many pages; 0 for no limit.
    pub max_pages: u64,
    /// `PAGE_IS_*` that count the other way round.
    pub category_inverted: u64,
    /// All of these must be.
    pub category_mask: u64,
    /// One of these must be.
    pub category_anyof_mask: u64,
    /// These are told.
    pub return_mask: u64,
}

/// Neighbouring pages of the same categories (`struct page_region`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRegion {
    /// First address.
    pub start: u64,
    /// First address behind.
    pub end: u64,
    /// `PAGE_IS_*`.
    pub categories: u64,
}

/// What a scan leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanReply {
    /// How many regions were filled, or what went wrong.
    pub result: Result<u64, Errno>,
    /// The regions.
    pub regions: Vec<PageRegion>,
    /// Where the scan ended; `None` where the field was left as it was.
    pub walk_end: Option<u64>,
}

impl ScanReply {
    fn refused(errno: Errno) -> Self {
        Self {
            result: Err(errno),
            regions: Vec::new(),
            walk_end: None,
        }
    }
}

/// How many regions are kept before they are written out (`PAGEMAP_WALK_SIZE >> PAGE_SHIFT`).
fn piece(world: &World) -> u64 {
    world.profile.geometry().pmd_size() >> world.page_shift()
}

fn count(regions: &[PageRegion]) -> u64 {
    u64::try_from(regions.len()).expect("regions are countable")
}

/// Why a walk ends before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Early {
    /// The output is full, or enough pages were found (`ENOSPC`).
    Full,
    /// It failed.
    Failed(Errno),
}

impl Machine {
    /// Looks at the pages of a process, and protects them where asked to.
    pub fn pagemap_scan(&mut self, pid: Pid, args: &PagemapScan) -> ScanReply {
        let (world, process) = match self.halves_of(pid) {
            Ok(halves) => halves,
            Err(errno) => return ScanReply::refused(errno),
        };
        let mut scan = match Scan::new(world, args) {
            Ok(scan) => scan,
            Err(errno) => return ScanReply::refused(errno),
        };
        let mut result = Ok(());
        let mut at = args.start;
        while at < scan.end {
            result = scan.walk(world, &mut process.mm, at);
            scan.flush();
            if result != Err(Early::Full)
                || scan.regions_left == 0
                || scan.found_pages == scan.max_pages
            {
                break;
            }
            at = scan.walk_end.unwrap_or(scan.end);
        }
        let count = count(&scan.done);
        ScanReply {
            result: match result {
                Ok(()) | Err(Early::Full) => Ok(count),
                Err(Early::Failed(errno)) => Err(errno),
            },
            walk_end: Some(scan.walk_end.unwrap_or(scan.end)),
            regions: scan.done,
        }
    }
}

/// The state of a scan (`struct pagemap_scan_private`).
struct Scan {
    flags: ScanFlags,
    end: u64,
    inverted: Categories,
    mask: Categories,
    anyof: Categories,
    shown: Categories,
    max_pages: u64,
    found_pages: u64,
    /// Regions that fit into what is left of the vector.
    regions_left: u64,
    /// Regions that fit into the piece.
    piece_len: u64,
    /// The piece (`vec_buf`).
    piece: Vec<PageRegion>,
    /// What was written out.
    done: Vec<PageRegion>,
    /// Whether there is a vector at all.
    has_output: bool,
    walk_end: Option<u64>,
    /// What is so of the whole mapping.
    of_vma: Categories,
    page_size: u64,
}

impl Scan {
    /// `pagemap_scan_get_args`.
    fn new(world: &World, args: &PagemapScan) -> Result<Self, Errno> {
        let kernel = world.profile.kernel;
        if kernel < Kernel::V6_12 {
            return Err(Errno::ENOTTY);
        }
        if args.size != ARGUMENT_SIZE {
            return Err(Errno::EINVAL);
        }
        let flags = ScanFlags::from_bits(args.flags).ok_or(Errno::EINVAL)?;
        let known = category::known(kernel);
        let categories = |bits| {
            Categories::from_bits(bits)
                .filter(|&asked| known.contains(asked))
                .ok_or(Errno::EINVAL)
        };
        let inverted = categories(args.category_inverted)?;
        let mask = categories(args.category_mask)?;
        let anyof = categories(args.category_anyof_mask)?;
        let shown = categories(args.return_mask)?;
        if world.offset_in_page(args.start) != 0 {
            return Err(Errno::EINVAL);
        }
        // access_ok
        let task_size = world.profile.arch.task_size();
        if args.end < args.start || args.end > task_size {
            return Err(Errno::EFAULT);
        }
        let regions_left = args.vec_len.unwrap_or(0);
        Ok(Self {
            flags,
            end: world.page_align(args.end),
            inverted,
            mask,
            anyof,
            shown,
            max_pages: if args.max_pages == 0 {
                u64::MAX
            } else {
                args.max_pages
            },
            found_pages: 0,
            regions_left,
            piece_len: regions_left.min(piece(world)),
            piece: Vec::new(),
            done: Vec::new(),
            has_output: regions_left > 0,
            walk_end: None,
            of_vma: Categories::empty(),
            page_size: world.page_size(),
        })
    }

    fn protects(&self) -> bool {
        self.flags.contains(ScanFlags::WP_MATCHING)
    }

    /// `pagemap_scan_flush_buffer`.
    fn flush(&mut self) {
        // What found no room for a single page is not told.
        self.piece.pop_if(|last| last.start == last.end);
        let count = count(&self.piece);
        self.regions_left -= count;
        self.piece_len = self.piece_len.min(self.regions_left);
        self.done.append(&mut self.piece);
    }

    /// `pagemap_scan_is_interesting_page`.
    fn is_interesting(&self, categories: Categories) -> bool {
        let turned = categories ^ self.inverted;
        turned.contains(self.mask) && (self.anyof.is_empty() || turned.intersects(self.anyof))
    }

    /// `pagemap_scan_push_range`.
    fn push(&mut self, categories: Categories, start: u64, end: u64) -> bool {
        let categories = categories.bits();
        if let Some(last) = self.piece.last_mut()
            && last.end == start
            && last.categories == categories
        {
            last.end = end;
            return true;
        }
        if count(&self.piece) >= self.piece_len {
            return false;
        }
        self.piece.push(PageRegion {
            start,
            end,
            categories,
        });
        true
    }

    /// `pagemap_scan_output`: tells of `start..end`; returns the end of what was told, and
    /// whether that is all there is room for.
    fn output(&mut self, categories: Categories, start: u64, end: u64) -> (u64, Result<(), Early>) {
        if !self.has_output {
            return (end, Ok(()));
        }
        let mut end = end;
        let mut pages = (end - start) / self.page_size;
        let mut result = Ok(());
        let room = self.max_pages - self.found_pages;
        if pages > room {
            end = start + room * self.page_size;
            pages = room;
            result = Err(Early::Full);
        }
        if !self.push(categories & self.shown, start, end) {
            end = start;
            pages = 0;
            result = Err(Early::Full);
        }
        self.found_pages += pages;
        if result.is_err() {
            self.walk_end = Some(end);
        }
        (end, result)
    }

    /// `pagemap_scan_backout_range`: takes back what was told of `start..end`.
    fn back_out(&mut self, start: u64, end: u64) {
        if !self.has_output {
            return;
        }
        if let Some(last) = self.piece.last_mut() {
            if last.start == start {
                self.piece.pop();
            } else {
                last.end = start;
            }
        }
        self.found_pages -= (end - start) / self.page_size;
    }

    /// `walk_page_range`, from `start` on.
    fn walk(&mut self, world: &mut World, mm: &mut Mm, start: u64) -> Result<(), Early> {
        let mut at = start;
        while at < self.end
            && let Some(vma) = mm.vmas.find(at).filter(|vma| vma.start < self.end)
        {
            let view = vma.view();
            let from = at.max(view.start);
            at = view.end.min(self.end);
            if !self.test_walk(world, &view)? {
                continue;
            }
            if view.is_hugetlb() {
                self.walk_hugetlb(world, mm, &view, from, at)?;
            } else {
                self.walk_tables(world, mm, &view, from, at)?;
            }
        }
        Ok(())
    }

    /// `pagemap_scan_test_walk`: whether a mapping is looked at.
    fn test_walk(&mut self, world: &World, vma: &View) -> Result<bool, Early> {
        let allowed = uffd::is_wp_async(world, vma) && uffd::uses_markers(world, vma);
        if vma.has(VmaFlags::UFFD_RWP) && self.protects() {
            return Err(Early::Failed(Errno::EINVAL));
        }
        if !allowed {
            if self.flags.contains(ScanFlags::CHECK_WPASYNC) {
                return Err(Early::Failed(Errno::EPERM));
            }
            if self.protects() {
                return Ok(false);
            }
        }
        self.of_vma = Categories::empty();
        self.of_vma.set(Categories::WPALLOWED, allowed);
        let dirty = vma.has(VmaFlags::SOFTDIRTY) && world.profile.soft_dirty;
        self.of_vma.set(Categories::SOFT_DIRTY, dirty);
        let required = self.mask & Categories::WPALLOWED;
        Ok((self.of_vma ^ self.inverted).contains(required))
    }

    fn walk_tables(
        &mut self,
        world: &mut World,
        mm: &mut Mm,
        vma: &View,
        start: u64,
        end: u64,
    ) -> Result<(), Early> {
        let geometry = mm.tables.geometry();
        let mut at = start;
        while at < end {
            let slot = mm.tables.walk(at, 0);
            let covered = 1_u64 << geometry.shift(slot.level.max(1));
            let behind = (at & !(covered - 1)).saturating_add(covered).min(end);
            let run = Run {
                start: at,
                end: behind,
                slot,
            };
            if slot.level == 0 {
                self.small_pages(world, mm, vma, run)?;
            } else if mm.tables.entry(slot) == Entry::None {
                self.hole(world, mm, vma, at, behind)?;
            } else if self.huge_page(world, mm, vma, run)? {
                // It was split: the same again, page by page.
                continue;
            }
            at = behind;
        }
        Ok(())
    }

    /// `pagemap_scan_pte_hole`.
    fn hole(
        &mut self,
        world: &mut World,
        mm: &mut Mm,
        vma: &View,
        start: u64,
        end: u64,
    ) -> Result<(), Early> {
        let mut categories = self.of_vma;
        if !vma.is_hugetlb() {
            categories |= category::of_hole(vma);
        }
        if !self.is_interesting(categories) {
            return Ok(());
        }
        let (told, result) = self.output(categories, start, end);
        if self.protects() && told > start {
            uffd::protect_range(world, mm, vma, start, told, true);
        }
        result
    }

    /// `pagemap_scan_thp_entry`: tells whether the page was split.
    fn huge_page(
        &mut self,
        world: &mut World,
        mm: &mut Mm,
        vma: &View,
        run: Run,
    ) -> Result<bool, Early> {
        let entry = mm.tables.entry(run.slot);
        let categories = self.of_vma | category::of_huge(world, vma, entry);
        if !self.is_interesting(categories) {
            return Ok(false);
        }
        let (told, result) = self.output(categories, run.start, run.end);
        if told == run.start || !self.protects() || !categories.contains(Categories::WRITTEN) {
            return result.map(|()| false);
        }
        let part = Run { end: told, ..run };
        if crate::thp::change(world, mm, vma, part, Change::UffdProtect) {
            self.back_out(run.start, told);
            self.walk_end = None;
            return Ok(true);
        }
        result.map(|()| false)
    }

    /// `pagemap_scan_pmd_entry`: the entries of one table.
    fn small_pages(
        &mut self,
        world: &mut World,
        mm: &mut Mm,
        vma: &View,
        run: Run,
    ) -> Result<(), Early> {
        let protects = self.protects();
        // Without a vector, all that is there is protected, whatever was asked for.
        let protects_all = protects && !self.has_output;
        let written = Categories::WRITTEN;
        let only_written = self.anyof.is_empty()
            && self.inverted.is_empty()
            && self.mask == written
            && self.shown == written;
        let mut slot = run.slot;
        let mut at = run.start;
        while at < run.end {
            let entry = mm.tables.entry(slot);
            let categories = if protects_all || only_written {
                if is_protected(entry) {
                    self.of_vma
                } else {
                    self.of_vma | written
                }
            } else {
                self.of_vma | category::of_small(world, vma, entry)
            };
            let tells = if protects_all {
                categories.contains(written)
            } else {
                self.is_interesting(categories)
            };
            if tells {
                let (told, result) = self.output(categories, at, at + self.page_size);
                if told > at && protects && categories.contains(written) {
                    mm.tables.set(slot, protect(entry));
                }
                result?;
            }
            slot.index += 1;
            at += self.page_size;
        }
        Ok(())
    }

    fn walk_hugetlb(
        &mut self,
        world: &mut World,
        mm: &mut Mm,
        vma: &View,
        start: u64,
        end: u64,
    ) -> Result<(), Early> {
        let size = 1_u64 << vma.page_shift;
        let geometry = mm.tables.geometry();
        let level = (0..geometry.levels)
            .rev()
            .find(|&level| geometry.shift(level) <= vma.page_shift)
            .expect("a page is at least a base page");
        let mut at = start;
        while at < end {
            let behind = ((at & !(size - 1)) + size).min(end);
            match mm.tables.find(at, level) {
                Some(slot) => {
                    let run = Run {
                        start: at,
                        end: behind,
                        slot,
                    };
                    self.hugetlb_page(world, mm, vma, run)?;
                }
                None => self.hole(world, mm, vma, at, behind)?,
            }
            at = behind;
        }
        Ok(())
    }

    /// `pagemap_scan_hugetlb_entry`.
    fn hugetlb_page(
        &mut self,
        world: &World,
        mm: &mut Mm,
        vma: &View,
        run: Run,
    ) -> Result<(), Early> {
        let entry = mm.tables.entry(run.slot);
        let categories = self.of_vma | category::of_hugetlb(world, vma, entry);
        if !self.is_interesting(categories) {
            return Ok(());
        }
        let (told, result) = self.output(categories, run.start, run.end);
        if told == run.start || !self.protects() || !categories.contains(Categories::WRITTEN) {
            return result;
        }
        if told != run.start + (1 << vma.page_shift) {
            // A part of a page can't be protected.
            self.back_out(run.start, told);
            self.walk_end = Some(run.start);
            return Ok(());
        }
        if !matches!(entry, Entry::Marker(_) | Entry::Hwpoison(_)) {
            mm.tables.set(run.slot, protect(entry));
        }
        result
    }
}
