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
    /// What the last look saw mapped.
    mapped: RangeSet,
}

impl Doubts {
    /// Adds what a look found. What one look found and a later one does not counts all the same:
    /// memory may have been written in between.
    pub(crate) fn add(&mut self, hazards: Hazards) {
        self.mapped = hazards.mapped;
        self.pinned
            .extend(hazards.pinned.into_iter().map(|(range, _)| range));
        for unproven in hazards.unproven {
            let mut known = self.unproven.iter_mut();
            match known.find(|known| known.reason == unproven.reason) {
                None => self.unproven.push(unproven),
                Some(known) => {
                    if unproven.danger == Danger::EvenFrozen {
                        known.danger = unproven.danger;
                    }
                    // None named stands for any of the memory.
                    if known.ranges.is_empty() || unproven.ranges.is_empty() {
                        known.ranges.clear();
                        continue;
                    }
                    let ranges: RangeSet = (known.ranges.iter().copied())
                        .chain(unproven.ranges)
                        .collect();
                    known.ranges = ranges.ranges().to_vec();
                }
            }
        }
    }

    /// Memory that has to be copied while all tasks stand still.
    pub(crate) fn volatile(&self) -> &RangeSet {
        &self.pinned
    }

    /// What can't be proven of memory that the last look saw still. `all_frozen` tells that all memory
    /// was copied, or duplicated, while the tasks stood still, so that nothing rests on tracking.
    pub(crate) fn list(&self, all_frozen: bool) -> Vec<Doubt> {
        self.list_within(&self.mapped, all_frozen)
    }

    /// As [`list`](Self::list), of the memory in `kept` alone. What is gone can't be wrong.
    pub(crate) fn list_within(&self, kept: &RangeSet, all_frozen: bool) -> Vec<Doubt> {
        let counts = |unproven: &&Unproven| !all_frozen || unproven.danger == Danger::EvenFrozen;
        self.unproven
            .iter()
            .filter(counts)
            .filter_map(|unproven| doubt_within(unproven, kept))
            .collect()
    }
}

fn doubt(unproven: Unproven) -> Doubt {
    Doubt {
        ranges: unproven.ranges,
        reason: unproven.reason,
    }
}

/// What of a doubt is about the memory in `kept`. One without ranges is about no place that is known.
fn doubt_within(unproven: &Unproven, kept: &RangeSet) -> Option<Doubt> {
    let ranges: RangeSet = unproven.ranges.iter().copied().collect();
    let left = ranges.intersection(kept);
    (ranges.is_empty() || !left.is_empty()).then(|| Doubt {
        ranges: left.ranges().to_vec(),
        reason: unproven.reason.clone(),
    })
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
    let taken: Vec<&Mapping> = of_parts(mappings, parts).collect();
    let looked = before.look(taken.iter().copied(), &target.processes());
    let failed = looked.err().map(|error| Doubt {
        ranges: Vec::new(),
        reason: format!("whether others share its memory could not be found out: {error}"),
    });
    let found = before.doubts(taken).into_iter().map(doubt);
    found.chain(failed).collect()
}

fn of_parts<'a>(mappings: &'a [Mapping], parts: &[Part]) -> impl Iterator<Item = &'a Mapping> {
    parts.iter().filter_map(|part| mappings.get(part.mapping))
}

/// As [`shared`], before a freeze: who there is, and what is in doubt because of them already. What
/// can't be looked at then is told by the look after it.
pub(crate) fn others(target: &mut Target, selection: Selection) -> (Others, Vec<Doubt>) {
    let mut others = Others::default();
    let mut doubts = Vec::new();
    if let Ok(mappings) = target.mappings() {
        let page_size = target.page_size();
        let parts = engine::select(selection, &mappings, &RangeSet::new(), page_size);
        let taken: Vec<&Mapping> = of_parts(&mappings, &parts).collect();
        _ = others.look(taken.iter().copied(), &target.processes());
        doubts.extend(others.doubts(taken).into_iter().map(doubt));
    }
    (others, doubts)
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

#[cfg(test)]
mod tests {
    use space::{PageRange, Vaddr};

    use super::*;

    fn range(from: u64, to: u64) -> PageRange {
        PageRange::new(Vaddr(from << 16), Vaddr(to << 16)).unwrap()
    }

    fn look(mapped: PageRange, danger: Danger, ranges: &[PageRange]) -> Hazards {
        Hazards {
            mapped: [mapped].into_iter().collect(),
            unproven: vec![Unproven {
                ranges: ranges.to_vec(),
                reason: "a device may write".into(),
                danger,
            }],
            ..Hazards::default()
        }
    }

    fn ranges(doubts: &[Doubt]) -> Vec<PageRange> {
        doubts
            .iter()
            .flat_map(|doubt| doubt.ranges.clone())
            .collect()
    }

    #[test]
    fn what_is_gone_is_in_doubt_no_more() {
        let mut doubts = Doubts::default();
        doubts.add(look(range(1, 9), Danger::EvenFrozen, &[range(1, 3)]));
        assert_eq!(ranges(&doubts.list(true)), [range(1, 3)]);
        let calm = |mapped| Hazards {
            mapped: [mapped].into_iter().collect(),
            ..Hazards::default()
        };
        doubts.add(calm(range(2, 9)));
        assert_eq!(ranges(&doubts.list(true)), [range(2, 3)]);
        doubts.add(calm(range(3, 9)));
        assert!(doubts.list(true).is_empty());
    }

    #[test]
    fn what_was_not_taken_is_not_in_doubt() {
        let mut doubts = Doubts::default();
        doubts.add(look(range(1, 9), Danger::EvenFrozen, &[range(1, 3)]));
        let within = |from, to| {
            let kept = [range(from, to)].into_iter().collect();
            ranges(&doubts.list_within(&kept, true))
        };
        assert_eq!(within(2, 5), [range(2, 3)]);
        assert!(within(3, 5).is_empty());
    }

    #[test]
    fn what_may_be_anywhere_stays_in_doubt() {
        let mut doubts = Doubts::default();
        doubts.add(look(range(1, 9), Danger::EvenFrozen, &[]));
        assert_eq!(doubts.list_within(&RangeSet::new(), true).len(), 1);
    }

    #[test]
    fn the_same_reason_counts_for_all_that_it_was_given_for() {
        let mut doubts = Doubts::default();
        doubts.add(look(range(1, 9), Danger::WhileTracked, &[range(1, 3)]));
        assert!(doubts.list(true).is_empty());
        doubts.add(look(range(1, 9), Danger::EvenFrozen, &[range(5, 6)]));
        assert_eq!(ranges(&doubts.list(true)), [range(1, 3), range(5, 6)]);
        doubts.add(look(range(1, 9), Danger::WhileTracked, &[range(5, 6)]));
        assert_eq!(doubts.list(true).len(), 1, "what was worse before counts");
    }
}
