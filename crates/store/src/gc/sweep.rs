//! Condemning, sparing and deleting.

use std::fs;

use super::{
    GcOptions, GcReport,
    look::{View, marker},
    mark::Needed,
};
use crate::{
    backend::{LocalObjects, folder, path},
    error::{GcError, ReadError},
    fetch::moved_name,
    id::{PackId, SnapshotId},
    store::Inner,
};

/// How long a tombstone without a manifest is kept: longer than any stalled request lives.
const TOMBSTONE_KEPT_NS: u64 = 7 * 24 * 3600 * 1_000_000_000;
/// How old a file under a staging name is before it is taken for left over.
const STAGED_KEPT_NS: u64 = 3600 * 1_000_000_000;

/// How often to look again when things vanish meanwhile.
const LOOKS_MAX: u32 = 10;

/// What one look showed.
pub(super) struct Seen {
    pub(super) view: View,
    pub(super) needed: Needed,
}

impl Inner {
    /// Looks once, and does what that look allows.
    pub(super) fn collect(
        &self,
        options: &GcOptions,
        report: &mut GcReport,
    ) -> Result<Seen, GcError> {
        report.packs_waiting = 0;
        let (view, needed) = self.look_and_mark(options, report)?;
        self.drop_manifests(options, &view, &needed, report)?;
        self.drop_tombstones(options, &view)?;
        self.delete_packs(options, &view, &needed, report)?;
        self.drop_moves(options, &view, &needed)?;
        self.drop_staged(options, report)?;
        let seen = Seen { view, needed };
        let packs = seen.view.packs.keys().copied();
        let useless: Vec<PackId> = packs
            .filter(|pack| !seen.needed.chunks.contains_key(pack))
            .collect();
        self.condemn(options, &seen, &useless, report)?;
        Ok(seen)
    }

    /// Looks until nothing that is needed vanishes before it is read: another collection may drop
    /// a snapshot that was removed since we listed what is removed.
    fn look_and_mark(
        &self,
        options: &GcOptions,
        report: &mut GcReport,
    ) -> Result<(View, Needed), GcError> {
        let mut looks_left = LOOKS_MAX;
        loop {
            looks_left -= 1;
            let view = self.look(options, report)?;
            match self.mark(&view) {
                Ok(needed) => return Ok((view, needed)),
                Err(ReadError::Storage(error)) if looks_left > 0 && error.is_not_found() => {}
                Err(ReadError::Layer { .. }) if looks_left > 0 => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Condemns packs, unless they are already or may belong to a writer that lives.
    pub(super) fn condemn(
        &self,
        options: &GcOptions,
        seen: &Seen,
        packs: &[PackId],
        report: &mut GcReport,
    ) -> Result<(), GcError> {
        let view = &seen.view;
        let condemned = |pack| view.condemned.contains_key(pack) || view.has_living_owner(*pack);
        for &pack in packs.iter().filter(|pack| !condemned(pack)) {
            if !options.dry_run {
                self.backend
                    .put(&path(folder::CONDEMNED, pack), marker(options.now_ns))?;
            }
            report.packs_condemned.push(pack);
            report.packs_waiting += 1;
            report.bytes_condemned += view.packs.get(&pack).copied().unwrap_or(0);
        }
        Ok(())
    }

    fn drop_manifests(
        &self,
        options: &GcOptions,
        view: &View,
        needed: &Needed,
        report: &mut GcReport,
    ) -> Result<(), GcError> {
        let removed = view
            .tombstones
            .keys()
            .filter(|id| view.manifests.contains(id));
        let dropped: Vec<SnapshotId> = removed
            .filter(|id| !needed.manifests.contains(id))
            .copied()
            .collect();
        if !options.dry_run {
            let paths = |folder| dropped.iter().map(|id| path(folder, id)).collect();
            // The tombstone last: without it the snapshot would be back.
            self.backend.delete(paths(folder::MANIFESTS))?;
            self.backend.delete(paths(folder::REMOVED))?;
            self.forget_summaries(&dropped);
        }
        report.snapshots_dropped.extend(dropped);
        Ok(())
    }

    fn drop_tombstones(&self, options: &GcOptions, view: &View) -> Result<(), GcError> {
        if options.dry_run {
            return Ok(());
        }
        let kept_ns = TOMBSTONE_KEPT_NS.max(options.grace_ns());
        let alone = view
            .tombstones
            .iter()
            .filter(|(id, _)| !view.manifests.contains(id));
        let old = alone.filter(|(_, written)| written.saturating_add(kept_ns) < options.now_ns);
        let paths = old.map(|(id, _)| path(folder::REMOVED, id)).collect();
        Ok(self.backend.delete(paths)?)
    }

    fn delete_packs(
        &self,
        options: &GcOptions,
        view: &View,
        needed: &Needed,
        report: &mut GcReport,
    ) -> Result<(), GcError> {
        let mut deleted = Vec::new();
        for (&pack, &since) in &view.condemned {
            if needed.chunks.contains_key(&pack) {
                if !options.dry_run {
                    self.backend.delete(vec![path(folder::CONDEMNED, pack)])?;
                }
                report.packs_spared.push(pack);
            } else if options.is_past(since) && view.is_ignored_by_all(pack) {
                deleted.push(pack);
                report.bytes_freed += view.packs.get(&pack).copied().unwrap_or(0);
            } else {
                report.packs_waiting += 1;
            }
        }
        if !options.dry_run {
            let paths = |folder| deleted.iter().map(|pack| path(folder, pack)).collect();
            // The marker last: who does not see it any more does not see the pack either.
            self.backend.delete(paths(folder::PACKS))?;
            self.backend.delete(paths(folder::CONDEMNED))?;
        }
        report.packs_deleted.extend(deleted);
        Ok(())
    }

    /// Deletes what is told of packs that are gone and that nobody names any more.
    fn drop_moves(&self, options: &GcOptions, view: &View, needed: &Needed) -> Result<(), GcError> {
        if options.dry_run || !view.leases.is_empty() {
            return Ok(());
        }
        let mut named = needed.named.clone();
        while let Some(&(_, to)) = view
            .moves
            .iter()
            .find(|(from, to)| named.contains(from) && !named.contains(to))
        {
            named.insert(to);
        }
        let gone = |pack: &PackId| !named.contains(pack) && !view.packs.contains_key(pack);
        let useless = view.moves.iter().filter(|(from, _)| gone(from));
        let paths = useless.map(|(from, to)| path(folder::MOVED, moved_name(*from, *to)));
        Ok(self.backend.delete(paths.collect())?)
    }

    fn drop_staged(&self, options: &GcOptions, report: &mut GcReport) -> Result<(), GcError> {
        let Some(directory) = &self.directory else {
            return Ok(());
        };
        let failed = |source| GcError::Staged {
            path: directory.display().to_string(),
            source,
        };
        let kept_ns = STAGED_KEPT_NS.max(options.grace_ns());
        for staged in LocalObjects::staged(directory).map_err(failed)? {
            if staged.modified_ns.saturating_add(kept_ns) > options.now_ns {
                continue;
            }
            report.staged_removed += 1;
            if options.dry_run {
                continue;
            }
            match fs::remove_file(&staged.path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(failed(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
