//! Watching: which pages are written, and how many there are. But for one sample, which tells what
//! reading takes here, nothing is read.

use std::time::Duration;

use space::{
    AddressSpace, Errno, Freeze, Mapping, MappingFlags, PageCount, PageFlags, PageRange, PageRun,
    PageSize, RangeSet, Rearm, Scan, Sharing, Tracking,
};

use super::Tracker;
use super::continuity::within;
use super::look::{THERE, collect};
use super::round::{rearm, restrict};
use super::tracker::Wish;
use crate::carry::timed;
use crate::{Class, Clock, Costs, Forks, Load, Outlook, Pace, Selection, auto};

/// Whether writes to a mapping are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// All of them are.
    Yes,
    /// Those of this process through this mapping are; others who share the memory may write too.
    OwnWrites,
    /// It is not watched, for this reason.
    No(Errno),
    /// It can't be: memory of a device, or the kernel's own.
    Special,
}

/// One mapping during one interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingActivity {
    /// The mapping, as it was at the end of the interval.
    pub mapping: Mapping,
    /// Pages in the page tables, or swapped out.
    pub present: PageCount,
    /// Pages that were written during the interval, new ones among them.
    pub written: PageCount,
    /// Which pages those are.
    pub written_ranges: Vec<PageRange>,
    /// Whether writes to it are seen.
    pub watched: Watched,
}

/// What was written during one interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity {
    /// How long the interval was; zero for the first one, in which nothing counts as written.
    pub elapsed: Duration,
    /// Every mapping, sorted by address.
    pub mappings: Vec<MappingActivity>,
    /// How long the tasks stood still for the look; zero unless soft-dirty bits are used. Stops to
    /// register new mappings are the address space's own, and not counted here.
    pub stopped: Duration,
    /// What a freeze would have to deal with now, if everything had been copied at the start of
    /// the interval; [`auto`] tells what rounds would leave of it.
    pub load: Load,
}

/// Why a process can't be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The process is gone.
    #[error("the process ended, or runs another program now")]
    Gone,
    /// Writes can't be tracked at all.
    #[error("writes of this process can't be tracked on this system; see `onionskin doctor`")]
    NoTracking,
    /// The tasks could not be stopped, which soft-dirty bits need.
    #[error("the tasks could not be stopped: {0}")]
    Stop(Errno),
    /// The look took so long that the tasks were let go before it was over: what they wrote meanwhile
    /// may have gone unseen.
    #[error(
        "looking at the memory took longer than the tasks may stand still for it ({0:?}), so that \
         writes may have gone unseen: try again when the machine is less busy"
    )]
    Overdue(Duration),
    /// The memory could not be looked at.
    #[error("looking at the memory failed: {0}")]
    Look(Errno),
}

/// How long the tasks may stand still for a look, which is only so with soft-dirty bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookLimits {
    /// Until the last of them stands.
    pub stop: Duration,
    /// For the look itself, which takes longer the more memory there is.
    pub look: Duration,
}

impl WatchError {
    fn look(errno: Errno) -> Self {
        if errno == Errno::ESRCH {
            Self::Gone
        } else {
            Self::Look(errno)
        }
    }
}

/// Watches which pages of a process are written, interval by interval.
#[derive(Debug, Default)]
pub struct Watcher {
    pub(super) tracker: Tracker,
    /// When the last interval ended.
    before: Option<Duration>,
    /// What looking and copying take here, as measured; nothing before the first look.
    costs: Option<Costs>,
}

/// What one interval's scans found.
struct Seen {
    written: RangeSet,
    present: RangeSet,
}

