//! Checking every hash.

use std::collections::{BTreeMap, HashSet};

use space::PageRange;

use crate::{
    backend::{folder, path},
    error::ReadError,
    fetch::{Wanted, unpack_checked},
    id::{PackId, SnapshotId},
    page_map::{Content, PageMap, index},
    store::{Inner, Store},
};

/// Stored bytes read at a time.
const FETCH_BYTES: u64 = 8 << 20;

/// How far a check has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyProgress {
    /// Stored bytes checked.
    pub bytes_done: u64,
    /// Stored bytes to be checked.
    pub bytes_total: u64,
}

/// Pages of a snapshot that a damaged chunk spoils.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hurt {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The pages.
    pub pages: Vec<PageRange>,
}

/// A chunk that can't be read back as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadChunk {
    /// The pack that it was written to.
    pub pack: PackId,
    /// Byte offset in it.
    pub offset: u32,
    /// Stored bytes.
    pub stored: u32,
    /// What is wrong.
    pub problem: String,
    /// Whom it hurts, among the checked snapshots.
    pub hurts: Vec<Hurt>,
}

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct VerifyReport {
    /// Snapshots that were checked.
    pub snapshots: Vec<SnapshotId>,
    /// Chunks that were checked.
    pub chunks: u64,
    /// Stored bytes that were checked.
    pub bytes: u64,
    /// Damaged chunks.
    pub bad_chunks: Vec<BadChunk>,
    /// Snapshots whose manifest, or one under it, is damaged or missing.
    pub bad_manifests: Vec<(SnapshotId, ReadError)>,
}

impl VerifyReport {
    /// Tells whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.bad_chunks.is_empty() && self.bad_manifests.is_empty()
    }
}

impl Store {
    /// Reads every chunk that `snapshots` need (all snapshots, if none are given) and checks it.
    /// `progress` is called now and then.
    ///
    /// # Errors
    ///
    /// [`ReadError::NotFound`] for a snapshot that is not there, and those of access; damage is
    /// what the report is for.
    pub fn verify(
        &self,
        snapshots: &[SnapshotId],
        progress: &mut dyn FnMut(VerifyProgress),
    ) -> Result<VerifyReport, ReadError> {
        let inner = &self.inner;
        let mut ids = snapshots.to_vec();
        if ids.is_empty() {
            ids = inner.visible()?;
        }
        ids.sort_unstable();
        ids.dedup();
        let mut report = VerifyReport {
            snapshots: ids.clone(),
            ..VerifyReport::default()
        };
        let mut chunks: BTreeMap<(PackId, u32), Vec<Wanted>> = BTreeMap::new();
        for id in ids {
            if !inner.is_visible(id)? {
                return Err(ReadError::NotFound(id.to_string()));
            }
            match inner.resolve(id) {
                Ok((_, map)) => collect(&map, &mut chunks),
                Err(error @ (ReadError::Manifest { .. } | ReadError::Layer { .. })) => {
                    report.bad_manifests.push((id, error));
                }
                Err(error) => return Err(error),
            }
        }
        let wanted: Vec<Wanted> = chunks.into_values().flatten().collect();
        let bad = check(inner, &wanted, &mut report, progress)?;
        hurt(inner, bad, &mut report)?;
        Ok(report)
    }
}

/// Collects the chunks that a map uses. Two manifests that tell different things of one place are
/// both checked.
fn collect(map: &PageMap, chunks: &mut BTreeMap<(PackId, u32), Vec<Wanted>>) {
    for chunk in &map.chunks {
        let place = (map.packs[index(chunk.pack)], chunk.offset);
        let told = chunks.entry(place).or_default();
        let told_of = |one: &Wanted| (one.chunk.hash, one.chunk.stored, one.raw_len);
        let wanted = map.wanted(chunk);
        if !told.iter().any(|other| told_of(other) == told_of(&wanted)) {
            told.push(wanted);
        }
    }
}

