//! What garbage collection frees, and what it leaves alone.

use std::{sync::Arc, time::Duration};

use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory};
use space::PageSink;
use store::{Access, GcError, GcOptions, Snapshot, Store, WriteError};

use crate::common::{Image, Rng, gc_late, gc_now, meta, now_ns, options, range, write};

const HOUR: Duration = Duration::from_secs(3600);

fn memory() -> (Arc<InMemory>, Store) {
    let objects = Arc::new(InMemory::new());
    let store =
        Store::open_objects(Arc::clone(&objects) as Arc<dyn ObjectStore>, Access::Create).unwrap();
    (objects, store)
}

fn packs(objects: &InMemory) -> usize {
    let list = futures_util::StreamExt::count(objects.list(Some(&"packs".into())));
    tokio_less(list)
}

/// Runs a future of the store in memory, which is always ready.
fn tokio_less<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

fn single(store: &Store, seed: u64) -> Snapshot {
    write(store, None, &mut Image::default(), &mut Rng(seed), 20).unwrap()
}

#[test]
fn packs_wait_for_the_grace_period() {
    let (objects, store) = memory();
    let (kept, gone) = (single(&store, 1), single(&store, 2));
    let nothing = store.gc(gc_now(HOUR)).unwrap();
    assert_eq!(
        (nothing.packs_condemned.len(), nothing.packs_deleted.len()),
        (0, 0)
    );
    store.remove(gone.id()).unwrap();
    let dry = GcOptions {
        dry_run: true,
        ..gc_now(HOUR)
    };
    assert_eq!(store.gc(dry).unwrap().packs_condemned.len(), 1);
    let first = store.gc(gc_now(HOUR)).unwrap();
    assert_eq!((first.packs_condemned.len(), first.packs_waiting), (1, 1));
    assert_eq!(first.snapshots_dropped, [gone.id()]);
    let soon = store.gc(gc_now(HOUR)).unwrap();
    assert_eq!(
        (
            soon.packs_deleted.len(),
            soon.packs_waiting,
            packs(&objects)
        ),
        (0, 1, 2)
    );
    let mut later = gc_now(HOUR);
    later.now_ns += 2 * 3600 * 1_000_000_000;
    let second = store.gc(later).unwrap();
    assert_eq!((second.packs_deleted.len(), packs(&objects)), (1, 1));
    assert!(second.bytes_freed > 0);
    assert!(store.verify(&[kept.id()], &mut |_| {}).unwrap().is_clean());
}

#[test]
fn a_removed_parent_stays_for_its_layers_only() {
    let (objects, store) = memory();
    let mut image = Image::default();
    let mut rng = Rng(3);
    let base = write(&store, None, &mut image, &mut rng, 30).unwrap();
    let layer = write(&store, Some(base.id()), &mut image, &mut rng, 2).unwrap();
    store.remove(base.id()).unwrap();
    let report = store.gc(gc_late()).unwrap();
    assert_eq!(report.snapshots_dropped, []);
    image.check(&store.load_id(layer.id()).unwrap());
    let next = store.begin(options(None, Some(base.id()))).unwrap_err();
    assert!(matches!(next, WriteError::Read(_)), "{next}");
    store.remove(layer.id()).unwrap();
    let report = store.gc(gc_late()).unwrap();
    assert_eq!(report.snapshots_dropped.len(), 2);
    assert_eq!(packs(&objects), 0);
    let left: usize = tokio_less(futures_util::StreamExt::count(objects.list(None)));
    assert_eq!(left, 1, "nothing is left but the marker of the store");
}

#[test]
fn what_a_living_writer_refers_to_stays() {
    let (objects, store) = memory();
    let mut image = Image::default();
    let base = write(&store, None, &mut image, &mut Rng(4), 20).unwrap();
    // Another process writes the same pages again, and finds them all there.
    let other = Store::open_objects(
        Arc::clone(&objects) as Arc<dyn ObjectStore>,
        Access::Existing,
    )
    .unwrap();
    let writer = other.begin(options(None, None)).unwrap();
    for (page, bytes) in &image.0 {
        writer.put(range(*page, page + 1), bytes).unwrap();
    }
    store.remove(base.id()).unwrap();
    for _ in 0..3 {
        let report = store.gc(gc_now(Duration::ZERO)).unwrap();
        assert_eq!((report.packs_deleted.len(), report.leases_live), (0, 1));
    }
    let snapshot = writer.commit(meta(1)).unwrap();
    let report = store.gc(gc_late()).unwrap();
    assert_eq!(
        report.packs_deleted, report.packs_repacked,
        "only what was packed anew goes"
    );
    image.check(&snapshot);
    assert!(store.verify(&[], &mut |_| {}).unwrap().is_clean());
}

