//! What is known of writes that page tables don't show, gathered over the time of a snapshot.

use engine::{Part, Selection, Strategy, Taken};
use space::{AddressSpace, Mapping, MappingFlags, RangeSet};
use sys::Target;
use sys::hazard::{Danger, Hazards, Others, Unproven};

use crate::SnapshotOptions;
use crate::error::{Error, RefusedError};
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
            .cloned()
            .map(doubt)
            .collect()
    }
}

fn doubt(unproven: Unproven) -> Doubt {
    Doubt {
        ranges: unproven.ranges,
        reason: unproven.reason,
    }
}

/// Looks, before anything is touched, for what would make a strict snapshot of process `pid` fail.
pub(crate) fn foresee(pid: u32, options: &SnapshotOptions) -> Result<(), Error> {
    if !options.strict {
        return Ok(());
    }
    // Who can't be looked at is told so when it is opened.
    let Ok(hazards) = sys::hazard::inspect(pid) else {
        return Ok(());
    };
    let mut found = Doubts::default();
    found.add(hazards);
    let doubts = found.list(options.strategy != Strategy::Precopy);
    if doubts.is_empty() {
        Ok(())
    } else {
        Err(RefusedError { pid, doubts }.into())
    }
}

/// Processes that have memory of these parts as well, and may write to it during a freeze: those that
/// were there `before` it and those that are now. (Who came and went in between is not found.)
pub(crate) fn shared(
    target: &Target,
    mappings: &[Mapping],
    parts: &[Part],
    mut before: Others,
) -> Vec<Doubt> {
    let taken = parts.iter().filter_map(|part| mappings.get(part.mapping));
    let looked = before.look(taken, &target.processes());
    let failed = looked.err().map(|error| Doubt {
        ranges: Vec::new(),
        reason: format!("whether others share its memory could not be found out: {error}"),
    });
    listed(&before).into_iter().chain(failed).collect()
}

/// What is in doubt because of others.
pub(crate) fn listed(others: &Others) -> Vec<Doubt> {
    others.doubts().into_iter().map(doubt).collect()
}

/// As [`shared`], before a freeze. What can't be looked at then is told by the look after it.
pub(crate) fn others(target: &mut Target, selection: Selection) -> Others {
    let mut others = Others::default();
    if let Ok(mappings) = target.mappings() {
        let page_size = target.page_size();
        let parts = engine::select(selection, &mappings, &RangeSet::new(), page_size);
        let taken = parts.iter().filter_map(|part| mappings.get(part.mapping));
        _ = others.look(taken, &target.processes());
    }
    others
}

/// Memory that was left out because it was not to be dumped, and is so no more. What `madvise` set
/// is known from before the rounds, since asking for it walks all page tables.
pub(crate) fn left_out_in_vain(target: &Target, taken: &Taken) -> Option<Doubt> {
    // The kernel's own and devices' are never dumped.
    let special = MappingFlags::IO | MappingFlags::PFN_MAP;
    let mut left_out: RangeSet = taken
        .mappings
        .iter()
        .filter(|mapping| mapping.flags.contains(MappingFlags::DONT_DUMP))
        .filter(|mapping| !mapping.flags.intersects(special) && !mapping.name.starts_with("[v"))
        .map(|mapping| mapping.range)
        .collect();
    let parts = taken.parts.iter().map(|part| part.range).collect();
    left_out = left_out.difference(&parts);
    if left_out.is_empty() {
        return None;
    }
    let now = target.process().smaps(target.page_size()).ok()?;
    let to_be_dumped = now
        .iter()
        .map(|smap| &smap.mapping)
        .filter(|mapping| !mapping.flags.contains(MappingFlags::DONT_DUMP))
        .map(|mapping| mapping.range)
        .collect();
    left_out = left_out.intersection(&to_be_dumped);
    (!left_out.is_empty()).then(|| Doubt {
        ranges: left_out.ranges().to_vec(),
        reason:
            "left out because it was not to be dumped (MADV_DONTDUMP) when the snapshot began; \
                 by now it is"
                .into(),
    })
}
