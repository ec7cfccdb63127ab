//! The state over rounds and snapshots.

use space::{AddressSpace, Errno, Mapping, PageRange, RangeSet, Tracked, Tracking};

use super::Look;
use super::continuity::{Continuity, continuing, within};
use crate::{Class, Part, Selection, select};

/// What is known of a target from one look to the next: what is tracked, and which pages' contents
/// the sinks of its snapshots hold already. One tracker belongs to one target, and to one chain of
/// snapshots of it.
///
/// # Invariants
///
/// * `captured` and `fresh` lie in `tracked` and are disjoint from each other where it matters: a
///   page that is armed is captured or fresh.
/// * A captured page that a scan shows as tracked and not written is as the chain holds it.
/// * `held` is what the chain of finished snapshots holds; `touched` is what was handed to the
///   sink, or armed, since the last finished one.
#[derive(Debug, Default)]
pub struct Tracker {
    pub(super) layout: Vec<Mapping>,
    pub(super) parts: Vec<Part>,
    /// Ranges that are registered, as far as we know.
    pub(super) tracked: RangeSet,
    /// Ranges that could not be registered.
    pub(super) refused: Vec<(PageRange, Errno)>,
    /// Pages whose content, as of their last arming or later, went to the sink.
    pub(super) captured: RangeSet,
    /// What was captured while the target ran, and not as it stood still.
    running: RangeSet,
    /// Tracked ranges of which every page must be taken, not only those that are written.
    pub(super) fresh: RangeSet,
    pub(super) held: RangeSet,
    pub(super) touched: RangeSet,
    /// What the freeze under way armed, or did not find as it was captured.
    pub(super) pending: RangeSet,
}

/// What a refresh has tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Memory whose page tables tell the truth about its writes.
    Trusted,
    /// Everything that can be: who only watches is content with the writes of this process.
    Any,
    /// Nothing new.
    Nothing,
}

impl Tracker {
    /// Makes a tracker that knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the pages that the chain of finished snapshots holds.
    pub fn held(&self) -> &RangeSet {
        &self.held
    }

    /// Returns the ranges that could not be tracked, and why. They are copied in each freeze.
    pub fn refused(&self) -> &[(PageRange, Errno)] {
        &self.refused
    }

    /// Returns the pages that went to the sink as they were read while the target ran.
    pub(crate) fn read_running(&self) -> &RangeSet {
        &self.running
    }

    /// Forgets what could not be tracked, so that it is tried again.
    pub(crate) fn begin(&mut self) {
        self.refused.clear();
    }

    /// Looks at the mappings, forgets what is gone, and has new memory tracked.
    pub(crate) fn refresh<S: AddressSpace>(
        &mut self,
        space: &mut S,
        selection: Selection,
        volatile: &RangeSet,
        wish: Wish,
    ) -> Result<(), Errno> {
        let mappings = space.mappings()?;
        self.parts = select(selection, &mappings, volatile, space.page_size());
        let same = continuing(&self.layout, &mappings, continuity(space.tracking()));
        self.layout = mappings;
        let wanted: RangeSet = self.wanted(wish).collect();
        self.untrack_all_but(&same.intersection(&wanted));
        self.refused
            .retain(|&(range, _)| same.covers(range) && wanted.covers(range));
        if wish != Wish::Nothing && space.tracking() != Tracking::None {
            self.track_new(space, wish)?;
        }
        Ok(())
    }

    /// The ranges of all parts that are to be tracked.
    fn wanted(&self, wish: Wish) -> impl Iterator<Item = PageRange> {
        self.parts
            .iter()
            .filter(move |part| {
                matches!(part.class, Class::Private | Class::PrivateFile)
                    || (wish == Wish::Any && part.class == Class::Volatile)
            })
            .map(|part| part.range)
    }

    fn track_new<S: AddressSpace>(&mut self, space: &mut S, wish: Wish) -> Result<(), Errno> {
        let refused: RangeSet = self.refused.iter().map(|&(range, _)| range).collect();
        let known = self.tracked.union(&refused);
        let wanted: RangeSet = self.wanted(wish).collect();
        let new = wanted.difference(&known);
        let new: Vec<_> = within(self.wanted(wish), &new).collect();
        if new.is_empty() {
            return Ok(());
        }
        let mut outcome = Vec::with_capacity(new.len());
        let result = space.track(&new, &mut outcome);
        let mut added = Vec::new();
        for tracked in outcome {
            match tracked {
                Tracked::Yes(range) => added.push(range),
                Tracked::No(range, errno) => self.refused.push((range, errno)),
            }
        }
        let added: RangeSet = added.into_iter().collect();
        self.tracked = self.tracked.union(&added);
        self.fresh = self.fresh.union(&added);
        self.captured = self.captured.difference(&added);
        result
    }