impl Watcher {
    /// Makes a watcher that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends an interval: tells what was written since the last call, and begins the next one. The
    /// first call begins the first interval, and reports nothing as written.
    ///
    /// With soft-dirty bits the tasks are stopped for it, for no longer than `limits` say.
    ///
    /// # Errors
    ///
    /// See [`WatchError`]. After [`WatchError::Stop`] it may be tried again as if nothing had happened.
    /// So it may after [`WatchError::Overdue`] and [`WatchError::Look`], but what was written in the
    /// interval is not known then, and a new one begins.
    pub fn interval<S, C>(
        &mut self,
        space: &mut S,
        clock: &C,
        limits: LookLimits,
    ) -> Result<Activity, WatchError>
    where
        S: AddressSpace + Freeze,
        C: Clock,
    {
        let (seen, now, stopped) = match space.tracking() {
            Tracking::None => return Err(WatchError::NoTracking),
            Tracking::WriteProtect => {
                let seen = self.look(space, clock).map_err(WatchError::look)?;
                (seen, clock.now(), Duration::ZERO)
            }
            Tracking::SoftDirty => {
                let began = clock.now();
                space.stop(limits.stop).map_err(|errno| match errno {
                    Errno::ESRCH => WatchError::Gone,
                    _ => WatchError::Stop(errno),
                })?;
                space.hold(limits.look);
                let took = clock.now().saturating_sub(began);
                self.costs(space.page_size()).stopped(took);
                let seen = self.look(space, clock);
                if space.resume().is_err() {
                    // Writes between reading and clearing the bits went unseen.
                    self.before = None;
                    return Err(WatchError::Overdue(limits.look));
                }
                let now = clock.now();
                let stopped = now.saturating_sub(began);
                (seen.map_err(WatchError::look)?, now, stopped)
            }
        };
        let elapsed = self
            .before
            .map_or(Duration::ZERO, |before| now.saturating_sub(before));
        let first = self.before.replace(now).is_none();
        if first {
            // A forecast is worth less without, and that is all.
            _ = self.sample(space, clock);
        }
        let shift = space.page_size().shift();
        let mappings = self.by_mapping(&seen, shift);
        Ok(Activity {
            elapsed,
            load: self.load(&mappings, shift),
            mappings,
            stopped,
        })
    }

    /// Forecasts a snapshot that is taken now, as [`auto`] does, from what looking and
    /// copying take here. Nobody has forked the process: what that takes is a rough guess.
    pub fn outlook(&self, activity: &Activity, page_size: PageSize, forks: Forks) -> Outlook {
        let pace = Pace {
            written: activity.load.changed,
            elapsed: activity.elapsed,
        };
        let costs = self.costs.unwrap_or_else(|| Costs::new(page_size));
        auto(&activity.load, pace, &costs, forks)
    }

    pub(super) fn costs(&mut self, page_size: PageSize) -> &mut Costs {
        self.costs.get_or_insert_with(|| Costs::new(page_size))
    }

    fn look<S: AddressSpace, C: Clock>(&mut self, space: &mut S, clock: &C) -> Result<Seen, Errno> {
        let nothing = RangeSet::new();
        self.tracker
            .refresh(space, Selection::All, &nothing, Wish::Any)?;
        let tracking = space.tracking();
        let written = match self.written(space, tracking) {
            Ok(written) => written,
            Err(errno) => {
                // Nobody knows what was armed: the next interval begins anew.
                self.before = None;
                return Err(errno);
            }
        };
        let (took, runs) = timed(clock, || self.present(space));
        let runs = runs?;
        let there = collect(&runs, |_| true);
        let page_size = space.page_size();
        let pages = PageCount(there.len().0 >> page_size.shift());
        self.costs(page_size).looked(pages, took);
        if tracking == Tracking::WriteProtect {
            let untracked = collect(&runs, |flags| !flags.contains(PageFlags::TRACKED));
            let lost = self.lost(&untracked);
            self.tracker.lose(&lost);
        }
        let written = if self.before.is_some() {
            written
        } else {
            nothing
        };
        Ok(Seen {
            written,
            present: there,
        })
    }

    /// Arms what was written and what is new, and returns both.
    fn written<S: AddressSpace>(
        &mut self,
        space: &mut S,
        tracking: Tracking,
    ) -> Result<RangeSet, Errno> {
        let fresh = std::mem::take(&mut self.tracker.fresh);
        let tracked = &self.tracker.tracked;
        if tracking == Tracking::SoftDirty {
            let report = THERE | PageFlags::WRITTEN;
            let runs = rearm(space, tracked.ranges(), PageFlags::empty(), report)?;
            let written = collect(&runs, |flags| flags.contains(PageFlags::WRITTEN));
            let new = restrict(&runs, &fresh);
            return Ok(written.union(&collect(&new, |_| true)));
        }
        let new = rearm(space, fresh.ranges(), PageFlags::empty(), THERE)?;
        let watched = tracked.difference(&fresh);
        let old = rearm(space, watched.ranges(), PageFlags::WRITTEN, THERE)?;
        Ok(collect(&new, |_| true).union(&collect(&old, |_| true)))
    }

