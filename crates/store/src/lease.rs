//! Leases held: a thread renews each until it is released.
//!
//! This is the one place that looks at clocks: the lease's end is written by the system's clock,
//! since others judge it by theirs; whether it still holds is judged by the system's and by the
//! monotonic clock both, so that neither a stepped clock nor a suspended machine keeps an expired
//! lease alive.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    backend::{StorageError, folder, path},
    format::Lease,
    id::PackId,
    store::{Inner, lock},
};

/// How long a lease holds without being renewed.
pub(crate) const LEASE_LENGTH: Duration = Duration::from_secs(60);
/// How often it is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(15);

/// A lease that is held. Dropping it releases it.
pub(crate) struct Held {
    shared: Arc<Shared>,
    renewer: Option<JoinHandle<()>>,
}

struct Shared {
    store: Arc<Inner>,
    state: Mutex<State>,
    released: Condvar,
}

struct State {
    lease: Lease,
    /// Until when it surely holds, by either clock.
    holds: (Instant, SystemTime),
    released: bool,
}

impl Held {
    /// Writes the lease and begins to renew it.
    pub(crate) fn take(store: Arc<Inner>, lease: Lease) -> Result<Self, StorageError> {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let state = State {
            lease,
            holds: (now, wall),
            released: false,
        };
        let shared = Arc::new(Shared {
            store,
            state: Mutex::new(state),
            released: Condvar::new(),
        });
        shared.write()?;
        let renewed = Arc::clone(&shared);
        let renewer = std::thread::Builder::new()
            .name("onionskin-lease".into())
            .spawn(move || renewed.renew());
        match renewer {
            Ok(renewer) => Ok(Self {
                shared,
                renewer: Some(renewer),
            }),
            Err(error) => {
                shared.delete();
                Err(StorageError {
                    action: "starting the thread that renews",
                    path: shared.path(),
                    source: Arc::new(object_store::Error::Generic {
                        store: "snapshot store",
                        source: error.into(),
                    }),
                })
            }
        }
    }

    /// Says which condemned packs the holder has seen and will not refer to.
    pub(crate) fn ignore(&self, packs: Vec<PackId>) -> Result<(), StorageError> {
        lock(&self.shared.state).lease.ignores = Some(packs);
        self.shared.write()
    }

    /// Tells whether the lease still holds.
    pub(crate) fn holds(&self) -> bool {
        let (monotonic, wall) = lock(&self.shared.state).holds;
        Instant::now() < monotonic && SystemTime::now() < wall
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.shared.state).released = true;
        self.shared.released.notify_all();
        if let Some(renewer) = self.renewer.take() {
            // A panic in the renewer has been printed; the lease runs out by itself then.
            drop(renewer.join());
        }
        self.shared.delete();
    }
}

impl Shared {
    fn path(&self) -> String {
        path(folder::LEASES, lock(&self.state).lease.id)
    }

    /// Writes the lease with a new end.
    fn write(&self) -> Result<(), StorageError> {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let ends = wall + LEASE_LENGTH;
        let mut lease = lock(&self.state).lease.clone();
        let since = ends.duration_since(UNIX_EPOCH).unwrap_or_default();
        lease.expires_ns = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        self.store
            .backend
            .put(&path(folder::LEASES, lease.id), lease.encode())?;
        lock(&self.state).holds = (now + LEASE_LENGTH, ends);
        Ok(())
    }

    /// Renews until released. A failed renewal is tried again; if none succeeds in time, the
    /// lease no longer holds, and whoever holds it finds out when they ask.
    fn renew(&self) {
        let mut state = lock(&self.state);
        while !state.released {
            let waited = self.released.wait_timeout(state, RENEW_EVERY);
            let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if timeout.timed_out() && !state.released {
                drop(state);
                drop(self.write());
                state = lock(&self.state);
            }
        }
    }

    /// Deletes the lease. If that fails it runs out by itself.
    fn delete(&self) {
        drop(self.store.backend.delete(vec![self.path()]));
    }
}