    pub(super) fn untrack_all_but(&mut self, kept: &RangeSet) {
        self.tracked = self.tracked.intersection(kept);
        self.captured = self.captured.intersection(&self.tracked);
        self.fresh = self.fresh.intersection(&self.tracked);
    }

    /// Forgets the registration of ranges that lost it, so that they are tracked again.
    pub(crate) fn lose(&mut self, lost: &RangeSet) {
        if !lost.is_empty() {
            let kept = self.tracked.difference(lost);
            self.untrack_all_but(&kept);
        }
    }

    /// Takes anew what `look` did not find as it was captured. With soft-dirty bits that may not be
    /// seen again: a page table that was moved away, so that another was read in its place, may be
    /// back later, and nothing tells of it.
    pub(crate) fn doubt(&mut self, look: &Look) {
        let doubtful = self.captured.difference(&look.keep);
        self.captured = self.captured.difference(&doubtful);
        self.fresh = self.fresh.union(&doubtful);
    }

    /// Takes note that the pages of `taken` went to the sink after they were armed, but for
    /// those of `missed`.
    pub(crate) fn captured(&mut self, taken: &RangeSet, missed: &RangeSet) {
        let good = taken.difference(missed).intersection(&self.tracked);
        self.captured = self.captured.union(&good);
        self.running = self.running.union(&good);
        self.fresh = self.fresh.union(&missed.intersection(&self.tracked));
    }

    /// Takes note that `pages` go to the sink, whatever becomes of the snapshot.
    pub(crate) fn handing_over(&mut self, pages: &RangeSet) {
        self.touched = self.touched.union(pages);
    }

    /// Returns the pages that the chain, with all that went to the sink, holds and a snapshot of
    /// `next` must not.
    pub(crate) fn discards(&self, next: &RangeSet) -> RangeSet {
        self.held.union(&self.touched).difference(next)
    }

    /// Takes over what a freeze found, once all of it is with the sink. `rearmed` tells whether
    /// what was copied was armed again in that freeze, `next` what the snapshot holds.
    ///
    /// Returns the mappings and their parts.
    pub(crate) fn commit(
        &mut self,
        look: Look,
        next: RangeSet,
        rearmed: Rearmed,
    ) -> (Vec<Mapping>, Vec<Part>) {
        self.untrack_all_but(&look.tracked);
        self.captured = look.keep.intersection(&self.tracked);
        self.running = self.running.intersection(&self.captured);
        if rearmed == Rearmed::Yes {
            let armed = self.armable(&look.parts);
            self.captured = self.captured.union(&next.intersection(&armed));
            let missing = look.taken().intersection(&armed).difference(&next);
            self.fresh = self.fresh.difference(&armed).union(&missing);
        }
        self.layout.clone_from(&look.mappings);
        self.parts.clone_from(&look.parts);
        self.held = next;
        self.touched.clear();
        self.pending.clear();
        (look.mappings, look.parts)
    }

    /// Takes note that nobody knows what was armed, and when.
    pub(crate) fn distrust(&mut self) {
        self.captured.clear();
        self.fresh = self.tracked.clone();
    }

    /// Takes note that a freeze was given up: what it armed did not reach the sink.
    pub(crate) fn abandon(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        self.captured = self.captured.difference(&pending);
        self.fresh = self.fresh.union(&pending.intersection(&self.tracked));
    }

    /// Takes back all that was done since the last finished snapshot: nothing of it is with a
    /// sink that counts.
    pub(crate) fn fail(&mut self) {
        let touched = std::mem::take(&mut self.touched).union(&self.pending);
        self.pending.clear();
        self.captured = self.captured.difference(&touched);
        self.fresh = self.fresh.union(&touched.intersection(&self.tracked));
    }

    /// The tracked ranges of `parts` that are armed in a freeze: those whose pages' contents the
    /// process alone changes.
    pub(super) fn armable(&self, parts: &[Part]) -> RangeSet {
        let private: RangeSet = parts
            .iter()
            .filter(|part| part.class == Class::Private)
            .map(|part| part.range)
            .collect();
        self.tracked.intersection(&private)
    }
}

/// Whether what a freeze copied was armed again in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rearmed {
    /// The next look will show only what is written from then on.
    Yes,
    /// The next look will show it all once more.
    No,
}

pub(super) fn continuity(tracking: Tracking) -> Continuity {
    match tracking {
        Tracking::SoftDirty => Continuity::Mappings,
        Tracking::WriteProtect | Tracking::None => Continuity::Pages,
    }
}
