//! Which pages differ between two snapshots.

use space::{PageRange, RangeSet};

use crate::{
    error::ReadError,
    id::SnapshotId,
    page_map::{Content, Extent, page_range},
    snapshot::Snapshot,
    store::Store,
};

/// Pages compared by content at a time.
const PAGES_AT_ONCE: u64 = 256;

/// What became of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappingChange {
    /// Both snapshots have it, over the same addresses and with the same file.
    Kept,
    /// Only the second has it.
    Added,
    /// Only the first has it.
    Removed,
}

/// The pages that differ in one mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingDiff {
    /// Its addresses.
    pub range: PageRange,
    /// Its name.
    pub name: String,
    /// What became of the mapping itself.
    pub change: MappingChange,
    /// Pages that both snapshots hold, with other bytes.
    pub changed: RangeSet,
    /// Pages that only the second holds.
    pub appeared: RangeSet,
    /// Pages that only the first holds.
    pub vanished: RangeSet,
}

/// How two snapshots differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff {
    /// The first.
    pub from: SnapshotId,
    /// The second.
    pub to: SnapshotId,
    /// The mappings where something differs, by address.
    pub mappings: Vec<MappingDiff>,
}

#[derive(Default)]
struct Pages {
    changed: RangeSet,
    appeared: RangeSet,
    vanished: RangeSet,
}

impl Store {
    /// Compares two snapshots page by page. Where both name the same chunk nothing is read; where
    /// chunks differ, their pages are.
    ///
    /// # Errors
    ///
    /// [`ReadError::Layer`] where the page sizes differ, and those of loading and reading.
    pub fn diff(&self, from: SnapshotId, to: SnapshotId) -> Result<Diff, ReadError> {
        let (first, second) = (self.load_id(from)?, self.load_id(to)?);
        if first.page_size() != second.page_size() {
            return Err(ReadError::Layer {
                id: to,
                parent: from,
                problem: "their pages have different sizes",
            });
        }
        let pages = compare(&first, &second)?;
        let mappings = by_mapping(&first, &second, &pages);
        Ok(Diff { from, to, mappings })
    }
}

fn compare(first: &Snapshot, second: &Snapshot) -> Result<Pages, ReadError> {
    let (held_first, held_second) = (first.captured(), second.captured());
    let mut pages = Pages {
        changed: RangeSet::new(),
        appeared: held_second.difference(&held_first),
        vanished: held_first.difference(&held_second),
    };
    let mut unclear = Vec::new();
    for range in held_first.intersection(&held_second).iter() {
        let (mut left, mut right) = (parts(first, range), parts(second, range));
        let (mut a, mut b) = (left.next(), right.next());
        while let (Some(x), Some(y)) = (a, b) {
            let end = x.end().min(y.end());
            let (here, there) = (x.part(x.start, end), y.part(y.start, end));
            if !surely_equal(first, &here, second, &there) {
                unclear.push((here.start, end));
            }
            a = if x.end() > end {
                Some(x.part(end, x.end()))
            } else {
                left.next()
            };
            b = if y.end() > end {
                Some(y.part(end, y.end()))
            } else {
                right.next()
            };
        }
    }
    let page_size = first.page_size();
    let unclear: RangeSet = unclear
        .into_iter()
        .map(|(start, end)| page_range(start, end, page_size))
        .collect();
    let step = space::PageCount(PAGES_AT_ONCE).bytes(page_size);
    for range in unclear.iter().flat_map(|range| range.chunks(step)) {
        compare_bytes(first, second, range, &mut pages.changed)?;
    }
    Ok(pages)
}

/// The parts of extents of a snapshot within a range that it holds in full.
fn parts(snapshot: &Snapshot, range: PageRange) -> impl Iterator<Item = Extent> {
    let shift = snapshot.page_size().shift();
    let (start, end) = (range.start().0 >> shift, range.end().0 >> shift);
    let extents = snapshot.map().touching(range).iter();
    extents.map(move |extent| extent.part(extent.start.max(start), extent.end().min(end)))
}

fn surely_equal(first: &Snapshot, a: &Extent, second: &Snapshot, b: &Extent) -> bool {
    match (first.identity(a), second.identity(b)) {
        (Some(a), Some(b)) => a == b,
        (None, None) => a.content == Content::Zeros && b.content == Content::Zeros,
        _ => false,
    }
}

fn compare_bytes(
    first: &Snapshot,
    second: &Snapshot,
    range: PageRange,
    changed: &mut RangeSet,
) -> Result<(), ReadError> {
    let page_size = first.page_size();
    let len = range.len().as_usize();
    let (mut a, mut b) = (vec![0; len], vec![0; len]);
    first.read_pages(&[range], &mut a)?;
    second.read_pages(&[range], &mut b)?;
    let pages = a
        .chunks_exact(page_size.as_usize())
        .zip(b.chunks_exact(page_size.as_usize()));
    let start = range.start().0 >> page_size.shift();
    for (page, (a, b)) in (start..).zip(pages) {
        if a != b {
            changed.insert(page_range(page, page + 1, page_size));
        }
    }
    Ok(())
}

fn by_mapping(first: &Snapshot, second: &Snapshot, pages: &Pages) -> Vec<MappingDiff> {
    let (before, after) = (&first.meta().mappings, &second.meta().mappings);
    let mut rows = Vec::new();
    for saved in after {
        let kept = before
            .iter()
            .any(|old| old.mapping.same_place(&saved.mapping));
        let change = if kept {
            MappingChange::Kept
        } else {
            MappingChange::Added
        };
        rows.push((&saved.mapping, change));
    }
    for saved in before {
        if !after
            .iter()
            .any(|new| new.mapping.same_place(&saved.mapping))
        {
            rows.push((&saved.mapping, MappingChange::Removed));
        }
    }
    rows.sort_by_key(|(mapping, change)| (mapping.range, *change == MappingChange::Added));
    let diffs = rows.into_iter().map(|(mapping, change)| {
        let within: RangeSet = [mapping.range].into_iter().collect();
        // Pages under a removed and an added mapping alike are told once, with the added one.
        let here = |set: &RangeSet| match change {
            MappingChange::Removed => RangeSet::new(),
            MappingChange::Kept | MappingChange::Added => set.intersection(&within),
        };
        MappingDiff {
            range: mapping.range,
            name: mapping.name.clone(),
            change,
            changed: here(&pages.changed),
            appeared: here(&pages.appeared),
            vanished: match change {
                MappingChange::Removed => pages.vanished.intersection(&within),
                MappingChange::Kept | MappingChange::Added => here(&pages.vanished),
            },
        }
    });
    let differs = |diff: &MappingDiff| {
        let pages = [&diff.changed, &diff.appeared, &diff.vanished];
        diff.change != MappingChange::Kept || pages.iter().any(|set| !set.is_empty())
    };
    diffs.filter(differs).collect()
}
