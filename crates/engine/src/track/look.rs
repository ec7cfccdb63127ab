//! What a snapshot would have to copy, at one instant.

use std::borrow::Cow;

use space::{
    AddressSpace, ByteLen, Errno, Mapping, MappingFlags, PageCount, PageFlags, PageRange, PageRun,
    PageSize, RangeSet, Rearm, Scan, Tracking,
};

use super::Tracker;
use super::continuity::{continuing, within};
use super::sorted::Sorted;
use super::tracker::continuity;
use crate::{Class, Load, Part, Selection, select};

/// What there is to be copied. Nothing is changed by looking. While the target runs this is an
/// estimate; while it stands still it is exact.
///
/// Every page that has content is in exactly one of `keep`, `carried`, `apart`, `zeros` and
/// `unread`.
#[derive(Debug, Default)]
pub(crate) struct Look {
    pub(crate) mappings: Vec<Mapping>,
    pub(crate) parts: Vec<Part>,
    /// What is still registered of what was tracked.
    pub(crate) tracked: RangeSet,
    /// What was tracked and has lost its registration.
    pub(crate) lost: RangeSet,
    /// Pages that the sink chain holds as they are.
    pub(crate) keep: RangeSet,
    /// Pages to copy, which a forked child would have as well.
    pub(crate) carried: RangeSet,
    /// Pages to copy from the target itself, whatever the strategy.
    pub(crate) apart: RangeSet,
    /// Pages of zeros that need not be read.
    pub(crate) zeros: RangeSet,
    /// Pages whose content can't be got at without waiting for somebody else.
    pub(crate) unread: RangeSet,
    /// Ranges that a forked child does not get, or that may change before it is read.
    pub(crate) unforked: RangeSet,
    /// Pages in the page tables.
    pub(crate) present: PageCount,
    /// Pages that a fork has to account for.
    pub(crate) forked: PageCount,
    /// Mappings of which the files behind them could not be looked at.
    pub(crate) denied: Vec<PageRange>,
}

/// Flags of pages that exist.
pub(super) const THERE: PageFlags = PageFlags::PRESENT.union(PageFlags::SWAPPED);

/// Flags of pages that soft-dirty bits say nothing about. A page of zeros may be that of a new
/// mapping whose mark was lost in a merge, or what a read of dropped memory brought; a huge one
/// looks like a file's. A file's page is not the process's own.
pub(super) const UNMARKED: PageFlags = PageFlags::ZERO.union(PageFlags::FILE);

/// The parts, sorted by the way they are asked.
#[derive(Default)]
struct Groups {
    anonymous: Vec<PageRange>,
    file: Vec<PageRange>,
    foreign: Vec<PageRange>,
    pinned: Vec<PageRange>,
    /// Private memory that a forked child does not get.
    wiped: RangeSet,
    /// All that a forked child does not get, or that may change before it is read there.
    unforked: RangeSet,
}

/// How a look asks for tracked memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// For every page that is there.
    Full,
    /// Only for what is not as it was armed, where the kernel's answer can be trusted to tell of
    /// dropped pages too: several times as fast, which counts in a freeze.
    Changes,
}

impl Look {
    /// Looks at everything that `selection` takes.
    pub(crate) fn take<S: AddressSpace>(
        tracker: &Tracker,
        space: &mut S,
        selection: Selection,
        volatile: &RangeSet,
        depth: Depth,
    ) -> Result<Self, Errno> {
        let mappings = space.mappings()?;
        let parts = select(selection, &mappings, volatile, space.page_size());
        let tracking = space.tracking();
        let same = continuing(&tracker.layout, &mappings, continuity(tracking));
        let trusted: RangeSet = parts
            .iter()
            .filter(|part| matches!(part.class, Class::Private | Class::PrivateFile))
            .map(|part| part.range)
            .collect();
        let mut look = Self {
            tracked: tracker.tracked.intersection(&same).intersection(&trusted),
            ..Self::default()
        };
        let captured = if look.tracked == tracker.tracked {
            Cow::Borrowed(&tracker.captured)
        } else {
            Cow::Owned(tracker.captured.intersection(&look.tracked))
        };
        let groups = Groups::of(&parts, &mappings);
        let all: RangeSet = groups.anonymous.iter().copied().collect();
        let known = match depth {
            Depth::Full => RangeSet::new(),
            Depth::Changes => look.tracked.difference(&tracker.fresh).intersection(&all),
        };
        let rest = if look.changes(space, &known, &captured)? {
            within(groups.anonymous.iter().copied(), &all.difference(&known)).collect()
        } else {
            groups.anonymous
        };
        look.anonymous(space, &rest, &captured, &mappings)?;
        look.file(space, &groups.file, &captured, &mappings)?;
        look.foreign(space, &groups.foreign)?;
        look.pinned(space, &groups.pinned)?;
        look.files(space, &parts, &mappings)?;
        look.unforked = groups.unforked;
        look.leave_out(&groups.wiped);
        look.tracked = look.tracked.difference(&look.lost);
        look.mappings = mappings;
        look.parts = parts;
        Ok(look)
    }