    fn present<S: AddressSpace>(&self, space: &mut S) -> Result<Vec<PageRun>, Errno> {
        let ranges: Vec<_> = self
            .tracker
            .layout
            .iter()
            .filter(|mapping| !special(mapping))
            .map(|mapping| mapping.range)
            .collect();
        let mut runs = Vec::new();
        if !ranges.is_empty() {
            let scan = Scan {
                all_of: PageFlags::empty(),
                any_of: THERE,
                report: PageFlags::TRACKED,
                rearm: Rearm::Keep,
            };
            space.scan(&scan, &ranges, &mut runs)?;
        }
        Ok(runs)
    }

    /// The tracked ranges of mappings that show untracked pages: they were replaced.
    fn lost(&self, untracked: &RangeSet) -> RangeSet {
        let wrong = self.tracker.tracked.intersection(untracked);
        let replaced: RangeSet = self
            .tracker
            .layout
            .iter()
            .map(|mapping| mapping.range)
            .filter(|&range| inside(range, &wrong).next().is_some())
            .collect();
        self.tracker.tracked.intersection(&replaced)
    }

    fn by_mapping(&self, seen: &Seen, shift: u32) -> Vec<MappingActivity> {
        let pages = |ranges: &mut dyn Iterator<Item = PageRange>| {
            PageCount(ranges.map(|range| range.len().0).sum::<u64>() >> shift)
        };
        self.tracker
            .layout
            .iter()
            .map(|mapping| {
                let written: Vec<_> = inside(mapping.range, &seen.written).collect();
                MappingActivity {
                    present: pages(&mut inside(mapping.range, &seen.present)),
                    written: pages(&mut written.iter().copied()),
                    written_ranges: written,
                    watched: self.watched(mapping),
                    mapping: mapping.clone(),
                }
            })
            .collect()
    }

    fn watched(&self, mapping: &Mapping) -> Watched {
        if special(mapping) {
            return Watched::Special;
        }
        let refused = self
            .tracker
            .refused
            .iter()
            .find(|(range, _)| range.intersection(mapping.range).is_some());
        match refused {
            Some(&(_, errno)) => Watched::No(errno),
            None if self.tracker.tracked.covers(mapping.range) => match mapping.sharing {
                Sharing::Private => Watched::Yes,
                Sharing::Shared => Watched::OwnWrites,
            },
            None if mapping.flags.contains(MappingFlags::USERFAULT_WAITS) => {
                Watched::No(Errno::EBUSY)
            }
            None => Watched::No(Errno::EACCES),
        }
    }

    fn load(&self, mappings: &[MappingActivity], shift: u32) -> Load {
        let mut load = Load::default();
        for part in &self.tracker.parts {
            let activity = &mappings[part.mapping];
            load.present.0 += activity.present.0;
            match part.class {
                Class::Private => {
                    load.forked.0 += activity.present.0;
                    load.changed.0 += activity.written.0 << shift;
                    load.total.0 += activity.present.0 << shift;
                }
                Class::Volatile | Class::Foreign => {
                    load.volatile.0 += activity.present.0 << shift;
                }
                Class::PrivateFile => {}
            }
        }
        load
    }
}

/// Memory without pages that could be asked for.
fn special(mapping: &Mapping) -> bool {
    mapping
        .flags
        .intersects(MappingFlags::IO | MappingFlags::PFN_MAP)
        || mapping.name.starts_with("[v")
}

/// The parts of `set` that lie in `range`.
fn inside(range: PageRange, set: &RangeSet) -> impl Iterator<Item = PageRange> + '_ {
    within(std::iter::once(range), set)
}
