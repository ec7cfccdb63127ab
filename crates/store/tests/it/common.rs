//! What the tests share: a memory image to compare with, and descriptions.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use space::{
    Mapping, MappingFlags, PageRange, PageSink, PageSize, ProcessState, Protection, RegisterSet,
    Sharing, TaskState, Vaddr,
};
use store::{
    GcOptions, SavedMapping, Snapshot, SnapshotId, SnapshotMeta, Store, WriteError, WriteOptions,
    Writer,
};

pub(crate) const PAGE: u64 = 4096;

/// A small generator of numbers, the same for the same seed.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Half compressible bytes.
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(16) {
            let random = self.next().to_le_bytes();
            chunk.fill(7);
            let len = chunk.len().min(8);
            chunk[..len].copy_from_slice(&random[..len]);
        }
    }
}

/// What memory holds, page by page; a page that is missing is not captured.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Image(pub(crate) BTreeMap<u64, Vec<u8>>);

impl Image {
    /// Changes some pages at random and tells the writer, as an engine would.
    pub(crate) fn change(
        &mut self,
        rng: &mut Rng,
        writer: &Writer,
        runs: u64,
    ) -> Result<(), WriteError> {
        for _ in 0..runs {
            let (start, pages) = (rng.below(500), 1 + rng.below(40));
            let range = range(start, start + pages);
            match rng.below(10) {
                0 => {
                    writer.discard(range)?;
                    (start..start + pages).for_each(|page| drop(self.0.remove(&page)));
                }
                1 => {
                    writer.put_zeros(range)?;
                    self.0
                        .extend((start..start + pages).map(|page| (page, vec![0; 4096])));
                }
                kind => {
                    let mut bytes = vec![0; (pages * PAGE) as usize];
                    rng.fill(&mut bytes);
                    for page in bytes.chunks_mut(4096) {
                        match rng.below(8) {
                            0 => page.fill(0),
                            1 => page.fill(kind as u8),
                            _ => {}
                        }
                    }
                    writer.put(range, &bytes)?;
                    let pages = bytes.chunks(4096).map(<[u8]>::to_vec);
                    self.0.extend((start..).zip(pages));
                }
            }
        }
        Ok(())
    }

    /// Compares every page with a snapshot.
    pub(crate) fn check(&self, snapshot: &Snapshot) {
        let captured = snapshot.captured();
        for page in 0..600 {
            let held = captured.contains(Vaddr(page * PAGE));
            assert_eq!(
                held,
                self.0.contains_key(&page),
                "page {page} of {}",
                snapshot.id()
            );
        }
        for part in captured.iter() {
            let mut found = vec![1; part.len().as_usize()];
            let read = snapshot.read_pages(&[part], &mut found).unwrap();
            assert_eq!(read, part.len());
            let first = part.start().0 / PAGE;
            for (page, bytes) in (first..).zip(found.chunks(4096)) {
                assert!(self.0[&page] == bytes, "page {page} of {}", snapshot.id());
            }
        }
    }
}

pub(crate) fn range(start: u64, end: u64) -> PageRange {
    PageRange::new(Vaddr(start * PAGE), Vaddr(end * PAGE)).unwrap()
}

pub(crate) fn page_size() -> PageSize {
    PageSize::new(PAGE).unwrap()
}

pub(crate) fn now_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_nanos() as u64
}

pub(crate) fn options(name: Option<&str>, parent: Option<SnapshotId>) -> WriteOptions {
    WriteOptions {
        name: name.map(str::to_owned),
        parent,
        page_size: page_size(),
        now_ns: now_ns(),
    }
}

/// Collects so late (a day) that every lease has run out.
pub(crate) fn gc_late() -> GcOptions {
    GcOptions {
        grace: Duration::ZERO,
        now_ns: now_ns() + 24 * 3600 * 1_000_000_000,
        dry_run: false,
    }
}

pub(crate) fn gc_now(grace: Duration) -> GcOptions {
    GcOptions {
        grace,
        now_ns: now_ns(),
        dry_run: false,
    }
}

pub(crate) fn meta(created_ns: u64) -> SnapshotMeta {
    let mapping = |start, end, name: &str| SavedMapping {
        mapping: Mapping {
            range: range(start, end),
            protection: Protection::READ | Protection::WRITE,
            sharing: Sharing::Private,
            file_offset: 0,
            device: (0, 0),
            inode: 0,
            name: name.to_owned(),
            flags: MappingFlags::LOCKED,
            page_size: page_size(),
        },
        class: "anonymous-private".to_owned(),
        selected: Some(range(start, end)),
    };
    SnapshotMeta {
        created_ns,
        page_size: page_size(),
        machine: "x86_64".to_owned(),
        process: ProcessState {
            pid: 42,
            parent: 1,
            process_group: 42,
            session: 42,
            uid: 1000,
            gid: 1000,
            nice: 0,
            flags: 0,
            name: "sample".to_owned(),
            command_line: vec!["sample".to_owned(), "--flag".to_owned()],
            executable: "/bin/sample".to_owned(),
            auxv: vec![1, 2, 3],
            limits: "none".to_owned(),
            machine: 62,
        },
        tasks: vec![TaskState {
            tid: 42,
            name: "sample".to_owned(),
            signal: 0,
            signals_pending: 0,
            signals_blocked: 0,
            siginfo: Vec::new(),
            user_time: Duration::from_millis(3),
            system_time: Duration::ZERO,
            registers: vec![RegisterSet {
                note: 1,
                bytes: vec![9; 216],
            }],
        }],
        mappings: vec![mapping(0, 256, "[heap]"), mapping(256, 600, "")],
        consistency: serde_json::json!({ "status": "proven" }),
        report: serde_json::json!({ "freeze_ms": 3.5 }),
    }
}

/// Writes a snapshot of an image that is changed first.
pub(crate) fn write(
    store: &Store,
    parent: Option<SnapshotId>,
    image: &mut Image,
    rng: &mut Rng,
    runs: u64,
) -> Result<Snapshot, WriteError> {
    let writer = store.begin(options(None, parent))?;
    let mut changed = image.clone();
    changed.change(rng, &writer, runs)?;
    let snapshot = writer.commit(meta(rng.next() >> 8))?;
    *image = changed;
    Ok(snapshot)
}
