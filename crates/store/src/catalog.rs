//! Which snapshots there are: listing, finding by name or id, loading, removing.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use object_store::GetRange;

use crate::{
    backend::{StorageError, folder, path},
    error::ReadError,
    format::{
        FormatError, HEAD_READ_BYTES, MANIFEST_BYTES_MAX, Manifest, decode_head, decode_manifest,
    },
    id::SnapshotId,
    meta::Summary,
    page_map::PageMap,
    snapshot::Snapshot,
    store::{Inner, Last, Store, lock},
};

/// Bytes that hold the longest head.
const HEAD_BYTES_MAX: u64 = 20 << 10;
/// Digits of an id that are needed to find a snapshot by it.
const PREFIX_DIGITS_MIN: usize = 4;

/// The snapshots of a store.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Those that can be read, the oldest first.
    pub snapshots: Vec<Summary>,
    /// Those whose manifest is damaged, and how.
    pub damaged: Vec<(SnapshotId, ReadError)>,
}

impl Store {
    /// Lists the snapshots, the oldest first.
    ///
    /// # Errors
    ///
    /// Those of access; damaged manifests are listed as such.
    pub fn list(&self) -> Result<Listing, ReadError> {
        self.inner.list()
    }

    /// Finds a snapshot by its name, its id, or the first digits of its id (4 at least).
    ///
    /// # Errors
    ///
    /// [`ReadError::NotFound`], [`ReadError::Ambiguous`], and those of access.
    pub fn find(&self, wanted: &str) -> Result<SnapshotId, ReadError> {
        self.inner.find(wanted)
    }

    /// Loads a snapshot's description and page map; its pages are read when asked for. It is
    /// found as by [`find`](Self::find).
    ///
    /// # Errors
    ///
    /// Those of [`find`](Self::find), and [`ReadError::Manifest`] or [`ReadError::Layer`] where a
    /// manifest is damaged.
    pub fn load(&self, wanted: &str) -> Result<Snapshot, ReadError> {
        self.load_id(self.find(wanted)?)
    }

    /// Loads the snapshot with this id.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn load_id(&self, id: SnapshotId) -> Result<Snapshot, ReadError> {
        if !self.inner.is_visible(id)? {
            return Err(ReadError::NotFound(id.to_string()));
        }
        let (manifest, map) = self.inner.resolve(id)?;
        Ok(Snapshot::new(self.clone(), manifest, map))
    }

    /// Removes a snapshot. It is gone at once; what only it needs is freed by
    /// [`gc`](Self::gc), and what snapshots layered on it need is kept for them.
    ///
    /// # Errors
    ///
    /// [`ReadError::NotFound`], and those of access.
    pub fn remove(&self, id: SnapshotId) -> Result<(), ReadError> {
        if !self.inner.is_visible(id)? {
            return Err(ReadError::NotFound(id.to_string()));
        }
        Ok(self.inner.hide(id)?)
    }
}

impl Inner {
    /// Writes the tombstone that hides a snapshot.
    pub(crate) fn hide(&self, id: SnapshotId) -> Result<(), StorageError> {
        self.backend.put(&path(folder::REMOVED, id), Vec::new())
    }

    /// Tells whether a snapshot exists and was not removed.
    pub(crate) fn is_visible(&self, id: SnapshotId) -> Result<bool, StorageError> {
        // Garbage collection deletes the manifest before the tombstone, so that whoever looks for
        // the tombstone first never takes a removed snapshot for a living one.
        Ok(!self.backend.exists(&path(folder::REMOVED, id))?
            && self.backend.exists(&path(folder::MANIFESTS, id))?)
    }

    /// Lists visible snapshots' ids.
    pub(crate) fn visible(&self) -> Result<Vec<SnapshotId>, StorageError> {
        let removed: HashSet<SnapshotId> = self.ids(folder::REMOVED)?.into_iter().collect();
        let mut ids = self.ids(folder::MANIFESTS)?;
        ids.retain(|id| !removed.contains(id));
        Ok(ids)
    }

    /// Lists the ids in a folder.
    pub(crate) fn ids(&self, folder: &str) -> Result<Vec<SnapshotId>, StorageError> {
        Ok(self
            .backend
            .list_ids(folder)?
            .into_iter()
            .map(|(id, _)| id)
            .collect())
    }

    pub(crate) fn list(&self) -> Result<Listing, ReadError> {
        let visible = self.visible()?;
        lock(&self.summaries).retain(|id, _| visible.contains(id));
        let mut listing = Listing::default();
        for id in visible {
            match self.summary(id) {
                Ok(summary) => listing.snapshots.push(summary),
                // It was removed and collected since it was listed.
                Err(ReadError::Storage(error)) if error.is_not_found() => {}
                Err(error @ ReadError::Manifest { .. }) => listing.damaged.push((id, error)),
                Err(error) => return Err(error),
            }
        }
        listing
            .snapshots
            .sort_by_key(|summary| (summary.created_ns, summary.id));
        listing.damaged.sort_by_key(|(id, _)| *id);
        Ok(listing)
    }

