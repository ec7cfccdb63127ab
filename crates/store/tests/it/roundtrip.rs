//! Writing and reading in a directory.

use std::os::unix::fs::PermissionsExt;

use space::{ByteLen, Errno, PageSink, PageSource, RangeSet, Vaddr};
use store::{Access, MappingChange, OpenError, ReadError, Snapshot, Store, WriteError};

use crate::common::{Image, PAGE, Rng, gc_late, meta, options, range, write};

fn open(directory: &tempfile::TempDir) -> Store {
    Store::open(directory.path().to_str().unwrap(), Access::Create).unwrap()
}

#[test]
fn what_is_written_is_read_back_through_many_layers() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let mut rng = Rng(1);
    let mut image = Image::default();
    let mut kept: Vec<(Snapshot, Image)> = Vec::new();
    for layer in 0..40 {
        let parent = kept.last().map(|(snapshot, _)| snapshot.id());
        let runs = if layer == 0 { 60 } else { 3 };
        let snapshot = write(&store, parent, &mut image, &mut rng, runs).unwrap();
        assert_eq!(snapshot.summary().parent, parent);
        kept.push((snapshot, image.clone()));
    }
    let depths: Vec<_> = kept
        .iter()
        .map(|(snapshot, _)| snapshot.summary().depth)
        .collect();
    assert_eq!(depths[..3], [0, 1, 2]);
    assert!(depths.iter().all(|&depth| depth < 32));
    assert!(
        depths[1..].contains(&0),
        "a long chain is cut by a whole manifest: {depths:?}"
    );

    let again = open(&directory);
    for (snapshot, image) in &kept {
        image.check(snapshot);
        let loaded = again.load_id(snapshot.id()).unwrap();
        assert_eq!(loaded.meta(), snapshot.meta());
        assert_eq!(loaded.summary(), snapshot.summary());
        image.check(&loaded);
    }
    let report = again.verify(&[], &mut |_| {}).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.snapshots.len(), 40);
    let listing = again.list().unwrap();
    assert_eq!((listing.snapshots.len(), listing.damaged.len()), (40, 0));
}

#[test]
fn several_threads_write_one_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let writer = store.begin(options(None, None)).unwrap();
    const THREADS: u64 = 4;
    const MIB: u64 = 1 << 20;
    let content = |at: u64| {
        let mut bytes = vec![0; MIB as usize];
        Rng(at % 20).fill(&mut bytes);
        bytes
    };
    // 48 MiB, of which 20 are different: more than what packs in memory may hold.
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let writer = &writer;
            scope.spawn(move || {
                for step in 0..12 {
                    let at = step * THREADS + thread;
                    let pages = MIB / PAGE;
                    let range = range(at * pages, (at + 1) * pages);
                    writer.put(range, &content(at)).unwrap();
                    assert_eq!(writer.differs(range, &content(at)).unwrap(), []);
                }
            });
        }
    });
    let stats = writer.stats();
    assert_eq!(stats.bytes_read, 48 * MIB);
    assert_eq!(stats.chunks, 48 * 16);
    assert!(
        stats.bytes_stored < 16 * MIB,
        "equal chunks are stored once: {stats:?}"
    );
    let snapshot = writer.commit(meta(1)).unwrap();
    let captured = snapshot.captured();
    assert_eq!(captured.len(), ByteLen(48 * MIB));
    let mut buf = vec![0; MIB as usize];
    for (at, part) in (0..).zip(captured.iter().flat_map(|all| all.chunks(ByteLen(MIB)))) {
        assert_eq!(snapshot.read(&[part], &mut buf), Ok(ByteLen(MIB)));
        assert!(buf == content(at));
    }
    assert!(store.verify(&[], &mut |_| {}).unwrap().is_clean());
}

#[test]
fn equal_content_is_stored_once_across_snapshots_and_sessions() {
    let directory = tempfile::tempdir().unwrap();
    let mut bytes = vec![0; 64 * 4096];
    Rng(3).fill(&mut bytes);
    let stored = |store: &Store, at: u64| {
        let writer = store.begin(options(None, None)).unwrap();
        writer.put(range(at, at + 64), &bytes).unwrap();
        let stored = writer.stats().bytes_stored;
        writer.commit(meta(1)).unwrap();
        stored
    };
    let store = open(&directory);
    assert!(stored(&store, 0) > 0);
    assert_eq!(stored(&store, 32), 0, "within a session");
    assert_eq!(stored(&open(&directory), 160), 0, "in another");
}