    /// Returns all pages to copy.
    pub(crate) fn copy(&self) -> RangeSet {
        self.carried.union(&self.apart)
    }

    /// Returns all pages that change hands: those to copy and those of zeros.
    pub(crate) fn taken(&self) -> RangeSet {
        self.copy().union(&self.zeros)
    }

    /// Returns where private mappings of files lie: the copies of pages in them go if the file is
    /// truncated.
    pub(crate) fn file_copies(&self) -> RangeSet {
        self.parts
            .iter()
            .filter(|part| part.class == Class::PrivateFile)
            .map(|part| part.range)
            .collect()
    }

    /// Takes note that a forked child does not have `gone`: what of it was to be read there must be
    /// copied from the target.
    pub(crate) fn leave_out(&mut self, gone: &RangeSet) {
        if gone.is_empty() {
            return;
        }
        let moved = self.carried.intersection(gone);
        self.carried = self.carried.difference(&moved);
        self.apart = self.apart.union(&moved);
        self.unforked = self.unforked.union(gone);
    }

    /// Takes note of pages that were written while everything stood still: a task that is made to
    /// call the kernel has it write to the task's own memory on the way back (`struct rseq`, where
    /// the processor's number stands). A forked child has them as they are now.
    pub(crate) fn written_since<S: AddressSpace>(&mut self, space: &mut S) -> Result<(), Errno> {
        if self.keep.is_empty() || space.tracking() == Tracking::None {
            return Ok(());
        }
        let scan = Scan {
            all_of: PageFlags::WRITTEN,
            any_of: THERE,
            report: PageFlags::WRITTEN,
            rearm: Rearm::Keep,
        };
        let mut runs = Vec::new();
        space.scan(&scan, self.keep.ranges(), &mut runs)?;
        let written = collect(&runs, |_| true).intersection(&self.keep);
        self.keep = self.keep.difference(&written);
        self.carried = self.carried.union(&written);
        Ok(())
    }

    /// Returns what the freeze would have to deal with.
    pub(crate) fn load(&self) -> Load {
        Load {
            present: self.present,
            forked: self.forked,
            changed: self.carried.len(),
            volatile: self.apart.len(),
            total: ByteLen(self.keep.len().0 + self.carried.len().0),
        }
    }

    /// Private anonymous memory whose pages are captured, or armed no more: kept is what a scan
    /// for written pages does not report. Returns false where that can't be asked, because the
    /// kernel's scans don't work like that or because a mapping lost its registration; nothing is
    /// taken note of then.
    fn changes<S: AddressSpace>(
        &mut self,
        space: &mut S,
        known: &RangeSet,
        captured: &RangeSet,
    ) -> Result<bool, Errno> {
        let trusted = space.tracking() == Tracking::WriteProtect && space.absent_is_written();
        if !trusted || known.is_empty() {
            return Ok(false);
        }
        let scan = Scan {
            all_of: PageFlags::WRITTEN,
            any_of: PageFlags::empty(),
            report: THERE | PageFlags::ZERO | PageFlags::GUARD,
            rearm: Rearm::KeepIfTracked,
        };
        let mut runs = Vec::new();
        match space.scan(&scan, known.ranges(), &mut runs) {
            Ok(()) => {}
            Err(Errno::EPERM) => return Ok(false),
            Err(errno) => return Err(errno),
        }
        let sorted = Sorted::of(&runs, captured, known);
        (self.keep, self.carried, self.zeros) = (sorted.keep, sorted.carried, sorted.zeros);
        let present = sorted.bytes >> space.page_size().shift();
        self.present.0 += present;
        self.forked.0 += present;
        Ok(true)
    }

