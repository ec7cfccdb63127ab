//! A store written by the first version of the format, kept with the tests: it must be readable
//! for ever.
//!
//! `ONIONSKIN_WRITE_GOLDEN=1` writes it anew, which only a new version of the format may need.

use std::path::Path;

use space::PageSink;
use store::{Access, Content, Snapshot, Store};

use crate::common::{Rng, meta, options, range};

const BASE: &str = "golden-base";
const LAYER: &str = "golden-layer";

fn base_bytes() -> Vec<u8> {
    let mut bytes = vec![0; 20 * 4096];
    Rng(2024).fill(&mut bytes[..4096]);
    for (number, page) in bytes.chunks_mut(4096).enumerate().skip(1) {
        page.fill(number as u8);
    }
    bytes[10 * 4096..12 * 4096].fill(0);
    bytes
}

fn write_golden(directory: &Path) {
    let store = Store::open(directory.to_str().unwrap(), Access::Create).unwrap();
    let writer = store.begin(options(Some(BASE), None)).unwrap();
    writer.put(range(16, 36), &base_bytes()).unwrap();
    let base = writer.commit(meta(1_700_000_000_000_000_000)).unwrap();
    let writer = store.begin(options(Some(LAYER), Some(base.id()))).unwrap();
    writer.put(range(17, 18), &[0xaa; 4096]).unwrap();
    writer.discard(range(30, 32)).unwrap();
    writer.commit(meta(1_700_000_005_000_000_000)).unwrap();
}

fn pages(snapshot: &Snapshot, start: u64, end: u64) -> Vec<u8> {
    let range = range(start, end);
    let mut bytes = vec![1; range.len().as_usize()];
    assert_eq!(
        snapshot.read_pages(&[range], &mut bytes).unwrap(),
        range.len()
    );
    bytes
}

#[test]
fn the_golden_store_is_read() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    if std::env::var_os("ONIONSKIN_WRITE_GOLDEN").is_some() {
        write_golden(&golden);
    }
    let store = Store::open(golden.to_str().unwrap(), Access::Existing).unwrap();
    assert!(store.verify(&[], &mut |_| {}).unwrap().is_clean());
    let (base, layer) = (store.load(BASE).unwrap(), store.load(LAYER).unwrap());
    assert_eq!(base.meta(), &meta(1_700_000_000_000_000_000));
    assert_eq!(layer.meta().created_ns, 1_700_000_005_000_000_000);
    assert_eq!((base.summary().depth, layer.summary().depth), (0, 1));
    assert_eq!(layer.summary().parent, Some(base.id()));
    let mut bytes = base_bytes();
    assert!(pages(&base, 16, 36) == bytes);
    assert_eq!(base.zeros().ranges(), [range(26, 28)]);
    bytes[4096..2 * 4096].fill(0xaa);
    assert!(pages(&layer, 16, 30) == bytes[..14 * 4096]);
    assert!(pages(&layer, 32, 36) == bytes[16 * 4096..]);
    assert_eq!(layer.captured().ranges(), [range(16, 30), range(32, 36)]);
    let own: Vec<_> = layer
        .layer()
        .extents
        .iter()
        .map(|e| (e.start, e.pages))
        .collect();
    assert_eq!(own, [(17, 1), (30, 2)]);
    assert_eq!(layer.layer().extents[1].content, Content::Discarded);
}
