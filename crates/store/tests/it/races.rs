//! Writers and collections of garbage at the same time.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use store::{Access, ReadError, SnapshotId, Store, WriteError};

use crate::common::{Image, Rng, gc_late, gc_now, write};

/// Snapshots that are there and what they hold.
type Made = Mutex<Vec<(SnapshotId, Image)>>;

/// Writes snapshots, most of them layered on the one before.
fn write_some(store: &Store, seed: u64, made: &Made) {
    let mut rng = Rng(seed);
    let mut image = Image::default();
    let mut parent = None;
    for step in 0..12 {
        let snapshot = match write(store, parent, &mut image, &mut rng, 5) {
            // The parent was removed by the other thread: begin anew.
            Err(WriteError::Read(ReadError::NotFound(_))) => {
                image = Image::default();
                parent = None;
                continue;
            }
            other => other.unwrap(),
        };
        parent = Some(snapshot.id()).filter(|_| step % 5 != 4);
        made.lock().unwrap().push((snapshot.id(), image.clone()));
        if parent.is_none() {
            image = Image::default();
        }
    }
}

/// Removes snapshots and collects garbage: without grace, what may go, goes at once.
fn remove_some(store: &Store, seed: u64, made: &Made, stop: &AtomicBool) {
    let mut rng = Rng(seed);
    while !stop.load(Relaxed) {
        let victim = {
            let mut made = made.lock().unwrap();
            let at = rng.below(made.len().max(1) as u64) as usize;
            (made.len() > 4).then(|| made.swap_remove(at).0)
        };
        if let Some(victim) = victim {
            store.remove(victim).unwrap();
        }
        store.gc(gc_now(Duration::ZERO)).unwrap();
    }
}

fn check(store: &Store, made: &[(SnapshotId, Image)]) {
    let listed = store.list().unwrap().snapshots;
    let listed: BTreeSet<_> = listed.into_iter().map(|summary| summary.id).collect();
    assert_eq!(listed, made.iter().map(|(id, _)| *id).collect());
    for (id, image) in made {
        image.check(&store.load_id(*id).unwrap());
    }
    assert!(store.verify(&[], &mut |_| {}).unwrap().is_clean());
}

#[test]
fn writers_and_collectors_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let address = directory.path().to_str().unwrap();
    let open = || Store::open(address, Access::Create).unwrap();
    let made = Made::default();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (made, stop, open) = (&made, &stop, &open);
        // Two write the same pages, so that they refer to each other's packs.
        let writers = [1, 1, 2].map(|seed| scope.spawn(move || write_some(&open(), seed, made)));
        for seed in [90, 91] {
            scope.spawn(move || remove_some(&open(), seed, made, stop));
        }
        let done = writers.map(std::thread::ScopedJoinHandle::join);
        stop.store(true, Relaxed);
        done.into_iter().for_each(|done| done.unwrap());
    });
    let made = made.into_inner().unwrap();
    assert!(!made.is_empty());
    let store = open();
    check(&store, &made);
    store.gc(gc_late()).unwrap();
    check(&store, &made);
}
