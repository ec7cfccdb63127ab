//! Files that were cut, changed, or made up: errors, never a panic, never much memory.

use std::path::{Path, PathBuf};

use store::{
    Access, Store,
    format::{Lease, decode_head, decode_manifest, decode_pack_index, decode_trailer},
};

use crate::common::{Image, Rng, gc_late, options, write};

/// A manifest and a pack of a small store.
fn samples() -> (Vec<u8>, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().to_str().unwrap(), Access::Create).unwrap();
    write(&store, None, &mut Image::default(), &mut Rng(31), 6).unwrap();
    let file = |folder| std::fs::read(&files(directory.path(), folder)[0]).unwrap();
    (file("manifests"), file("packs"))
}

fn files(store: &Path, folder: &str) -> Vec<PathBuf> {
    let entries = store.join(folder).read_dir().unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Changes a file in one of the ways that files go bad, or that someone would try.
fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let at = rng.below(bytes.len() as u64) as usize;
    match rng.below(6) {
        0 => bytes[at] ^= 1 << rng.below(8),
        1 => bytes.truncate(at),
        2 => drop(bytes.drain(..at.min(64))),
        3 => bytes.extend_from_slice(&rng.next().to_le_bytes()),
        4 => {
            let number = [u64::MAX, 0, 1 << 31, 1 << 63, 4096][rng.below(5) as usize];
            for (byte, new) in bytes[at..].iter_mut().zip(number.to_le_bytes()) {
                *byte = new;
            }
        }
        _ => {
            let from = rng.below(bytes.len() as u64) as usize;
            let len = rng.below(64) as usize;
            let piece: Vec<u8> = bytes[from..].iter().take(len).copied().collect();
            let end = (at + piece.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&piece[..end - at]);
        }
    }
}

/// Makes the checksums right again, so that what lies behind them is reached.
fn mend_manifest(bytes: &mut [u8]) {
    let Some(body) = bytes.len().checked_sub(32).filter(|&body| body > 152) else {
        return;
    };
    let summary = u32::from_le_bytes(bytes[64..68].try_into().unwrap()) as usize;
    let head = 120 + summary.min(body - 152);
    let hash = *blake3::hash(&bytes[..head]).as_bytes();
    bytes[head..head + 32].copy_from_slice(&hash);
    let hash = *blake3::hash(&bytes[..body]).as_bytes();
    bytes[body..].copy_from_slice(&hash);
}

fn mend_pack(bytes: &mut [u8]) {
    let Some(trailer) = bytes.len().checked_sub(48) else {
        return;
    };
    let count = u32::from_le_bytes(bytes[trailer + 32..trailer + 36].try_into().unwrap());
    let Some(index) = trailer.checked_sub(count as usize * 48) else {
        return;
    };
    let hash = *blake3::hash(&bytes[index..trailer]).as_bytes();
    bytes[trailer..trailer + 32].copy_from_slice(&hash);
}

#[test]
fn mutated_manifests_and_packs_are_refused_or_make_sense() {
    let (manifest, pack) = samples();
    let mut rng = Rng(55);
    let (mut refused, mut taken) = (0, 0);
    for round in 0..6000 {
        let mend = round % 2 == 0;
        let mut bytes = manifest.clone();
        for _ in 0..=rng.below(3) {
            mutate(&mut rng, &mut bytes);
        }
        if mend {
            mend_manifest(&mut bytes);
        }
        drop(decode_head(&bytes));
        match decode_manifest(&bytes) {
            Err(_) => refused += 1,
            Ok(decoded) => {
                taken += 1;
                let extents = &decoded.layer.extents;
                assert!(extents.windows(2).all(|two| two[0].end() <= two[1].start));
                assert!(mend || bytes == manifest, "a change went unseen");
            }
        }
        let mut bytes = pack.clone();
        mutate(&mut rng, &mut bytes);
        if mend {
            mend_pack(&mut bytes);
        }
        drop(decode_trailer(&bytes));
        drop(decode_pack_index(&bytes, bytes.len() as u64));
        let mut lease = br#"{"version":1,"id":"00112233445566778899aabbccddeeff","#.to_vec();
        lease.extend_from_slice(br#""expires_ns":5,"ignores":[]}"#);
        mutate(&mut rng, &mut lease);
        drop(Lease::decode(&lease));
    }
    assert!(
        refused > 1000 && taken > 0,
        "{refused} refused, {taken} taken"
    );
}

#[test]
fn a_store_of_bad_files_gives_errors() {
    let directory = tempfile::tempdir().unwrap();
    let address = directory.path().to_str().unwrap();
    let store = Store::open(address, Access::Create).unwrap();
    let (mut image, mut rng) = (Image::default(), Rng(66));
    let base = write(&store, None, &mut image, &mut rng, 8).unwrap();
    let top = write(&store, Some(base.id()), &mut image, &mut rng, 8).unwrap();
    drop(store);
    let paths: Vec<PathBuf> = ["manifests", "packs"]
        .iter()
        .flat_map(|folder| files(directory.path(), folder))
        .collect();
    for round in 0..300 {
        let path = &paths[round % paths.len()];
        let good = std::fs::read(path).unwrap();
        let mut bad = good.clone();
        mutate(&mut rng, &mut bad);
        if path.parent().unwrap().ends_with("manifests") && round % 3 == 0 {
            mend_manifest(&mut bad);
        }
        std::fs::write(path, &bad).unwrap();
        let store = Store::open(address, Access::Existing).unwrap();
        drop(store.list());
        drop(store.verify(&[], &mut |_| {}));
        drop(store.diff(base.id(), top.id()));
        drop(store.begin(options(None, Some(top.id()))));
        if let Ok(snapshot) = store.load_id(top.id()) {
            for range in snapshot
                .captured()
                .iter()
                .filter(|range| range.len().0 < 1 << 24)
            {
                drop(snapshot.read_pages(&[range], &mut vec![0; range.len().as_usize()]));
            }
        }
        let mut dry = gc_late();
        dry.dry_run = true;
        drop(store.gc(dry));
        std::fs::write(path, &good).unwrap();
    }
    let store = Store::open(address, Access::Existing).unwrap();
    assert!(store.verify(&[], &mut |_| {}).unwrap().is_clean());
    image.check(&store.load_id(top.id()).unwrap());
}