#[test]
fn zeros_and_missing_pages_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let writer = store.begin(options(None, None)).unwrap();
    writer.put(range(0, 4), &[1; 4 * 4096]).unwrap();
    writer.put(range(4, 8), &[0; 4 * 4096]).unwrap();
    writer.put_zeros(range(8, 1 << 34)).unwrap();
    writer.discard(range(12, 13)).unwrap();
    assert_eq!(writer.stats().bytes_zero, 4 * PAGE);
    let snapshot = writer.commit(meta(1)).unwrap();
    let zeros: RangeSet = [range(4, 12), range(13, 1 << 34)].into_iter().collect();
    assert_eq!(snapshot.zeros(), zeros);
    let mut buf = vec![9; 20 * 4096];
    assert_eq!(
        snapshot.read(&[range(2, 20)], &mut buf),
        Ok(ByteLen(10 * PAGE))
    );
    assert!(buf[..2 * 4096].iter().all(|&byte| byte == 1));
    assert!(buf[2 * 4096..10 * 4096].iter().all(|&byte| byte == 0));
    assert_eq!(
        snapshot.read(&[range(12, 14)], &mut buf),
        Err(Errno::EFAULT)
    );
    let two = [range(0, 1), range(13, 14)];
    assert_eq!(snapshot.read(&two, &mut buf), Ok(ByteLen(2 * PAGE)));
    assert!(snapshot.captured().contains(Vaddr((1 << 34) * PAGE - 1)));
}

#[test]
fn a_later_put_replaces_an_earlier_one_and_differs_sees_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let mut rng = Rng(8);
    let mut bytes = vec![0; 32 * 4096];
    rng.fill(&mut bytes);
    let writer = store.begin(options(None, None)).unwrap();
    writer.put(range(0, 32), &bytes).unwrap();
    let base = writer.commit(meta(1)).unwrap();

    let writer = store.begin(options(None, Some(base.id()))).unwrap();
    assert_eq!(
        writer.differs(range(0, 32), &bytes).unwrap(),
        [],
        "the parent's pages count"
    );
    bytes[5 * 4096] ^= 1;
    bytes[20 * 4096..22 * 4096].fill(0);
    assert_eq!(
        writer.differs(range(0, 32), &bytes).unwrap(),
        [range(5, 6), range(20, 22)],
        "page-exact"
    );
    writer.put(range(5, 6), &[3; 4096]).unwrap();
    writer.put(range(5, 6), &bytes[5 * 4096..6 * 4096]).unwrap();
    writer
        .put(range(20, 22), &bytes[20 * 4096..22 * 4096])
        .unwrap();
    assert_eq!(writer.differs(range(0, 32), &bytes).unwrap(), []);
    assert_eq!(
        writer
            .differs(range(3, 7), &bytes[3 * 4096..7 * 4096])
            .unwrap(),
        []
    );
    writer.discard(range(30, 31)).unwrap();
    let beyond = [&bytes[28 * 4096..], &[0; 4096]].concat();
    assert_eq!(
        writer.differs(range(28, 33), &beyond).unwrap(),
        [range(30, 31), range(32, 33)],
        "a page that the snapshot would not hold differs"
    );
    let top = writer.commit(meta(2)).unwrap();
    assert_eq!(top.layer().extents.len(), 3, "a layer holds what changed");

    let diff = store.diff(base.id(), top.id()).unwrap();
    let [heap] = &diff.mappings[..] else {
        panic!("{diff:?}");
    };
    assert_eq!(
        (heap.change, heap.name.as_str()),
        (MappingChange::Kept, "[heap]")
    );
    assert_eq!(heap.changed.ranges(), [range(5, 6), range(20, 22)]);
    assert_eq!(heap.vanished.ranges(), [range(30, 31)]);
    assert!(heap.appeared.is_empty());
    assert_eq!(store.diff(top.id(), top.id()).unwrap().mappings, []);
}

