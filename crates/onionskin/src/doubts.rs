//! What is known of writes that page tables don't show, gathered over the time of a snapshot.

use space::RangeSet;
use sys::hazard::{Danger, Hazards, Unproven};

use crate::report::Doubt;

/// What several looks at a process found.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    pinned: RangeSet,
    unproven: Vec<Unproven>,
}

impl Doubts {
    /// Adds what a look found. What one look found and a later one does not counts all the same:
    /// memory may have been written in between.
    pub(crate) fn add(&mut self, hazards: Hazards) {
        self.pinned
            .extend(hazards.pinned.into_iter().map(|(range, _)| range));
        for unproven in hazards.unproven {
            if !self
                .unproven
                .iter()
                .any(|known| known.reason == unproven.reason)
            {
                self.unproven.push(unproven);
            }
        }
    }

    /// Memory that has to be copied while all tasks stand still.
    pub(crate) fn volatile(&self) -> &RangeSet {
        &self.pinned
    }

    /// What can't be proven. `all_frozen` tells that all memory was copied, or duplicated, while
    /// the tasks stood still, so that nothing rests on tracking.
    pub(crate) fn list(&self, all_frozen: bool) -> Vec<Doubt> {
        self.unproven
            .iter()
            .filter(|unproven| !all_frozen || unproven.danger == Danger::EvenFrozen)
            .map(|unproven| Doubt {
                ranges: unproven.ranges.clone(),
                reason: unproven.reason.clone(),
            })
            .collect()
    }
}