    /// Private anonymous memory: kept are captured pages that are registered and unwritten. One
    /// walk over what may be a million runs, since the target may stand still.
    fn anonymous<S: AddressSpace>(
        &mut self,
        space: &mut S,
        ranges: &[PageRange],
        captured: &RangeSet,
        mappings: &[Mapping],
    ) -> Result<(), Errno> {
        let tracking = space.tracking();
        let shift = space.page_size().shift();
        let mut also = PageFlags::WRITTEN | PageFlags::ZERO;
        // The words of pagemap tell it for nothing.
        also.set(PageFlags::FILE, tracking == Tracking::SoftDirty);
        let runs = there(space, ranges, also)?;
        self.find_lost(&runs, tracking, mappings);
        let (mut keep, mut carried, mut zeros) = (Vec::new(), Vec::new(), Vec::new());
        let mut known = captured.ranges();
        let mut present = 0;
        for run in &runs {
            present += run.range.len().0 >> shift;
            let changed = if run.flags.contains(PageFlags::ZERO) {
                &mut zeros
            } else {
                &mut carried
            };
            if unwritten(run.flags, tracking) {
                split(run.range, &mut known, &mut keep, changed);
            } else {
                changed.push(run.range);
            }
        }
        self.present.0 += present;
        self.forked.0 += present;
        self.keep.extend(keep);
        self.carried.extend(carried);
        self.zeros.extend(zeros);
        Ok(())
    }

    /// Private mappings of files: only pages that are surely the process's own are kept.
    fn file<S: AddressSpace>(
        &mut self,
        space: &mut S,
        ranges: &[PageRange],
        captured: &RangeSet,
        mappings: &[Mapping],
    ) -> Result<(), Errno> {
        let tracking = space.tracking();
        let size = space.page_size();
        let runs = there(space, ranges, PageFlags::WRITTEN | PageFlags::FILE)?;
        self.find_lost(&runs, tracking, mappings);
        let present = collect(&runs, |_| true);
        let own = collect(&runs, own_copy);
        let clean = collect(&runs, |flags| own_copy(flags) && unwritten(flags, tracking));
        let keep = captured.intersection(&clean);
        self.carried.add(own.difference(&keep));
        self.apart.add(present.difference(&own));
        self.count(&present, size);
        self.forked.0 += pages(&own, size);
        self.keep.add(keep);
        Ok(())
    }

    fn foreign<S: AddressSpace>(
        &mut self,
        space: &mut S,
        ranges: &[PageRange],
    ) -> Result<(), Errno> {
        let size = space.page_size();
        let runs = there(space, ranges, PageFlags::empty())?;
        let present = collect(&runs, |flags| flags.contains(PageFlags::PRESENT));
        let swapped = collect(&runs, |flags| !flags.contains(PageFlags::PRESENT));
        self.count(&present, size);
        self.apart.add(present);
        self.unread.add(swapped);
        Ok(())
    }

    /// Private memory that something writes to behind the page tables.
    fn pinned<S: AddressSpace>(
        &mut self,
        space: &mut S,
        ranges: &[PageRange],
    ) -> Result<(), Errno> {
        let size = space.page_size();
        let present = collect(&there(space, ranges, PageFlags::empty())?, |_| true);
        self.count(&present, size);
        self.apart.add(present);
        Ok(())
    }

    /// What files hold, for mappings of files and of shared memory.
    fn files<S: AddressSpace>(
        &mut self,
        space: &mut S,
        parts: &[Part],
        mappings: &[Mapping],
    ) -> Result<(), Errno> {
        let (mut found, mut all) = (Vec::new(), Vec::new());
        let mut asked = None;
        for part in parts {
            let mapping = &mappings[part.mapping];
            if !asks_file(part, mapping) {
                continue;
            }
            if is_vdso(mapping) {
                all.push(part.range);
                continue;
            }
            if asked != Some(part.mapping) {
                found.clear();
                match space.file_pages(mapping, &mut found) {
                    Ok(()) => {}
                    Err(Errno::EACCES) => self.denied.push(mapping.range),
                    Err(errno) => return Err(errno),
                }
                asked = Some(part.mapping);
            }
            all.extend(
                found
                    .iter()
                    .filter_map(|page| page.intersection(part.range)),
            );
        }
        if all.is_empty() {
            return Ok(());
        }
        let all: RangeSet = all.into_iter().collect();
        let more = all
            .difference(&self.keep)
            .difference(&self.carried)
            .difference(&self.apart);
        self.count(&more, space.page_size());
        self.apart.add(more);
        Ok(())
    }

