//! Arming: asking what was written, in the same step in which it is armed again.

use space::{
    AddressSpace, ByteLen, Errno, PageFlags, PageRange, PageRun, RangeSet, Rearm, Scan, Tracking,
};

use super::look::{THERE, UNMARKED, collect, own_copy};
use super::{Look, Tracker};
use crate::Class;

/// What was armed and is to be handed to the sink.
#[derive(Debug, Default)]
pub(crate) struct Armed {
    /// Pages to read.
    pub(crate) read: RangeSet,
    /// Pages of zeros.
    pub(crate) zeros: RangeSet,
}

/// Written pages nearer to each other than this are armed in one call: a call costs about as much
/// as looking at so many pages.
const NEAR_PAGES: u64 = 512;

/// What one scan reported, for memory of one kind.
struct Found {
    file: bool,
    runs: Vec<PageRun>,
}

impl Tracker {
    /// Arms what was written since it was last armed, and all of what is fresh, and tells what has
    /// to be read. With soft-dirty bits the tasks must stand still for it.
    ///
    /// After an error every tracked page is fresh, since nobody knows what was armed.
    pub(crate) fn arm<S: AddressSpace>(&mut self, space: &mut S) -> Result<Armed, Errno> {
        let result = match space.tracking() {
            Tracking::WriteProtect => self.arm_protection(space),
            Tracking::SoftDirty => self.arm_soft_dirty(space),
            Tracking::None => Ok(Armed::default()),
        };
        match result {
            Ok(armed) => {
                let taken = armed.read.union(&armed.zeros);
                self.captured = self.captured.difference(&taken);
                self.touched = self.touched.union(&taken);
                Ok(armed)
            }
            Err(errno) => {
                self.distrust();
                Err(errno)
            }
        }
    }

    fn arm_protection<S: AddressSpace>(&mut self, space: &mut S) -> Result<Armed, Errno> {
        let file = self.file_ranges();
        let watched = self.tracked.difference(&self.fresh);
        let mut found = Vec::with_capacity(4);
        for (set, all_of) in [
            (&self.fresh, PageFlags::empty()),
            (&watched, PageFlags::WRITTEN),
        ] {
            for (part, file) in [
                (set.difference(&file), false),
                (set.intersection(&file), true),
            ] {
                let runs = rearm(space, part.ranges(), all_of, report(file))?;
                found.push(Found { file, runs });
            }
        }
        self.fresh.clear();
        Ok(self.sort_out(found))
    }

    fn arm_soft_dirty<S: AddressSpace>(&mut self, space: &mut S) -> Result<Armed, Errno> {
        let file = self.file_ranges();
        let report = report(true) | PageFlags::WRITTEN;
        let runs = rearm(space, self.tracked.ranges(), PageFlags::empty(), report)?;
        let written = collect(&runs, |flags| {
            flags.intersects(PageFlags::WRITTEN | UNMARKED)
        });
        let due = written.union(&self.fresh);
        self.fresh.clear();
        let found = [
            (due.intersection(&file), true),
            (due.difference(&file), false),
        ];
        let found = found.map(|(set, file)| Found {
            file,
            runs: restrict(&runs, &set),
        });
        Ok(self.sort_out(found.into()))
    }

    /// Tells what of the armed pages is to be read. Pages of files are left to the freeze.
    fn sort_out(&mut self, found: Vec<Found>) -> Armed {
        let mut armed = Armed::default();
        for Found { file, runs } in found {
            let guarded = |flags: PageFlags| flags.contains(PageFlags::GUARD);
            if file {
                let own = collect(&runs, |flags| !guarded(flags) && own_copy(flags));
                let others = collect(&runs, |_| true).difference(&own);
                self.captured = self.captured.difference(&others);
                armed.read = armed.read.union(&own);
            } else {
                let zero = |flags: PageFlags| flags.contains(PageFlags::ZERO);
                let read = collect(&runs, |flags| !guarded(flags) && !zero(flags));
                armed.read = armed.read.union(&read);
                armed.zeros = armed.zeros.union(&collect(&runs, zero));
                let guards = collect(&runs, guarded);
                self.captured = self.captured.difference(&guards);
            }
        }
        armed
    }

