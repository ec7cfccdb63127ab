//! Uploading full packs beside the threads that fill the next.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use object_store::PutMode;

use super::assemble::SealedPack;
use crate::{
    backend::{Backend, StorageError, folder, path, put},
    id::PackId,
    store::lock,
};

/// Packs in memory at a time: one being filled and the others under way.
pub(crate) const PACKS_IN_MEMORY: usize = 4;

/// The uploads of one writer.
#[derive(Default)]
pub(crate) struct Uploads {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    under_way: HashMap<PackId, Arc<SealedPack>>,
    failed: Option<StorageError>,
}

impl Uploads {
    /// Waits until there is room for another pack. The caller must not hold the writer's lock.
    pub(crate) fn wait_for_room(&self) -> Result<(), StorageError> {
        self.wait_until(|under_way| under_way < PACKS_IN_MEMORY - 1)
    }

    /// Waits until all uploads are done.
    pub(crate) fn wait_for_all(&self) -> Result<(), StorageError> {
        self.wait_until(|under_way| under_way == 0)
    }

    /// Tells whether there is room for another pack.
    pub(crate) fn has_room(&self) -> Result<bool, StorageError> {
        let state = lock(&self.state);
        state
            .failed
            .clone()
            .map_or(Ok(state.under_way.len() < PACKS_IN_MEMORY - 1), Err)
    }

    /// Begins an upload.
    pub(crate) fn start(self: &Arc<Self>, backend: &Backend, pack: SealedPack) {
        let (uploads, objects) = (Arc::clone(self), Arc::clone(&backend.objects));
        let pack = Arc::new(pack);
        lock(&self.state)
            .under_way
            .insert(pack.id, Arc::clone(&pack));
        backend.spawn(async move {
            // The id is random, so that a retried request finds at most its own first try.
            let name = path(folder::PACKS, pack.id);
            let done = put(&*objects, &name, pack.payload(), PutMode::Overwrite).await;
            let mut state = lock(&uploads.state);
            state.under_way.remove(&pack.id);
            if let Err(error) = done {
                state.failed.get_or_insert(error);
            }
            drop(state);
            uploads.changed.notify_all();
        });
    }

    /// Returns a pack that is under way.
    pub(crate) fn under_way(&self, pack: PackId) -> Option<Arc<SealedPack>> {
        lock(&self.state).under_way.get(&pack).cloned()
    }

    fn wait_until(&self, enough: impl Fn(usize) -> bool) -> Result<(), StorageError> {
        let mut state: MutexGuard<'_, State> = lock(&self.state);
        loop {
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            if enough(state.under_way.len()) {
                return Ok(());
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}
