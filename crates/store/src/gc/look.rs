//! Looking at all that is there, in the order that makes the races harmless.

use std::collections::{BTreeMap, BTreeSet};

use super::{GcOptions, GcReport};
use crate::{
    backend::{Listed, folder, path},
    error::GcError,
    fetch::parse_moved,
    format::Lease,
    id::{PackId, SnapshotId},
    store::Inner,
};

/// Bytes of the longest marker.
const MARKER_BYTES_MAX: u64 = 64;

/// What a collection saw.
pub(super) struct View {
    /// Condemned packs, and since when; nanoseconds since 1970.
    pub(super) condemned: BTreeMap<PackId, u64>,
    /// Removed snapshots, and when their tombstone was written.
    pub(super) tombstones: BTreeMap<SnapshotId, u64>,
    /// Leases that live.
    pub(super) leases: Vec<Lease>,
    /// Pairs of a pack and one that holds chunks of it.
    pub(super) moves: BTreeSet<(PackId, PackId)>,
    /// Snapshots with a manifest.
    pub(super) manifests: BTreeSet<SnapshotId>,
    /// Packs, and their lengths.
    pub(super) packs: BTreeMap<PackId, u64>,
}

impl View {
    /// Tells whether a snapshot is visible.
    pub(super) fn is_visible(&self, id: SnapshotId) -> bool {
        self.manifests.contains(&id) && !self.tombstones.contains_key(&id)
    }

    /// Tells whether a pack was written by somebody who may not have come to an end.
    pub(super) fn has_living_owner(&self, pack: PackId) -> bool {
        self.leases.iter().any(|lease| pack.belongs_to(lease.id))
    }

    /// Tells whether every living writer knows that the pack is condemned.
    pub(super) fn is_ignored_by_all(&self, pack: PackId) -> bool {
        self.leases.iter().all(|lease| {
            lease
                .ignores
                .as_ref()
                .is_some_and(|packs| packs.contains(&pack))
        })
    }
}

impl Inner {
    /// Makes all listings; ends leases that ran out.
    pub(super) fn look(&self, options: &GcOptions, report: &mut GcReport) -> Result<View, GcError> {
        let condemned = self.condemned(options.now_ns)?;
        let tombstones = self.backend.list_ids::<SnapshotId>(folder::REMOVED)?;
        let leases = self.living_leases(options, report)?;
        let moves = self.backend.list(folder::MOVED)?;
        self.refresh_moved()?;
        let manifests = self.ids(folder::MANIFESTS)?;
        let packs: Vec<(PackId, Listed)> = self.backend.list_ids(folder::PACKS)?;
        report.leases_live = leases.len() as u64;
        Ok(View {
            condemned,
            tombstones: tombstones
                .into_iter()
                .map(|(id, l)| (id, l.modified_ns))
                .collect(),
            leases,
            moves: moves
                .iter()
                .filter_map(|listed| parse_moved(&listed.name))
                .collect(),
            manifests: manifests.into_iter().collect(),
            packs: packs
                .into_iter()
                .map(|(id, listed)| (id, listed.bytes))
                .collect(),
        })
    }

    fn condemned(&self, now_ns: u64) -> Result<BTreeMap<PackId, u64>, GcError> {
        let mut condemned = BTreeMap::new();
        for (pack, _) in self.backend.list_ids::<PackId>(folder::CONDEMNED)? {
            let marker = self
                .backend
                .get(&path(folder::CONDEMNED, pack), MARKER_BYTES_MAX);
            let bytes = match marker {
                Err(error) if error.is_not_found() => continue,
                other => other?,
            };
            let since = std::str::from_utf8(&bytes)
                .ok()
                .and_then(|text| text.trim().parse().ok());
            // A marker that can't be read is as good as one of now.
            condemned.insert(pack, since.unwrap_or(now_ns));
        }
        Ok(condemned)
    }

    fn living_leases(
        &self,
        options: &GcOptions,
        report: &mut GcReport,
    ) -> Result<Vec<Lease>, GcError> {
        let mut living = Vec::new();
        for (name, lease) in self.leases()? {
            let lease = lease.map_err(|source| GcError::Lease { name, source })?;
            if !options.is_past(lease.expires_ns) {
                living.push(lease);
                continue;
            }
            if !report.leases_ended.contains(&lease.id) {
                report.leases_ended.push(lease.id);
            }
            if options.dry_run {
                continue;
            }
            if !self.backend.exists(&path(folder::MANIFESTS, lease.id))? {
                self.hide(lease.id)?;
            }
            self.backend.delete(vec![path(folder::LEASES, lease.id)])?;
        }
        Ok(living)
    }
}

/// Makes the text of a marker.
pub(super) fn marker(now_ns: u64) -> Vec<u8> {
    format!("{now_ns}\n").into_bytes()
}
