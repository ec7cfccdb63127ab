//! Packing anew what is still needed of packs that are mostly garbage, or very small.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;

use super::{GcOptions, GcReport, look::View, mark::Needed, sweep::Seen};
use crate::{
    backend::{folder, path},
    error::{GcError, WriteError},
    fetch::{moved_name, unpack_checked},
    format::{Lease, PackEntry, decode_pack_index},
    id::{PackId, SnapshotId},
    lease::Held,
    store::Inner,
    write::OpenPack,
};

/// New packs are closed from this length on.
const PACK_BYTES: u64 = 16 << 20;
/// Packs below this length are put together, once there are some.
const SMALL_BYTES: u64 = 4 << 20;
/// How many small packs are some.
const SMALL_PACKS: usize = 8;

/// A new pack, and whose chunks are in it.
struct Target {
    pack: OpenPack,
    from: BTreeSet<PackId>,
}

impl Inner {
    /// Copies needed chunks out of packs that are not worth their room, and returns those packs.
    pub(super) fn repack(
        self: &Arc<Self>,
        options: &GcOptions,
        seen: &Seen,
        report: &mut GcReport,
    ) -> Result<Vec<PackId>, GcError> {
        let (view, needed) = (&seen.view, &seen.needed);
        let candidates = candidates(view, needed);
        if candidates.is_empty() || options.dry_run {
            report.packs_repacked.extend(&candidates);
            return Ok(Vec::new());
        }
        let failed = |error| GcError::Repack(Box::new(error));
        let repacked = self.copy(&candidates, view, needed).map_err(failed)?;
        report.packs_repacked.extend(&repacked);
        Ok(repacked)
    }

    fn copy(
        self: &Arc<Self>,
        candidates: &[PackId],
        view: &View,
        needed: &Needed,
    ) -> Result<Vec<PackId>, WriteError> {
        let owner = SnapshotId::random().map_err(|_| WriteError::Random)?;
        let lease = Held::take(Arc::clone(self), Lease::new(owner, None, None))?;
        // Only packs that are not condemned are read, and what is said of them is true whatever
        // becomes of them, so that no condemned pack needs to stay for us.
        lease.ignore(view.condemned.keys().copied().collect())?;
        let mut target: Option<Target> = None;
        let mut done = Vec::new();
        for &pack in candidates {
            let Some(chunks) = self.needed_chunks(pack, needed)? else {
                continue;
            };
            for (entry, stored) in chunks {
                if target
                    .as_ref()
                    .is_some_and(|target| target.pack.len() >= PACK_BYTES)
                {
                    self.close(target.take(), &lease, owner)?;
                }
                if target.is_none() {
                    let id = PackId::random(owner).map_err(|_| WriteError::Random)?;
                    target = Some(Target {
                        pack: OpenPack::new(id),
                        from: BTreeSet::new(),
                    });
                }
                if let Some(target) = &mut target {
                    // A copy, so that one chunk does not keep its whole old pack in memory.
                    let stored = Bytes::copy_from_slice(&stored);
                    target.pack.append(entry.hash, entry.raw, stored);
                    target.from.insert(pack);
                }
            }
            done.push(pack);
        }
        self.close(target, &lease, owner)?;
        Ok(done)
    }

    /// Reads and checks the needed chunks of a pack; `None` if one is damaged or the pack is
    /// gone: it is better left as it is then.
    fn needed_chunks(
        &self,
        pack: PackId,
        needed: &Needed,
    ) -> Result<Option<Vec<(PackEntry, Bytes)>>, WriteError> {
        let bytes = match self.pack_bytes(pack) {
            // Another collection was faster.
            Err(error) if error.is_not_found() => return Ok(None),
            other => other?,
        };
        let Ok(content) = decode_pack_index(&bytes, bytes.len() as u64) else {
            return Ok(None);
        };
        let offsets = needed.chunks.get(&pack);
        let wanted = |entry: &PackEntry| offsets.is_some_and(|all| all.contains(&entry.offset));
        let mut chunks = Vec::new();
        for entry in content.entries.into_iter().filter(wanted) {
            let start = crate::page_map::index(entry.offset);
            let stored = bytes.slice(start..start + crate::page_map::index(entry.stored));
            let mut raw = vec![0; crate::page_map::index(entry.raw)];
            if unpack_checked(&entry.hash, &stored, &mut raw).is_err() {
                return Ok(None);
            }
            chunks.push((entry, stored));
        }
        let all = offsets.is_some_and(|offsets| offsets.len() == chunks.len());
        Ok(all.then_some(chunks))
    }

    /// Writes a new pack, and then what is in it.
    fn close(
        &self,
        target: Option<Target>,
        lease: &Held,
        owner: SnapshotId,
    ) -> Result<(), WriteError> {
        let Some(target) = target else {
            return Ok(());
        };
        let sealed = target.pack.seal();
        let bytes: Vec<u8> = sealed
            .payload()
            .iter()
            .flat_map(|part| part.iter().copied())
            .collect();
        self.backend.put(&path(folder::PACKS, sealed.id), bytes)?;
        if !lease.holds() {
            return Err(WriteError::LeaseLost(owner));
        }
        for from in target.from {
            self.backend.put(
                &path(folder::MOVED, moved_name(from, sealed.id)),
                Vec::new(),
            )?;
        }
        Ok(())
    }
}

/// Picks the packs that are worth packing anew.
fn candidates(view: &View, needed: &Needed) -> Vec<PackId> {
    let mut wasteful = Vec::new();
    let mut small = Vec::new();
    for (&pack, &bytes) in &view.packs {
        let used = needed.bytes.get(&pack).copied().unwrap_or(0);
        if used == 0 || view.condemned.contains_key(&pack) || view.has_living_owner(pack) {
            continue;
        }
        if used * 2 < bytes {
            wasteful.push(pack);
        } else if bytes < SMALL_BYTES {
            small.push(pack);
        }
    }
    if small.len() >= SMALL_PACKS {
        wasteful.append(&mut small);
    }
    wasteful
}