fn check(
    inner: &Inner,
    wanted: &[Wanted],
    report: &mut VerifyReport,
    progress: &mut dyn FnMut(VerifyProgress),
) -> Result<Vec<(Wanted, String)>, ReadError> {
    let bytes_total = wanted.iter().map(|one| u64::from(one.chunk.stored)).sum();
    let mut bad = Vec::new();
    let mut rest = wanted;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fitting = rest.iter().take_while(|one| {
            let before = bytes;
            bytes += u64::from(one.chunk.stored);
            before == 0 || bytes <= FETCH_BYTES
        });
        let (batch, behind) = rest.split_at(fitting.count());
        rest = behind;
        match inner.fetch(batch) {
            Ok(parts) => {
                for (one, stored) in batch.iter().zip(parts) {
                    bad.extend(problem_of(one, &stored).map(|problem| (*one, problem.to_owned())));
                }
            }
            // A pack is missing or cut short: which chunks that hurts shows one by one.
            Err(_) => {
                for one in batch {
                    bad.extend(check_alone(inner, one)?.map(|problem| (*one, problem)));
                }
            }
        }
        report.chunks += batch.len() as u64;
        report.bytes += batch
            .iter()
            .map(|one| u64::from(one.chunk.stored))
            .sum::<u64>();
        progress(VerifyProgress {
            bytes_done: report.bytes,
            bytes_total,
        });
    }
    Ok(bad)
}

/// Checks one chunk; only a store that can't be reached at all is an error.
fn check_alone(inner: &Inner, wanted: &Wanted) -> Result<Option<String>, ReadError> {
    match inner.fetch(&[*wanted]) {
        Ok(parts) => {
            let stored = parts.first().map_or(&[][..], |part| part);
            Ok(problem_of(wanted, stored).map(str::to_owned))
        }
        Err(error) => {
            let end = u64::from(wanted.chunk.offset) + u64::from(wanted.chunk.stored);
            Ok(Some(
                match inner.backend.size(&path(folder::PACKS, wanted.pack))? {
                    Some(size) if size < end => "the pack is cut short".to_owned(),
                    _ => told(&error),
                },
            ))
        }
    }
}

fn problem_of(wanted: &Wanted, stored: &[u8]) -> Option<&'static str> {
    unpack_checked(&wanted.chunk.hash, stored, &mut vec![0; wanted.raw_len]).err()
}

/// Tells an error with its causes.
fn told(error: &ReadError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}

/// Finds out whom damaged chunks hurt.
fn hurt(
    inner: &Inner,
    bad: Vec<(Wanted, String)>,
    report: &mut VerifyReport,
) -> Result<(), ReadError> {
    if bad.is_empty() {
        return Ok(());
    }
    let places: HashSet<(PackId, u32)> = bad
        .iter()
        .map(|(wanted, _)| (wanted.pack, wanted.chunk.offset))
        .collect();
    let mut hurts: BTreeMap<(PackId, u32), Vec<Hurt>> = BTreeMap::new();
    let broken: Vec<SnapshotId> = report.bad_manifests.iter().map(|(id, _)| *id).collect();
    for &snapshot in report.snapshots.iter().filter(|id| !broken.contains(id)) {
        let (_, map) = inner.resolve(snapshot)?;
        let mut pages: BTreeMap<(PackId, u32), Vec<PageRange>> = BTreeMap::new();
        for extent in &map.extents {
            let Content::Data { chunk, .. } = extent.content else {
                continue;
            };
            let chunk = &map.chunks[index(chunk)];
            let place = (map.packs[index(chunk.pack)], chunk.offset);
            if places.contains(&place) {
                pages.entry(place).or_default().push(map.addresses(extent));
            }
        }
        for (place, pages) in pages {
            hurts
                .entry(place)
                .or_default()
                .push(Hurt { snapshot, pages });
        }
    }
    report.bad_chunks = bad
        .into_iter()
        .map(|(wanted, problem)| BadChunk {
            pack: wanted.pack,
            offset: wanted.chunk.offset,
            stored: wanted.chunk.stored,
            problem,
            hurts: hurts
                .get(&(wanted.pack, wanted.chunk.offset))
                .cloned()
                .unwrap_or_default(),
        })
        .collect();
    Ok(())
}
