//! Marking what is needed.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use super::look::View;
use crate::{
    error::ReadError,
    id::{PackId, SnapshotId},
    page_map::{PageMap, index},
    store::{Inner, lock},
};

/// What is needed.
#[derive(Default)]
pub(super) struct Needed {
    /// Manifests.
    pub(super) manifests: BTreeSet<SnapshotId>,
    /// For each pack, the offsets of needed chunks.
    pub(super) chunks: BTreeMap<PackId, HashSet<u32>>,
    /// For each pack, the stored bytes of needed chunks.
    pub(super) bytes: BTreeMap<PackId, u64>,
    /// Packs that needed manifests name, be the chunks there or moved.
    pub(super) named: BTreeSet<PackId>,
}

/// The manifests that are layered on each.
type Children = BTreeMap<SnapshotId, Vec<SnapshotId>>;

impl Inner {
    /// Finds what is needed, going from whole manifests up to the layers on them, so that each
    /// manifest is read once.
    pub(super) fn mark(&self, view: &View) -> Result<Needed, ReadError> {
        let mut roots: BTreeSet<SnapshotId> = BTreeSet::new();
        roots.extend(
            view.manifests
                .iter()
                .copied()
                .filter(|&id| view.is_visible(id)),
        );
        let parents = view.leases.iter().filter_map(|lease| lease.parent);
        roots.extend(parents.filter(|parent| view.manifests.contains(parent)));

        let mut needed = Needed::default();
        let mut children = Children::new();
        let mut whole = Vec::new();
        for &root in &roots {
            let mut id = root;
            while needed.manifests.insert(id) {
                let summary = self.needed_summary(id)?;
                let Some(parent) = summary.parent.filter(|_| summary.depth > 0) else {
                    whole.push(id);
                    break;
                };
                if !view.manifests.contains(&parent) {
                    return Err(ReadError::Layer {
                        id,
                        parent,
                        problem: "there is no such manifest",
                    });
                }
                children.entry(parent).or_default().push(id);
                id = parent;
            }
        }
        let mut reached = 0;
        for id in whole {
            self.mark_tree(id, view, &roots, &children, &mut needed, &mut reached)?;
        }
        debug_assert_eq!(
            reached,
            needed.manifests.len(),
            "depths fall, so there are no rings"
        );
        Ok(needed)
    }

    fn needed_summary(&self, id: SnapshotId) -> Result<crate::Summary, ReadError> {
        let summary = self.summary(id)?;
        if let Some(parent) = summary.parent.filter(|_| summary.depth > 0) {
            let below = self.summary(parent)?;
            if below.depth + 1 != summary.depth || below.page_size != summary.page_size {
                return Err(ReadError::Layer {
                    id,
                    parent,
                    problem: "its depth or page size is wrong",
                });
            }
        }
        Ok(summary)
    }

    /// Marks what the snapshots in the tree over a whole manifest need.
    fn mark_tree(
        &self,
        top: SnapshotId,
        view: &View,
        roots: &BTreeSet<SnapshotId>,
        children: &Children,
        needed: &mut Needed,
        reached: &mut usize,
    ) -> Result<(), ReadError> {
        let mut waiting: Vec<(SnapshotId, Option<Arc<PageMap>>)> = vec![(top, None)];
        while let Some((id, below)) = waiting.pop() {
            *reached += 1;
            let layer = self.manifest(id)?.layer;
            let map = match below {
                Some(map) => map.overlaid(&layer).into(),
                None => layer,
            };
            if roots.contains(&id) {
                self.mark_map(&map, view, needed)?;
            }
            let above = children.get(&id).into_iter().flatten();
            waiting.extend(above.map(|&child| (child, Some(Arc::clone(&map)))));
        }
        Ok(())
    }

    fn mark_map(&self, map: &PageMap, view: &View, needed: &mut Needed) -> Result<(), ReadError> {
        for chunk in &map.chunks {
            let (mut pack, mut offset) = (map.packs[index(chunk.pack)], chunk.offset);
            needed.named.insert(pack);
            if view
                .moves
                .range((pack, PackId([0; 16]))..)
                .next()
                .is_some_and(|m| m.0 == pack)
            {
                let exists = |pack| view.packs.contains_key(&pack);
                if let Some(found) = self.moved_place(pack, &chunk.hash, exists)? {
                    (pack, offset) = (found.0, found.1.offset);
                    needed.named.insert(pack);
                }
            }
            if needed.chunks.entry(pack).or_default().insert(offset) {
                *needed.bytes.entry(pack).or_default() += u64::from(chunk.stored);
            }
        }
        Ok(())
    }

    /// Forgets cached summaries of manifests that are gone.
    pub(super) fn forget_summaries(&self, gone: &[SnapshotId]) {
        lock(&self.summaries).retain(|id, _| !gone.contains(id));
    }
}
