//! What follows a freeze: its pages go to the sink, the forked child is read, and the tracker takes
//! over what was found. Comparing belongs here too, since it needs the pages in the sink.

use std::time::Duration;

use space::{
    AddressSpace, ByteLen, Freeze, PageCount, PageFlags, PageRange, PageRun, PageSource, RangeSet,
    Rearm, Scan,
};

use super::doubts::doubts;
use super::freeze::{Halt, Held};
use super::frozen::{Frozen, Step};
use super::policy::Way;
use super::take::{Work, failure};
use super::{Doubt, Event, Observer, SnapshotError, Taken, Verified, Verifier, Verify};
use crate::carry::{Carrier, Missing, timed};
use crate::track::{Depth, Look, Tracker};
use crate::{Clock, Part};

/// A snapshot that is with the sink, and taken over by the tracker.
pub(super) struct Done {
    held: Held,
    mappings: Vec<space::Mapping>,
    parts: Vec<Part>,
    pages_total: PageCount,
    doubts: Vec<Doubt>,
}

impl<K, C, O> Work<'_, K, C, O>
where
    K: Verifier + Sync,
    K::Error: Send,
    C: Clock,
    O: Observer,
{
    /// Hands everything to the sink and commits. The target runs.
    pub(super) fn finish<T: AddressSpace>(
        &mut self,
        mut held: Held,
        twin: Option<&mut T>,
    ) -> Result<Done, Halt<K::Error>> {
        self.hand_over(self.carrier, &mut held, &mut |_| {})?;
        self.bytes_read.0 += held.copied.difference(&held.unreadable).len().0;
        if let Some(twin) = twin {
            self.read_twin(&mut held, twin)?;
        }
        let next = held.next();
        self.tracker
            .discards(&next)
            .iter()
            .try_for_each(|range| self.sink.discard(range))
            .map_err(SnapshotError::Sink)?;
        let pages_total = self.pages(&next);
        let look = std::mem::take(&mut held.look);
        let doubts = doubts(&look, self.tracker, held.tracking, self.page_size());
        let (mappings, parts) = self.tracker.commit(look, next, held.rearmed);
        Ok(Done {
            held,
            mappings,
            parts,
            pages_total,
            doubts,
        })
    }

    /// Gives the sink what was copied in the freeze, unless it has it.
    fn hand_over(
        &mut self,
        carrier: Carrier,
        held: &mut Held,
        goes_on: &mut dyn FnMut(ByteLen),
    ) -> Result<(), SnapshotError<K::Error>> {
        if held.handed_over {
            return Ok(());
        }
        held.handed_over = true;
        self.tracker.handing_over(&held.look.taken());
        let total = self.pages(&held.copied);
        let shift = self.page_size().shift();
        let observer = &mut *self.observer;
        carrier
            .hand_over(self.sink, &held.batches, &held.filled, &mut |done| {
                goes_on(done);
                observer.event(&Event::Progress {
                    done: PageCount(done.0 >> shift),
                    total,
                });
            })
            .map_err(failure("keeping what was copied"))?;
        held.filled.clear();
        self.put_zeros(&held.look.zeros)
    }

    /// Reads from the forked child what it carries.
    fn read_twin<T: AddressSpace>(
        &mut self,
        held: &mut Held,
        twin: &mut T,
    ) -> Result<(), Halt<K::Error>> {
        let carried = &held.look.carried;
        let wiped = carried.difference(&present_in(twin, carried)?);
        if !wiped.is_empty() {
            return Err(Halt::Wiped(wiped));
        }
        let reader = twin.reader();
        let pumped = self.pump(&*reader, carried, Missing::TryEach)?;
        self.bytes_read.0 += pumped.bytes.0;
        let look = &held.look;
        let mut read = carried.clone();
        if self.options.verify == Verify::Yes {
            self.observer.event(&Event::Verifying);
            read = look.keep.union(carried).difference(&look.unforked);
            self.compare(
                self.carrier,
                &*reader,
                &read,
                &mut held.verified,
                &mut |_| {},
            )?;
        }
        let lost = truncated(twin, &read.intersection(&look.file_copies()))?;
        let gone = pumped.missed.union(&lost);
        if gone.is_empty() {
            Ok(())
        } else {
            Err(Halt::Wiped(gone))
        }
    }

    /// Compares, while the target stands still, all that it alone can be compared with.
    pub(super) fn verify_frozen<S: AddressSpace + Freeze>(
        &mut self,
        frozen: &mut Frozen<'_, S>,
        held: &mut Held,
        way: Way,
    ) -> Result<(), Halt<K::Error>> {
        self.observer.event(&Event::Verifying);
        let clock = self.clock;
        let began = clock.now();
        frozen.enter(Step::Keep, began)?;
        // Its time is no part of what was promised.
        frozen.limits.promise = Duration::MAX;
        let carrier = self.carrier.urgent();
        self.hand_over(carrier, held, &mut |_| frozen.go_on(clock.now()))?;
        frozen.enter(Step::Compare, clock.now())?;
        let volatile = self.volatile();
        let selection = self.options.selection;
        // Somebody who knows nothing takes everything.
        let all = Look::take(
            &Tracker::new(),
            frozen.space,
            selection,
            &volatile,
            Depth::Full,
        )
        .map_err(|errno| SnapshotError::space("looking at the memory again", errno))?;
        let next = held.next();
        let selected: RangeSet = held.look.parts.iter().map(|part| part.range).collect();
        let lacking = all
            .taken()
            .intersection(&selected)
            .difference(&next)
            .difference(&held.unreadable);
        let set = match way {
            Way::Copy => next,
            Way::Fork => next
                .difference(&held.look.carried)
                .intersection(&held.look.unforked)
                .union(&held.look.zeros),
        };
        let mut verified = None;
        let reader = frozen.space.reader();
        self.compare(carrier, &*reader, &set, &mut verified, &mut |_| {
            frozen.go_on(clock.now());
        })?;
        frozen.enter(Step::Compare, clock.now())?;
        let lacking = self.without_zeros(&*reader, &lacking);
        if let Some(verified) = &mut verified {
            verified.differences = verified.differences.union(&lacking);
            verified.duration = self.clock.now().saturating_sub(began);
        }
        held.verified = verified;
        Ok(())
    }

    /// Returns the pages of `set` that hold anything but zeros, or can't be read: a page of zeros
    /// is as good as one that is not there, and a fork makes some (where its frames lay).
    fn without_zeros<R: PageSource>(&self, source: &R, set: &RangeSet) -> RangeSet {
        let mut page = vec![0; self.page_size().as_usize()];
        let pages = set
            .iter()
            .flat_map(|range| range.chunks(ByteLen(self.page_size().bytes())));
        let mut full = |one: &PageRange| {
            source.read(&[*one], &mut page).is_err() || page.iter().any(|&byte| byte != 0)
        };
        pages.filter(|one| full(one)).collect()
    }

    fn compare<R: PageSource + Sync>(
        &self,
        carrier: Carrier,
        source: &R,
        set: &RangeSet,
        verified: &mut Option<Verified>,
        goes_on: &mut dyn FnMut(ByteLen),
    ) -> Result<(), SnapshotError<K::Error>> {
        let (took, differences) = timed(self.clock, || {
            carrier.compare(source, self.sink, set, goes_on)
        });
        let differences = differences.map_err(failure("comparing pages"))?;
        let sum = verified.get_or_insert_with(Verified::default);
        sum.duration += took;
        sum.pages.0 += self.pages(set).0;
        sum.differences = sum.differences.union(&differences);
        Ok(())
    }

    /// Finds what a forked child lacks of the pages that it is to be read or compared by. Only a
    /// comparison is worth the time in the freeze; without it they are found after it.
    pub(super) fn twin_lacks<T: AddressSpace>(
        &self,
        twin: &mut T,
        look: &Look,
    ) -> Result<RangeSet, SnapshotError<K::Error>> {
        let mappings = twin
            .mappings()
            .map_err(|errno| SnapshotError::space(TWIN, errno))?;
        let mapped: RangeSet = mappings.iter().map(|mapping| mapping.range).collect();
        if self.options.verify == Verify::No {
            return Ok(look.carried.difference(&mapped));
        }
        let all = look.keep.union(&look.carried);
        let there = present_in(twin, &all.intersection(&mapped))?;
        Ok(all.difference(&there))
    }

    /// Puts together what the caller is told.
    pub(super) fn report(&mut self, done: Done) -> Taken {
        let Done {
            held,
            mappings,
            parts,
            pages_total,
            doubts,
        } = done;
        Taken {
            strategy: held.strategy,
            rounds: std::mem::take(&mut self.rounds),
            freeze: held.times,
            stops: std::mem::take(&mut self.stops),
            tasks: held.tasks,
            mappings,
            parts,
            pages_total,
            pages_copied_frozen: self.pages(&held.copied),
            bytes_read: self.bytes_read,
            verified: held.verified,
            attempts: self.attempts,
            unreadable: held.unreadable.ranges().to_vec(),
            doubts,
            warnings: std::mem::take(&mut self.warnings),
        }
    }
}

