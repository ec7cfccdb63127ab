//! Requests that fail, and crashes between any two of them.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory,
    path::Path,
};
use store::{Access, Snapshot, SnapshotId, Store};

use crate::common::{Image, Rng, gc_late, write};

/// What happens when the fuse has burnt down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// One write fails, and later ones work.
    Fails,
    /// One write is done, but its answer is lost.
    Unanswered,
    /// The process is as good as dead: nothing works any more.
    Crash,
}

/// An object store in memory whose writes and deletions run out.
#[derive(Debug)]
pub(crate) struct Faulty {
    inner: Arc<InMemory>,
    left: AtomicI64,
    fault: Fault,
}

impl Faulty {
    pub(crate) fn new(inner: &Arc<InMemory>, writes: i64, fault: Fault) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            left: AtomicI64::new(writes),
            fault,
        })
    }

    fn broken() -> Error {
        Error::Generic {
            store: "faulty",
            source: "injected".into(),
        }
    }

    /// Counts a write; tells whether it is to be done, and whether its answer arrives.
    fn write(&self) -> (bool, bool) {
        match (self.left.fetch_sub(1, SeqCst), self.fault) {
            (1.., _) => (true, true),
            (0, Fault::Unanswered) => (true, false),
            (0, _) | (_, Fault::Crash) => (false, false),
            _ => (true, true),
        }
    }

    fn alive(&self) -> Result<()> {
        let dead = self.fault == Fault::Crash && self.left.load(SeqCst) < 0;
        if dead { Err(Self::broken()) } else { Ok(()) }
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, at: &Path, bytes: PutPayload, o: PutOptions) -> Result<PutResult> {
        let (done, answered) = self.write();
        let result = if done {
            self.inner.put_opts(at, bytes, o).await
        } else {
            Err(Self::broken())
        };
        if answered {
            result
        } else {
            Err(Self::broken())
        }
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        o: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, o).await
    }

    async fn get_opts(&self, at: &Path, o: GetOptions) -> Result<GetResult> {
        self.alive()?;
        self.inner.get_opts(at, o).await
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.alive()?;
        self.inner.get_ranges(at, ranges).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let (done, answered) = self.write();
        if done && answered {
            return self.inner.delete_stream(paths);
        }
        paths.map(|_| Err(Self::broken())).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.alive() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures_util::stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, o: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, o).await
    }
}

fn open(objects: Arc<dyn ObjectStore>) -> Store {
    Store::open_objects(objects, Access::Create).unwrap()
}

/// Checks that a store holds whole snapshots only: those expected, and perhaps those that a lost
/// answer left open.
fn check(objects: &Arc<InMemory>, sure: &[(SnapshotId, Image)], open_ended: &[Image]) -> Store {
    let store = open(Arc::clone(objects) as Arc<dyn ObjectStore>);
    let listing = store.list().unwrap();
    assert!(listing.damaged.is_empty(), "{listing:?}");
    for summary in &listing.snapshots {
        let snapshot = store.load_id(summary.id).unwrap();
        match sure.iter().find(|(id, _)| *id == summary.id) {
            Some((_, image)) => image.check(&snapshot),
            None => {
                assert!(
                    !open_ended.is_empty(),
                    "a snapshot that nobody wrote: {summary:?}"
                );
                open_ended[0].check(&snapshot);
            }
        }
    }
    let ids: Vec<_> = listing.snapshots.iter().map(|summary| summary.id).collect();
    assert!(
        sure.iter().all(|(id, _)| ids.contains(id)),
        "a snapshot is lost"
    );
    let report = store.verify(&[], &mut |_| {}).unwrap();
    assert!(report.is_clean(), "{report:?}");
    store
}

#[test]
fn a_writer_may_die_at_any_write() {
    let prepared = Arc::new(InMemory::new());
    let good = open(Arc::clone(&prepared) as Arc<dyn ObjectStore>);
    let mut image = Image::default();
    let base = write(&good, None, &mut image, &mut Rng(100), 8).unwrap();
    // The image that the writer would have made, had it lived.
    let mut wanted = image.clone();
    let elsewhere = open(Arc::new(prepared.fork()));
    write(&elsewhere, Some(base.id()), &mut wanted, &mut Rng(200), 8).unwrap();
    let sure = vec![(base.id(), image.clone())];
    for fault in [Fault::Fails, Fault::Unanswered, Fault::Crash] {
        for writes in 0.. {
            let objects = Arc::new(prepared.fork());
            let sure = sure.clone();
            let faulty = Faulty::new(&objects, writes, fault);
            let store = open(Arc::clone(&faulty) as Arc<dyn ObjectStore>);
            let mut next = image.clone();
            let outcome = write(&store, Some(base.id()), &mut next, &mut Rng(200), 8);
            drop(store);
            match outcome {
                Ok(snapshot) => {
                    let sure = [sure, vec![(snapshot.id(), next.clone())]].concat();
                    let store = check(&objects, &sure, &[]);
                    let _report = store.gc(gc_late()).unwrap();
                    check(&objects, &sure, &[]);
                }
                Err(_) => {
                    let open_ended = if fault == Fault::Unanswered {
                        vec![wanted.clone()]
                    } else {
                        Vec::new()
                    };
                    let store = check(&objects, &sure, &open_ended);
                    store.gc(gc_late()).unwrap();
                    check(&objects, &sure, &open_ended);
                }
            }
            if faulty.left.load(SeqCst) > 0 {
                assert!(writes > 4, "leases, a pack and a manifest are written");
                break;
            }
        }
    }
}

/// A store with garbage of each kind: removed snapshots, layers on one, packs half needed.
fn with_garbage(objects: &Arc<InMemory>) -> Vec<(SnapshotId, Image)> {
    let store = open(Arc::clone(objects) as Arc<dyn ObjectStore>);
    let mut rng = Rng(7);
    let mut image = Image::default();
    let mut kept: Vec<(Snapshot, Image)> = Vec::new();
    for _ in 0..6 {
        let parent = kept.last().map(|(snapshot, _)| snapshot.id());
        let snapshot = write(&store, parent, &mut image, &mut rng, 8).unwrap();
        kept.push((snapshot, image.clone()));
    }
    let mut lone = Image::default();
    let alone = write(&store, None, &mut lone, &mut rng, 8).unwrap();
    store.remove(alone.id()).unwrap();
    for number in [0, 1, 3] {
        store.remove(kept[number].0.id()).unwrap();
    }
    [2, 4, 5]
        .map(|number| (kept[number].0.id(), kept[number].1.clone()))
        .to_vec()
}

#[test]
fn collecting_garbage_may_die_at_any_write() {
    let prepared = Arc::new(InMemory::new());
    let sure = with_garbage(&prepared);
    for fault in [Fault::Fails, Fault::Unanswered, Fault::Crash] {
        for writes in 0.. {
            let objects = Arc::new(prepared.fork());
            let faulty = Faulty::new(&objects, writes, fault);
            let store = open(Arc::clone(&faulty) as Arc<dyn ObjectStore>);
            let outcome = store.gc(gc_late());
            drop(store);
            let store = check(&objects, &sure, &[]);
            store.gc(gc_late()).unwrap();
            store.gc(gc_late()).unwrap();
            check(&objects, &sure, &[]);
            if faulty.left.load(SeqCst) > 0 {
                let report = outcome.unwrap();
                assert!(!report.packs_deleted.is_empty(), "{report:?}");
                assert!(!report.packs_repacked.is_empty(), "{report:?}");
                assert_eq!(report.snapshots_dropped.len(), 1, "{report:?}");
                break;
            }
        }
    }
}
