//! A real S3 server on loopback: moto's, if `ONIONSKIN_MOTO` names its program.

use std::process::Command;

use store::{Access, OpenError, Snapshot, Store, WriteError};

use crate::common::{Image, Rng, gc_late, meta, options, write};
use crate::moto::{BUCKET, Moto};

/// Set in the process that runs the test proper, with the server's address in `AWS_*`.
const INSIDE: &str = "ONIONSKIN_S3_TEST_INSIDE";

#[test]
fn snapshots_live_in_an_s3_server() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let Some(moto) = Moto::start() else {
        println!("skipped: ONIONSKIN_MOTO does not name the moto_server program");
        return;
    };
    // The store takes the server's address from the environment, which only a process of its own
    // can have without disturbing the other tests.
    let status = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "s3::snapshots_live_in_an_s3_server",
            "--nocapture",
        ])
        .env(INSIDE, "1")
        .envs(moto.variables())
        .env_remove("HTTP_PROXY")
        .env_remove("http_proxy")
        .status()
        .unwrap();
    assert!(status.success());
}

fn inside() {
    let address = format!("s3://{BUCKET}/some/prefix");
    let missing = Store::open(&address, Access::Existing);
    assert!(matches!(missing, Err(OpenError::Missing(_))), "{missing:?}");
    let store = Store::open(&address, Access::Create).unwrap();
    let mut rng = Rng(21);
    let mut image = Image::default();
    let mut kept: Vec<(Snapshot, Image)> = Vec::new();
    for _ in 0..5 {
        let parent = kept.last().map(|(snapshot, _)| snapshot.id());
        let snapshot = write(&store, parent, &mut image, &mut rng, 12).unwrap();
        kept.push((snapshot, image.clone()));
    }
    let again = Store::open(&address, Access::Existing).unwrap();
    for (snapshot, image) in &kept {
        image.check(&again.load_id(snapshot.id()).unwrap());
    }
    assert!(again.verify(&[], &mut |_| {}).unwrap().is_clean());
    let named = again.begin(options(Some("one"), None)).unwrap();
    let twice = store.begin(options(Some("one"), None)).unwrap_err();
    assert!(matches!(twice, WriteError::NameLeased { .. }), "{twice}");
    named.commit(meta(9)).unwrap();

    again.diff(kept[0].0.id(), kept[4].0.id()).unwrap();
    for number in [0, 1, 3] {
        again.remove(kept[number].0.id()).unwrap();
    }
    again.gc(gc_late()).unwrap();
    for number in [2, 4] {
        kept[number]
            .1
            .check(&store.load_id(kept[number].0.id()).unwrap());
    }
    assert!(again.verify(&[], &mut |_| {}).unwrap().is_clean());
    for summary in again.list().unwrap().snapshots {
        again.remove(summary.id).unwrap();
    }
    let report = again.gc(gc_late()).unwrap();
    assert!(!report.packs_deleted.is_empty());
    assert!(again.list().unwrap().snapshots.is_empty());
}