const TWIN: &str = "looking at the forked child";

/// Returns which pages of `set`, all copies of files' pages, the forked child has lost: whoever
/// truncates a file takes the private copies of its pages from everybody, and what was read in
/// their place was the file's.
fn truncated<T: AddressSpace, E>(
    twin: &mut T,
    set: &RangeSet,
) -> Result<RangeSet, SnapshotError<E>> {
    let scan = Scan {
        all_of: PageFlags::empty(),
        any_of: PageFlags::PRESENT | PageFlags::SWAPPED,
        report: PageFlags::FILE,
        rearm: Rearm::Keep,
    };
    let mut runs: Vec<PageRun> = Vec::new();
    if !set.is_empty() {
        twin.scan(&scan, set.ranges(), &mut runs)
            .map_err(|errno| SnapshotError::space(TWIN, errno))?;
    }
    let own = runs
        .iter()
        .filter(|run| !run.flags.contains(PageFlags::FILE));
    let own: RangeSet = own.map(|run| run.range).collect();
    Ok(set.difference(&own))
}

/// Returns which pages of `set` the forked child has.
fn present_in<T: AddressSpace, E>(
    twin: &mut T,
    set: &RangeSet,
) -> Result<RangeSet, SnapshotError<E>> {
    let there = PageFlags::PRESENT | PageFlags::SWAPPED;
    let scan = Scan {
        all_of: PageFlags::empty(),
        any_of: there,
        report: there,
        rearm: Rearm::Keep,
    };
    let mut runs: Vec<PageRun> = Vec::new();
    if !set.is_empty() {
        twin.scan(&scan, set.ranges(), &mut runs)
            .map_err(|errno| SnapshotError::space(TWIN, errno))?;
    }
    Ok(runs.iter().map(|run| run.range).collect())
}