#[test]
fn a_living_writers_parent_stays_when_it_is_removed() {
    let (_objects, store) = memory();
    let mut image = Image::default();
    let mut rng = Rng(5);
    let base = write(&store, None, &mut image, &mut rng, 20).unwrap();
    let writer = store.begin(options(None, Some(base.id()))).unwrap();
    image.change(&mut rng, &writer, 2).unwrap();
    store.remove(base.id()).unwrap();
    let report = store.gc(gc_now(Duration::ZERO)).unwrap();
    assert_eq!(
        (report.snapshots_dropped.len(), report.packs_deleted.len()),
        (0, 0)
    );
    let snapshot = writer.commit(meta(1)).unwrap();
    store.gc(gc_late()).unwrap();
    image.check(&store.load_id(snapshot.id()).unwrap());
}

#[test]
fn a_new_writer_does_not_refer_to_condemned_packs() {
    let (objects, store) = memory();
    let mut image = Image::default();
    let base = write(&store, None, &mut image, &mut Rng(6), 20).unwrap();
    store.remove(base.id()).unwrap();
    assert_eq!(store.gc(gc_now(HOUR)).unwrap().packs_condemned.len(), 1);
    let writer = store.begin(options(None, None)).unwrap();
    for (page, bytes) in &image.0 {
        writer.put(range(*page, page + 1), bytes).unwrap();
    }
    assert!(
        writer.stats().bytes_stored > 0,
        "it stores the chunks again"
    );
    let mut later = gc_now(HOUR);
    later.now_ns += 3601 * 1_000_000_000;
    // The writer lives (its lease ends after that time minus the grace period), and knows.
    let report = store.gc(later).unwrap();
    assert_eq!((report.leases_live, report.packs_deleted.len()), (1, 1));
    let snapshot = writer.commit(meta(1)).unwrap();
    image.check(&snapshot);
    assert_eq!(packs(&objects), 1);
}

#[test]
fn a_writer_whose_lease_ran_out_can_not_commit() {
    let (objects, store) = memory();
    let writer = store.begin(options(Some("late"), None)).unwrap();
    writer.put(range(0, 1), &[1; 4096]).unwrap();
    let report = store.gc(gc_late()).unwrap();
    assert_eq!(report.leases_ended, [writer.id()]);
    let id = writer.id();
    let error = writer.commit(meta(1)).unwrap_err();
    assert!(
        matches!(error, WriteError::LeaseLost(lost) if lost == id),
        "{error}"
    );
    assert!(store.list().unwrap().snapshots.is_empty());
    store.gc(gc_late()).unwrap();
    assert_eq!(packs(&objects), 0);
}