    /// Arms what is fresh ahead of a freeze and reads nothing, so that the freeze has less to arm.
    /// It stays fresh.
    pub(crate) fn arm_ahead<S: AddressSpace>(&mut self, space: &mut S) -> Result<(), Errno> {
        if space.tracking() == Tracking::WriteProtect {
            let private = self.armable(&self.parts).intersection(&self.fresh);
            rearm(space, private.ranges(), PageFlags::WRITTEN, THERE)?;
        }
        Ok(())
    }

    /// Arms, in the freeze, all that `look` found to be copied.
    pub(crate) fn arm_frozen<S: AddressSpace>(
        &mut self,
        space: &mut S,
        look: &Look,
    ) -> Result<(), Errno> {
        let taken = look.taken();
        let armable = self.armable(&look.parts).intersection(&look.tracked);
        self.touched = self.touched.union(&taken);
        // What was dropped can be armed here as well (a guard page), and would look unwritten from
        // then on. What is not selected was not even looked at.
        self.pending = taken.union(&self.captured.difference(&look.keep));
        match space.tracking() {
            Tracking::WriteProtect => {
                let near = ByteLen(NEAR_PAGES << space.page_size().shift());
                let spans = join(&taken.intersection(&armable), near).intersection(&armable);
                rearm(space, spans.ranges(), PageFlags::WRITTEN, THERE)?;
            }
            Tracking::SoftDirty => {
                let all = self.tracked.intersection(&look.tracked);
                rearm(space, all.ranges(), PageFlags::empty(), PageFlags::empty())?;
            }
            Tracking::None => {}
        }
        Ok(())
    }

    /// The ranges of private file mappings.
    fn file_ranges(&self) -> RangeSet {
        self.parts
            .iter()
            .filter(|part| part.class == Class::PrivateFile)
            .map(|part| part.range)
            .collect()
    }
}

/// What a round wants to know of each page.
fn report(file: bool) -> PageFlags {
    let report = THERE | PageFlags::ZERO | PageFlags::GUARD;
    if file {
        report | PageFlags::FILE
    } else {
        report
    }
}

pub(super) fn rearm<S: AddressSpace>(
    space: &mut S,
    ranges: &[PageRange],
    all_of: PageFlags,
    report: PageFlags,
) -> Result<Vec<PageRun>, Errno> {
    let mut runs = Vec::new();
    if !ranges.is_empty() {
        let scan = Scan {
            all_of,
            any_of: THERE,
            report,
            rearm: Rearm::Rearm,
        };
        space.scan(&scan, ranges, &mut runs)?;
    }
    Ok(runs)
}

/// Cuts sorted runs to the pages of `set`.
pub(super) fn restrict(runs: &[PageRun], set: &RangeSet) -> Vec<PageRun> {
    let mut cut = Vec::new();
    let mut at = 0;
    for run in runs {
        let ranges = set.ranges();
        while at < ranges.len() && ranges[at].end() <= run.range.start() {
            at += 1;
        }
        cut.extend(
            ranges[at..]
                .iter()
                .map_while(|own| own.intersection(run.range))
                .map(|range| PageRun {
                    range,
                    flags: run.flags,
                }),
        );
    }
    cut
}

/// Joins ranges that lie nearer to each other than `near`.
fn join(set: &RangeSet, near: ByteLen) -> RangeSet {
    let mut joined: Vec<PageRange> = Vec::new();
    for range in set.iter() {
        match joined.last_mut() {
            Some(last) if range.start().0 - last.end().0 < near.0 => {
                *last = PageRange::new(last.start(), range.end())
                    .expect("ranges of a set ascend, so that their span is a range");
            }
            _ => joined.push(range),
        }
    }
    joined.into_iter().collect()
}