    /// Finds mappings that are taken for tracked and show pages that are not.
    fn find_lost(&mut self, runs: &[PageRun], tracking: Tracking, mappings: &[Mapping]) {
        if tracking != Tracking::WriteProtect {
            return;
        }
        let untracked = collect(runs, |flags| !flags.contains(PageFlags::TRACKED));
        let lost = self.tracked.intersection(&untracked);
        let mut at = 0;
        let mut replaced = Vec::new();
        for range in lost.iter() {
            at += mappings[at..].partition_point(|mapping| mapping.range.end() <= range.start());
            let over = mappings[at..]
                .iter()
                .take_while(|mapping| mapping.range.start() < range.end());
            replaced.extend(over.map(|mapping| mapping.range));
        }
        let replaced: RangeSet = replaced.into_iter().collect();
        self.lost = self.lost.union(&self.tracked.intersection(&replaced));
    }

    fn count(&mut self, set: &RangeSet, size: PageSize) {
        self.present.0 += pages(set, size);
    }
}

impl Groups {
    fn of(parts: &[Part], mappings: &[Mapping]) -> Self {
        let mut groups = Self::default();
        let (mut wiped, mut unforked) = (Vec::new(), Vec::new());
        for part in parts {
            let mapping = &mappings[part.mapping];
            match part.class {
                Class::Private => groups.anonymous.push(part.range),
                Class::PrivateFile => groups.file.push(part.range),
                Class::Foreign => groups.foreign.push(part.range),
                Class::Volatile if asks_file(part, mapping) => {}
                Class::Volatile => groups.pinned.push(part.range),
            }
            let dropped = MappingFlags::DONT_FORK | MappingFlags::WIPE_ON_FORK;
            if matches!(part.class, Class::Volatile | Class::Foreign) {
                unforked.push(part.range);
            } else if mapping.flags.intersects(dropped) {
                wiped.push(part.range);
            }
        }
        groups.wiped = wiped.into_iter().collect();
        groups.unforked = unforked.into_iter().collect();
        groups
    }
}

/// Tells whether what exists of a part is asked of the file behind it.
fn asks_file(part: &Part, mapping: &Mapping) -> bool {
    match part.class {
        Class::PrivateFile => true,
        Class::Volatile => mapping.has_file() || is_vdso(mapping),
        Class::Private | Class::Foreign => false,
    }
}

fn is_vdso(mapping: &Mapping) -> bool {
    mapping.name == "[vdso]"
}

/// Hands the pieces of `range` to `inside` and `outside` of a set, of which `set` is what lies at
/// or behind `range`; it moves on with ascending ranges.
fn split(
    range: PageRange,
    set: &mut &[PageRange],
    inside: &mut Vec<PageRange>,
    outside: &mut Vec<PageRange>,
) {
    let mut at = range.start();
    while let Some(own) = set.first() {
        if own.start() >= range.end() {
            break;
        }
        if let Some(both) = own.intersection(range) {
            outside.extend(PageRange::new(at, both.start()));
            inside.push(both);
            at = both.end();
        }
        if own.end() > range.end() {
            break;
        }
        *set = &set[1..];
    }
    outside.extend(PageRange::new(at, range.end()));
}

/// Scans for all pages that exist in `ranges`, guard pages left out.
fn there<S: AddressSpace>(
    space: &mut S,
    ranges: &[PageRange],
    also: PageFlags,
) -> Result<Vec<PageRun>, Errno> {
    let mut runs = Vec::new();
    if !ranges.is_empty() {
        let scan = Scan {
            all_of: PageFlags::empty(),
            any_of: THERE,
            report: THERE | PageFlags::TRACKED | PageFlags::GUARD | also,
            rearm: Rearm::Keep,
        };
        space.scan(&scan, ranges, &mut runs)?;
        runs.retain(|run| !run.flags.contains(PageFlags::GUARD));
    }
    Ok(runs)
}

/// Tells whether a page is as it was when it was armed.
fn unwritten(flags: PageFlags, tracking: Tracking) -> bool {
    let unwritten = !flags.contains(PageFlags::WRITTEN);
    match tracking {
        Tracking::WriteProtect => unwritten && flags.contains(PageFlags::TRACKED),
        Tracking::SoftDirty => unwritten && !flags.intersects(UNMARKED),
        Tracking::None => false,
    }
}

/// Tells whether a page of a private file mapping is the process's own for sure. What counts as
/// swapped may be a marker, with the file's content behind it.
pub(super) fn own_copy(flags: PageFlags) -> bool {
    flags.contains(PageFlags::PRESENT) && !flags.contains(PageFlags::FILE)
}

pub(super) fn collect(runs: &[PageRun], wanted: impl Fn(PageFlags) -> bool) -> RangeSet {
    runs.iter()
        .filter(|run| wanted(run.flags))
        .map(|run| run.range)
        .collect()
}

fn pages(set: &RangeSet, size: PageSize) -> u64 {
    set.len().0 >> size.shift()
}
