//! `snapshots gc`.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use onionskin::store::{GcOptions, GcReport, PackId, SnapshotId, Store};
use serde::Serialize;

use crate::args::GcArgs;
use crate::out::{DIM, Out, paint};
use crate::outcome::Outcome;
use crate::units::{bytes, counted};

/// What was done.
#[derive(Debug, Serialize)]
struct Shown {
    dry_run: bool,
    bytes_freed: u64,
    packs_deleted: Vec<PackId>,
    bytes_condemned: u64,
    packs_condemned: Vec<PackId>,
    packs_spared: Vec<PackId>,
    packs_repacked: Vec<PackId>,
    packs_waiting: u64,
    snapshots_dropped: Vec<SnapshotId>,
    leases_live: u64,
    leases_ended: Vec<SnapshotId>,
    staged_removed: u64,
}

/// Frees what no snapshot needs.
///
/// # Errors
///
/// Those of the store and of printing.
pub(super) fn run(store: &Store, args: &GcArgs, out: &mut Out) -> Result<Outcome> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let report = store.gc(GcOptions {
        grace: args.grace,
        now_ns: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
        dry_run: args.dry_run,
    })?;
    let shown = Shown::of(report, args.dry_run);
    if out.json {
        out.json_line(&shown)?;
    } else {
        print(&shown, out)?;
    }
    Ok(Outcome::Fine)
}

impl Shown {
    fn of(report: GcReport, dry_run: bool) -> Self {
        Self {
            dry_run,
            bytes_freed: report.bytes_freed,
            packs_deleted: report.packs_deleted,
            bytes_condemned: report.bytes_condemned,
            packs_condemned: report.packs_condemned,
            packs_spared: report.packs_spared,
            packs_repacked: report.packs_repacked,
            packs_waiting: report.packs_waiting,
            snapshots_dropped: report.snapshots_dropped,
            leases_live: report.leases_live,
            leases_ended: report.leases_ended,
            staged_removed: report.staged_removed,
        }
    }
}

fn print(shown: &Shown, out: &mut dyn Write) -> Result<()> {
    let packs = |list: &[PackId]| counted(list.len() as u64, "pack");
    let verb = if shown.dry_run { "would free" } else { "freed" };
    writeln!(
        out,
        "{verb} {} in {}",
        bytes(shown.bytes_freed),
        packs(&shown.packs_deleted)
    )?;
    // Without a grace period they are among those that were deleted.
    let gone = |pack| shown.packs_deleted.contains(pack);
    if !shown.packs_condemned.iter().all(gone) {
        writeln!(
            out,
            "{} in {} are not needed: a later gc deletes them, once the grace period has passed",
            bytes(shown.bytes_condemned),
            packs(&shown.packs_condemned)
        )?;
    }
    if shown.packs_waiting > 0 {
        writeln!(
            out,
            "{} wait for their grace period",
            counted(shown.packs_waiting, "pack")
        )?;
    }
    if !shown.packs_repacked.is_empty() {
        writeln!(
            out,
            "{} packed anew, less than half full",
            packs(&shown.packs_repacked)
        )?;
    }
    if shown.leases_live > 0 {
        let text = format!("{} being written", counted(shown.leases_live, "snapshot"));
        writeln!(out, "{}", paint(DIM, text))?;
    }
    Ok(())
}