#[test]
fn packs_that_are_mostly_garbage_are_packed_anew() {
    let (objects, store) = memory();
    let mut rng = Rng(11);
    let mut bytes = vec![0; 512 * 4096];
    rng.fill(&mut bytes);
    let writer = store.begin(options(None, None)).unwrap();
    writer.put(range(0, 512), &bytes).unwrap();
    let base = writer.commit(meta(1)).unwrap();
    // Keeps a sixteenth of the base's pages, in a layer that is read through it.
    let writer = store.begin(options(None, Some(base.id()))).unwrap();
    writer.discard(range(32, 512)).unwrap();
    let top = writer.commit(meta(2)).unwrap();
    store.remove(base.id()).unwrap();
    let reader = store.load_id(top.id()).unwrap();
    let elsewhere = Store::open_objects(
        Arc::clone(&objects) as Arc<dyn ObjectStore>,
        Access::Existing,
    )
    .unwrap();
    let early = elsewhere.load_id(top.id()).unwrap();

    let report = store.gc(gc_late()).unwrap();
    assert_eq!(
        (report.packs_repacked.len(), report.packs_deleted.len()),
        (1, 1)
    );
    assert!(report.bytes_freed > 512 * 1024, "{report:?}");
    assert_eq!(packs(&objects), 1);
    for snapshot in [&reader, &early, &elsewhere.load_id(top.id()).unwrap()] {
        let mut found = vec![0; 32 * 4096];
        snapshot.read_pages(&[range(0, 32)], &mut found).unwrap();
        assert!(found == bytes[..32 * 4096]);
    }
    assert!(elsewhere.verify(&[], &mut |_| {}).unwrap().is_clean());
    let again = store.gc(gc_late()).unwrap();
    assert_eq!(
        (again.packs_repacked.len(), again.packs_condemned.len()),
        (0, 0)
    );

    // A layer on it, and a second move of what was moved.
    let writer = elsewhere.begin(options(None, Some(top.id()))).unwrap();
    writer.discard(range(2, 32)).unwrap();
    let last = writer.commit(meta(3)).unwrap();
    store.remove(top.id()).unwrap();
    store.gc(gc_late()).unwrap();
    // Another look at a chain of moves whose middle is gone.
    store.gc(gc_late()).unwrap();
    let mut found = vec![0; 2 * 4096];
    last.read_pages(&[range(0, 2)], &mut found).unwrap();
    assert!(found == bytes[..2 * 4096]);
    store.remove(last.id()).unwrap();
    store.gc(gc_late()).unwrap();
    store.gc(gc_late()).unwrap();
    let left: usize = tokio_less(futures_util::StreamExt::count(objects.list(None)));
    assert_eq!(left, 1, "moves go with the last who needs them");
}

#[test]
fn many_small_packs_are_put_together() {
    let (objects, store) = memory();
    let mut rng = Rng(12);
    let mut image = Image::default();
    let mut last: Option<Snapshot> = None;
    for _ in 0..12 {
        let parent = last.as_ref().map(Snapshot::id);
        last = Some(write(&store, parent, &mut image, &mut rng, 6).unwrap());
    }
    assert_eq!(packs(&objects), 12);
    store.gc(gc_late()).unwrap();
    assert!(packs(&objects) <= 2, "{}", packs(&objects));
    assert!(store.verify(&[], &mut |_| {}).unwrap().is_clean());
    let parent = last.unwrap().id();
    image.check(&store.load_id(parent).unwrap());
    let mut next = image.clone();
    let layer = write(&store, Some(parent), &mut next, &mut rng, 3).unwrap();
    next.check(&layer);
}

#[test]
fn a_lease_that_can_not_be_read_stops_everything() {
    let (objects, store) = memory();
    let gone = single(&store, 1);
    store.remove(gone.id()).unwrap();
    tokio_less(objects.put(&"leases/rubbish".into(), "rubbish".into())).unwrap();
    let error = store.gc(gc_late()).unwrap_err();
    assert!(matches!(error, GcError::Lease { .. }), "{error}");
    assert_eq!(packs(&objects), 1);
}

#[test]
fn a_copied_store_may_lack_empty_folders() {
    let directory = tempfile::tempdir().unwrap();
    let address = directory.path().to_str().unwrap();
    let gone = single(&Store::open(address, Access::Create).unwrap(), 1);
    for folder in ["leases", "removed", "condemned", "moved"] {
        std::fs::remove_dir(directory.path().join(folder)).unwrap();
    }
    let store = Store::open(address, Access::Existing).unwrap();
    store.gc(gc_late()).unwrap();
    single(&store, 2);
    store.remove(gone.id()).unwrap();
    assert_eq!(store.gc(gc_late()).unwrap().packs_deleted.len(), 1);
}

#[test]
fn left_over_staged_files_are_removed_when_they_are_old() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().to_str().unwrap(), Access::Create).unwrap();
    let kept = single(&store, 1);
    let staged = directory.path().join("packs/00ff#123");
    std::fs::write(&staged, "half").unwrap();
    let report = store.gc(gc_now(Duration::ZERO)).unwrap();
    assert_eq!(report.staged_removed, 0, "it may be somebody's");
    let mut later = gc_now(Duration::ZERO);
    later.now_ns = now_ns() + 2 * 3600 * 1_000_000_000;
    assert_eq!(store.gc(later).unwrap().staged_removed, 1);
    assert!(!staged.exists());
    assert!(store.verify(&[kept.id()], &mut |_| {}).unwrap().is_clean());
}
