//! Writers killed at any moment, and a disk that fills up.

use std::{
    io::Read,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use store::{Access, Snapshot, Store};

use crate::common::{Image, Rng, gc_late, write};

/// Names the store in the process that is to be killed.
const VICTIM: &str = "ONIONSKIN_KILL_TEST_STORE";

/// Writes a base and layers without end, as fast as it can; the same ones in every run.
#[test]
fn body_of_the_victim() {
    let Some(address) = std::env::var_os(VICTIM) else {
        return;
    };
    println!("ready");
    let store = Store::open(address.to_str().unwrap(), Access::Create).unwrap();
    let mut rng = Rng(500);
    let mut image = Image::default();
    let mut parent: Option<Snapshot> = None;
    loop {
        let id = parent.as_ref().map(Snapshot::id);
        parent = Some(write(&store, id, &mut image, &mut rng, 6).unwrap());
    }
}

/// Checks that every snapshot is whole: what the victim writes can be foretold.
fn check(address: &str, checked: &mut Vec<store::SnapshotId>) -> usize {
    let Ok(store) = Store::open(address, Access::Existing) else {
        // Killed before the store was marked as one: the next run makes it.
        assert!(!Path::new(address).join("format").exists());
        return 0;
    };
    let listing = store.list().unwrap();
    assert!(listing.damaged.is_empty(), "{listing:?}");
    let report = store.verify(&[], &mut |_| {}).unwrap();
    assert!(report.is_clean(), "{report:?}");
    for first in listing
        .snapshots
        .iter()
        .filter(|summary| summary.parent.is_none())
    {
        let scratch = tempfile::tempdir().unwrap();
        let other = Store::open(scratch.path().to_str().unwrap(), Access::Create).unwrap();
        let (mut rng, mut image) = (Rng(500), Image::default());
        let mut next = Some(first.id);
        while let Some(id) = next {
            let written = write(&other, None, &mut image, &mut rng, 6).unwrap();
            if !checked.contains(&id) {
                let snapshot = store.load_id(id).unwrap();
                assert_eq!(snapshot.meta(), written.meta());
                image.check(&snapshot);
                checked.push(id);
            }
            let above = listing
                .snapshots
                .iter()
                .find(|summary| summary.parent == Some(id));
            next = above.map(|summary| summary.id);
        }
    }
    listing.snapshots.len()
}

#[test]
fn a_writer_may_be_killed_at_any_moment() {
    let directory = tempfile::tempdir().unwrap();
    let address = directory.path().join("store");
    let address = address.to_str().unwrap();
    let mut rng = Rng(std::process::id().into());
    println!("seed {}", rng.0);
    let mut checked = Vec::new();
    let mut whole = 0;
    for _ in 0..25 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::body_of_the_victim", "--nocapture"])
            .env(VICTIM, address)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Wait until it is in the test, so that most kills hit a write.
        let mut text = Vec::new();
        let mut out = victim.stdout.take().unwrap();
        while !text.ends_with(b"ready") {
            let mut byte = [0];
            assert_eq!(out.read(&mut byte).unwrap(), 1, "the victim ended");
            text.push(byte[0]);
        }
        std::thread::sleep(Duration::from_micros(rng.below(60_000)));
        victim.kill().unwrap();
        victim.wait().unwrap();
        whole = check(address, &mut checked);
    }
    assert!(whole > 0, "some snapshots came about");
    let store = Store::open(address, Access::Existing).unwrap();
    store.gc(gc_late()).unwrap();
    assert_eq!(check(address, &mut checked), whole);
    for folder in ["packs", "manifests", "leases", "condemned"] {
        for file in Path::new(address).join(folder).read_dir().unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            assert!(!name.contains('#'), "{folder}/{name} is left");
            assert_ne!(folder, "leases");
        }
    }
}

#[test]
fn a_full_disk_leaves_what_was_there() {
    let mount = tempfile::tempdir().unwrap();
    let at = mount.path();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=3m", "onionskin-test"])
        .arg(at)
        .stderr(Stdio::null())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("skipped: a tmpfs can't be mounted here (it needs root)");
        return;
    }
    let outcome = std::panic::catch_unwind(|| fill(at));
    assert!(Command::new("umount").arg(at).status().unwrap().success());
    outcome.unwrap();
}

fn fill(at: &Path) {
    let address = at.join("store");
    let store = Store::open(address.to_str().unwrap(), Access::Create).unwrap();
    let mut rng = Rng(71);
    let mut image = Image::default();
    let mut kept: Vec<(Snapshot, Image)> = Vec::new();
    let mut failures = 0;
    while failures < 8 {
        let parent = kept.last().map(|(snapshot, _)| snapshot.id());
        match write(&store, parent, &mut image, &mut rng, 6) {
            Ok(snapshot) => kept.push((snapshot, image.clone())),
            Err(error) => {
                failures += 1;
                let cause = std::error::Error::source(&error).map(|cause| format!("{cause:?}"));
                let text = format!("{error:?} {cause:?}");
                assert!(
                    text.contains("StorageFull") || text.contains("No space"),
                    "{text}"
                );
            }
        }
    }
    assert!(kept.len() > 1);
    let again = Store::open(address.to_str().unwrap(), Access::Existing).unwrap();
    assert_eq!(again.list().unwrap().snapshots.len(), kept.len());
    for (snapshot, image) in &kept {
        image.check(&again.load_id(snapshot.id()).unwrap());
    }
    // Room for the tombstones; the collection itself then makes more.
    let half = kept.len() / 2;
    std::fs::remove_dir_all(at.join("store/leases")).unwrap();
    std::fs::create_dir(at.join("store/leases")).unwrap();
    for (snapshot, _) in kept.iter().skip(half) {
        again.remove(snapshot.id()).unwrap();
    }
    let report = again.gc(gc_late()).unwrap();
    assert!(!report.packs_deleted.is_empty(), "{report:?}");
    for (snapshot, image) in kept.iter().take(half) {
        image.check(&again.load_id(snapshot.id()).unwrap());
    }
    write(&again, None, &mut Image::default(), &mut rng, 6).unwrap();
}