#[test]
fn diff_agrees_with_the_images() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let mut rng = Rng(77);
    let (mut image, mut before) = (Image::default(), Image::default());
    let mut last: Option<Snapshot> = None;
    for _ in 0..5 {
        let parent = last.as_ref().map(Snapshot::id);
        let snapshot = write(&store, parent, &mut image, &mut rng, 12).unwrap();
        if let Some(parent) = parent {
            let diff = store.diff(parent, snapshot.id()).unwrap();
            let has = |pick: fn(&store::MappingDiff) -> &RangeSet, page: u64| {
                diff.mappings
                    .iter()
                    .any(|mapping| pick(mapping).contains(Vaddr(page * PAGE)))
            };
            for page in 0..600 {
                let (old, new) = (before.0.get(&page), image.0.get(&page));
                let both = old.is_some() && new.is_some();
                assert_eq!(has(|m| &m.changed, page), both && old != new, "page {page}");
                assert_eq!(has(|m| &m.appeared, page), old.is_none() && new.is_some());
                assert_eq!(has(|m| &m.vanished, page), old.is_some() && new.is_none());
            }
        }
        before = image.clone();
        last = Some(snapshot);
    }
}

#[test]
fn names_and_prefixes_find_snapshots() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let writer = store.begin(options(Some("nightly"), None)).unwrap();
    let beside = store.begin(options(Some("nightly"), None)).unwrap_err();
    assert!(matches!(beside, WriteError::NameLeased { .. }), "{beside}");
    let id = writer.commit(meta(5)).unwrap().id();
    let again = store.begin(options(Some("nightly"), None)).unwrap_err();
    assert!(
        matches!(again, WriteError::NameTaken { by, .. } if by == id),
        "{again}"
    );
    for wrong in ["", "a/b", "é", &"x".repeat(129)] {
        let error = store.begin(options(Some(wrong), None)).unwrap_err();
        assert!(matches!(error, WriteError::Name(_)), "{wrong}: {error}");
    }
    assert_eq!(store.find("nightly").unwrap(), id);
    assert_eq!(store.find(&id.to_string()).unwrap(), id);
    assert_eq!(store.find(&id.to_string()[..4]).unwrap(), id);
    assert!(matches!(
        store.find(&id.to_string()[..3]),
        Err(ReadError::NotFound(_))
    ));
    assert!(matches!(store.find("daily"), Err(ReadError::NotFound(_))));

    store.remove(id).unwrap();
    assert!(matches!(store.find("nightly"), Err(ReadError::NotFound(_))));
    assert!(matches!(store.load_id(id), Err(ReadError::NotFound(_))));
    assert!(matches!(store.remove(id), Err(ReadError::NotFound(_))));
    let again = store.begin(options(Some("nightly"), None)).unwrap();
    again.commit(meta(6)).unwrap();
    let lost = store.begin(options(None, Some(id))).unwrap_err();
    assert!(
        matches!(lost, WriteError::Read(ReadError::NotFound(_))),
        "{lost}"
    );
}

#[test]
fn a_writer_that_is_dropped_leaves_no_snapshot_and_no_lease() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let writer = store.begin(options(Some("gone"), None)).unwrap();
    writer.put(range(0, 1), &[1; 4096]).unwrap();
    drop(writer);
    assert!(store.list().unwrap().snapshots.is_empty());
    assert_eq!(
        directory.path().join("leases").read_dir().unwrap().count(),
        0
    );
    store.begin(options(Some("gone"), None)).unwrap();
}

#[test]
fn wrong_shapes_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let writer = store.begin(options(None, None)).unwrap();
    let error = writer.put(range(0, 2), &[1; 4096]).unwrap_err();
    assert!(
        matches!(error, WriteError::Shape { bytes: 4096, .. }),
        "{error}"
    );
    let mut large = options(None, None);
    large.page_size = space::PageSize::new(1 << 21).unwrap();
    assert!(matches!(store.begin(large), Err(WriteError::PageSize(_))));
}

