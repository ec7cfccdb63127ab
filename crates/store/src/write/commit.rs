//! Making a snapshot visible: the manifest, written last.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;

use super::put::Writer;
use crate::{
    backend::{StorageError, folder, path},
    error::WriteError,
    format::{
        FormatError, MANIFEST_BYTES_MAX, Manifest, ManifestHead, PackEntry, PackIndex,
        encode_manifest,
    },
    id::PackId,
    meta::{SnapshotMeta, Summary},
    page_map::{Chunk, PageMap, index, number_of},
    snapshot::Snapshot,
    store::{Inner, Last, lock},
};

/// Layers on a whole manifest: reading a snapshot reads that many manifests at most.
const DEPTH_MAX: u32 = 32;
/// Below so many extents a chain's length alone decides when a manifest is written whole.
const EXTENTS_WORTH_COUNTING: u64 = 1024;

impl Writer {
    /// Makes the snapshot visible: whole, or not at all.
    ///
    /// # Errors
    ///
    /// [`WriteError::LeaseLost`] where the store did not hear from the writer for too long,
    /// [`WriteError::NameTaken`], [`WriteError::Description`], and those of access. After an error
    /// the store shows no such snapshot (in rare cases of an unanswered request, a whole one).
    pub fn commit(self, meta: SnapshotMeta) -> Result<Snapshot, WriteError> {
        if meta.page_size != self.page_size() {
            return Err(WriteError::Description(FormatError::Inconsistent(
                "the description names another page size than the writer was given",
            )));
        }
        self.finish_packs()?;
        let (own_packs, layer) = self.take_layer();
        let (whole, map) = self.lay(&layer);
        let manifest = self.manifest(meta, whole, layer, &map);
        let bytes = Bytes::from(encode_manifest(&manifest)?);

        if let Some(name) = &self.options.name
            && let Some(by) = self.store.inner.owner_of(name)?
        {
            let name = name.clone();
            return Err(WriteError::NameTaken { name, by });
        }
        self.publish(bytes)?;
        let Self {
            store,
            lease,
            known,
            ..
        } = self;
        drop(lease);
        // The index is extended in place if nobody else looks at it.
        drop(known);
        store.inner.learn(own_packs);
        let head = &manifest.head;
        *lock(&store.inner.last) = Some(Last {
            id: head.summary.id,
            map: Arc::clone(&map),
            depth: head.summary.depth,
            extents: head.extents_below + manifest.layer.extents.len() as u64,
        });
        Ok(Snapshot::new(store, manifest, map))
    }

    /// Uploads the last pack and waits for all; their memory goes back, since the tables need some.
    fn finish_packs(&self) -> Result<(), StorageError> {
        let last = lock(&self.state).open.take();
        if let Some(last) = last {
            self.uploads.start(&self.store.inner.backend, last.seal());
        }
        self.uploads.wait_for_all()?;
        self.buffers.give_back();
        Ok(())
    }

    /// Takes the tables: what the packs written here hold, and the layer.
    fn take_layer(&self) -> (HashMap<PackId, PackIndex>, PageMap) {
        let mut state = lock(&self.state);
        let map = PageMap {
            page_size: self.page_size(),
            packs: std::mem::take(&mut state.packs),
            chunks: std::mem::take(&mut state.chunks),
            extents: state.overlay.take(),
        };
        drop(state);
        let mut own: HashMap<PackId, PackIndex> = HashMap::new();
        for chunk in &map.chunks {
            let pack = map.packs[index(chunk.pack)];
            if pack.belongs_to(self.id) {
                own.entry(pack)
                    .or_default()
                    .entries
                    .push(entry_of(&map, chunk));
            }
        }
        (own, map.compacted())
    }

    /// Lays the layer over the parent; tells whether the manifest is to say everything itself.
    fn lay(&self, layer: &PageMap) -> (bool, Arc<PageMap>) {
        let Some(parent) = &self.parent else {
            return (
                true,
                PageMap::empty(self.page_size()).overlaid(layer).into(),
            );
        };
        let map = parent.map.overlaid(layer);
        let chain = parent.extents + layer.extents.len() as u64;
        let outweighed = chain > (map.extents.len() as u64 * 2).max(EXTENTS_WORTH_COUNTING);
        (outweighed || parent.depth + 1 >= DEPTH_MAX, map.into())
    }

    fn manifest(
        &self,
        meta: SnapshotMeta,
        whole: bool,
        layer: PageMap,
        map: &Arc<PageMap>,
    ) -> Manifest {
        let below = self.parent.as_ref().filter(|_| !whole);
        let stats = self.stats();
        let pages: u64 = map
            .extents
            .iter()
            .map(|extent| u64::from(extent.pages))
            .sum();
        let status = meta.consistency.get("state").unwrap_or(&meta.consistency);
        let summary = Summary {
            id: self.id,
            parent: self.options.parent,
            name: self.options.name.clone(),
            created_ns: meta.created_ns,
            depth: below.map_or(0, |parent| parent.depth + 1),
            pid: meta.process.pid,
            process: shortened(&meta.process.name),
            page_size: self.page_size(),
            tasks: meta.tasks.len() as u64,
            memory_bytes: pages << self.page_size().shift(),
            bytes_read: stats.bytes_read,
            bytes_stored: stats.bytes_stored,
            consistency: status.as_str().map(shortened),
        };
        let head = ManifestHead {
            summary,
            whole,
            extents_below: below.map_or(0, |parent| parent.extents),
        };
        let layer = if whole {
            drop(layer);
            Arc::clone(map)
        } else {
            Arc::new(layer)
        };
        Manifest { head, meta, layer }
    }

    /// Creates the manifest while the lease holds.
    fn publish(&self, bytes: Bytes) -> Result<(), WriteError> {
        let inner = &self.store.inner;
        let name = path(folder::MANIFESTS, self.id);
        let tombstone = path(folder::REMOVED, self.id);
        if !self.lease.holds() || inner.backend.exists(&tombstone)? {
            return Err(WriteError::LeaseLost(self.id));
        }
        match inner.backend.create(&name, bytes.clone()) {
            Err(error) if error.already_exists() && same_object(inner, &name, &bytes)? => {}
            other => other?,
        }
        // Asked after the manifest is there: see the module's text.
        if !self.lease.holds() || inner.backend.exists(&tombstone)? {
            inner.hide(self.id)?;
            return Err(WriteError::LeaseLost(self.id));
        }
        Ok(())
    }
}

/// Tells whether an object holds exactly these bytes.
fn same_object(inner: &Inner, name: &str, bytes: &Bytes) -> Result<bool, StorageError> {
    Ok(inner.backend.get(name, MANIFEST_BYTES_MAX)? == *bytes)
}

fn entry_of(map: &PageMap, chunk: &Chunk) -> PackEntry {
    PackEntry {
        hash: chunk.hash,
        offset: chunk.offset,
        stored: chunk.stored,
        raw: number_of(map.raw_len(chunk)),
    }
}

/// Cuts a text that goes into the summary, whose length is limited.
fn shortened(text: &str) -> String {
    const LETTERS: usize = 200;
    text.chars().take(LETTERS).collect()
}