    pub(crate) fn summary(&self, id: SnapshotId) -> Result<Summary, ReadError> {
        if let Some(found) = lock(&self.summaries).get(&id) {
            return Ok(found.clone());
        }
        let name = path(folder::MANIFESTS, id);
        let (bytes, len) = self
            .backend
            .get_part(&name, GetRange::Bounded(0..HEAD_READ_BYTES))?;
        let head = match decode_head(&bytes) {
            Err(FormatError::Short { .. }) if len > bytes.len() as u64 => {
                let front = GetRange::Bounded(0..HEAD_BYTES_MAX);
                decode_head(&self.backend.get_part(&name, front)?.0)
            }
            other => other,
        };
        let head = head.and_then(|head| own_id(head.summary.id, id).map(|()| head));
        let summary = head
            .map_err(|source| ReadError::Manifest { id, source })?
            .summary;
        lock(&self.summaries).insert(id, summary.clone());
        Ok(summary)
    }

    fn find(&self, wanted: &str) -> Result<SnapshotId, ReadError> {
        if let Ok(id) = wanted.parse()
            && self.is_visible(id)?
        {
            return Ok(id);
        }
        let listing = self.list()?;
        let named = listing
            .snapshots
            .iter()
            .find(|s| s.name.as_deref() == Some(wanted));
        if let Some(summary) = named {
            return Ok(summary.id);
        }
        let damaged = listing.damaged.iter().map(|(id, _)| *id);
        let ids = listing
            .snapshots
            .iter()
            .map(|summary| summary.id)
            .chain(damaged);
        let found: Vec<_> = ids
            .filter(|id| id.to_string().starts_with(wanted))
            .collect();
        match found[..] {
            _ if wanted.len() < PREFIX_DIGITS_MIN => Err(ReadError::NotFound(wanted.to_owned())),
            [] => Err(ReadError::NotFound(wanted.to_owned())),
            [id] => Ok(id),
            _ => Err(ReadError::Ambiguous {
                prefix: wanted.to_owned(),
                count: found.len(),
            }),
        }
    }

    /// Reads one manifest.
    pub(crate) fn manifest(&self, id: SnapshotId) -> Result<Manifest, ReadError> {
        let bytes = self
            .backend
            .get(&path(folder::MANIFESTS, id), MANIFEST_BYTES_MAX)?;
        let manifest = decode_manifest(&bytes);
        manifest
            .and_then(|manifest| own_id(manifest.head.summary.id, id).map(|()| manifest))
            .map_err(|source| ReadError::Manifest { id, source })
    }

    /// Reads a manifest and all it is layered on; returns it with the whole page map.
    pub(crate) fn resolve(&self, id: SnapshotId) -> Result<(Manifest, Arc<PageMap>), ReadError> {
        let top = self.manifest(id)?;
        let mut layers = Vec::new();
        let (mut above, mut summary, mut whole) = (id, top.head.summary.clone(), top.head.whole);
        while !whole {
            let parent = summary
                .parent
                .expect("decoding made sure that a layer has a parent");
            let bad = |problem| ReadError::Layer {
                id: above,
                parent,
                problem,
            };
            let below = match self.manifest(parent) {
                Err(ReadError::Storage(error)) if error.is_not_found() => {
                    return Err(bad("there is no such manifest"));
                }
                other => other?,
            };
            let head = &below.head;
            // The depth falls with each step, so that a ring of manifests comes to an end.
            if head.summary.depth != summary.depth - 1 {
                return Err(bad("its depth is wrong"));
            }
            if head.summary.page_size != summary.page_size {
                return Err(bad("its pages have another size"));
            }
            (above, summary, whole) = (parent, head.summary.clone(), head.whole);
            layers.push(below.layer);
        }
        let Some(mut map) = layers.pop() else {
            let map = Arc::clone(&top.layer);
            return Ok((top, map));
        };
        while let Some(layer) = layers.pop() {
            map = map.overlaid(&layer).into();
        }
        map = map.overlaid(&top.layer).into();
        Ok((top, map))
    }

    /// Loads what a layer on `id` needs to know of it.
    pub(crate) fn parent(&self, id: SnapshotId) -> Result<Last, ReadError> {
        if !self.is_visible(id)? {
            return Err(ReadError::NotFound(id.to_string()));
        }
        if let Some(last) = lock(&self.last).as_ref().filter(|last| last.id == id) {
            return Ok(last.clone());
        }
        let (manifest, map) = self.resolve(id)?;
        Ok(Last {
            id,
            map,
            depth: manifest.head.summary.depth,
            extents: manifest.head.extents_below + manifest.layer.extents.len() as u64,
        })
    }

    /// Who has a name, if anybody.
    pub(crate) fn owner_of(&self, name: &str) -> Result<Option<SnapshotId>, ReadError> {
        let named: HashMap<_, _> = self
            .list()?
            .snapshots
            .into_iter()
            .filter_map(|s| Some((s.name?, s.id)))
            .collect();
        Ok(named.get(name).copied())
    }
}

fn own_id(found: SnapshotId, wanted: SnapshotId) -> Result<(), FormatError> {
    if found != wanted {
        return Err(FormatError::Inconsistent(
            "a manifest lies under another snapshot's id",
        ));
    }
    Ok(())
}