#[test]
fn files_are_private_and_directories_are_guarded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/store");
    let address = path.to_str().unwrap();
    assert!(matches!(
        Store::open(address, Access::Existing),
        Err(OpenError::Missing(_))
    ));
    assert!(!path.exists(), "looking makes nothing");
    let store = Store::open(address, Access::Create).unwrap();
    write(&store, None, &mut Image::default(), &mut Rng(5), 10).unwrap();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for folder in path.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
        if folder.is_dir() {
            assert_eq!(mode(&folder), 0o700, "{folder:?}");
            for file in folder
                .read_dir()
                .unwrap()
                .map(|entry| entry.unwrap().path())
            {
                assert_eq!(mode(&file), 0o600, "{file:?}");
            }
        } else {
            assert_eq!(mode(&folder), 0o600, "{folder:?}");
        }
    }
    Store::open(&format!("file://{address}"), Access::Existing).unwrap();

    let other = directory.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("letter"), "dear").unwrap();
    let occupied = Store::open(other.to_str().unwrap(), Access::Create);
    assert!(matches!(occupied, Err(OpenError::Occupied(_))));
    std::fs::write(path.join("format"), "onionskin snapshot store, version 2\n").unwrap();
    assert!(matches!(
        Store::open(address, Access::Create),
        Err(OpenError::Version(_))
    ));
}

#[test]
fn flipped_bits_are_found_by_reads_and_by_verify() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let mut image = Image::default();
    let snapshot = write(&store, None, &mut image, &mut Rng(9), 30).unwrap();
    let pack = directory
        .path()
        .join("packs")
        .read_dir()
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let good = std::fs::read(&pack).unwrap();
    let chunk = snapshot.map().chunks[3];
    let mut bad = good.clone();
    bad[chunk.offset as usize + chunk.stored as usize / 2] ^= 0x10;
    std::fs::write(&pack, &bad).unwrap();
    let report = store.verify(&[snapshot.id()], &mut |_| {}).unwrap();
    let [found] = &report.bad_chunks[..] else {
        panic!("{report:?}");
    };
    assert_eq!(found.offset, chunk.offset);
    assert_eq!(found.hurts[0].snapshot, snapshot.id());
    let spoiled = found.hurts[0].pages[0];
    let mut buf = vec![0; spoiled.len().as_usize()];
    let error = snapshot.read_pages(&[spoiled], &mut buf).unwrap_err();
    assert!(matches!(error, ReadError::Chunk { .. }), "{error}");
    assert_eq!(snapshot.read(&[spoiled], &mut buf), Err(Errno::EIO));

    std::fs::write(&pack, &good[..good.len() / 2]).unwrap();
    let report = store.verify(&[], &mut |_| {}).unwrap();
    assert!(
        report
            .bad_chunks
            .iter()
            .all(|bad| bad.problem.contains("cut short")),
        "{report:?}"
    );
    assert!(!report.bad_chunks.is_empty());
    std::fs::remove_file(&pack).unwrap();
    let report = store.verify(&[], &mut |_| {}).unwrap();
    assert_eq!(report.bad_chunks.len(), snapshot.map().chunks.len());
    std::fs::write(&pack, &good).unwrap();
    assert!(store.verify(&[], &mut |_| {}).unwrap().is_clean());
}

#[test]
fn a_damaged_manifest_is_told_and_can_be_removed() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let snapshot = write(&store, None, &mut Image::default(), &mut Rng(9), 10).unwrap();
    let pack = directory
        .path()
        .join("packs")
        .read_dir()
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let manifest = directory
        .path()
        .join("manifests")
        .join(snapshot.id().to_string());
    let mut bytes = std::fs::read(&manifest).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&manifest, bytes).unwrap();
    let again = open(&directory);
    assert_eq!(
        again.verify(&[], &mut |_| {}).unwrap().bad_manifests.len(),
        1
    );
    assert!(matches!(
        again.load_id(snapshot.id()),
        Err(ReadError::Manifest { .. })
    ));
    assert!(
        again.gc(gc_late()).is_err(),
        "nothing is collected while a manifest is unreadable"
    );
    assert!(pack.exists());
    again.remove(snapshot.id()).unwrap();
    again.gc(gc_late()).unwrap();
    assert!(!pack.exists());
}
