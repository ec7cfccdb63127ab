//! Freeing what no snapshot needs, while others write and read.
//!
//! # What is needed
//!
//! A snapshot is *visible* if its manifest exists and no tombstone does. Needed are the visible
//! snapshots and those that living writers layer theirs on, with all manifests that these are
//! layered on; and of packs, the chunks of their resolved pages. A removed snapshot's manifest
//! stays while a needed one is layered on it.
//!
//! # How a pack goes
//!
//! A pack without a needed chunk is first *condemned*: a marker with the time is written. A later
//! look, the grace period after that, deletes the pack if it is still not needed, and then the
//! marker; if it is needed again, only the marker. Readers have the grace period to come to an
//! end. A pack of which less than half is needed is packed anew: its needed chunks are copied to
//! a new pack, an object `moved/OLD-NEW` says so, and the old pack is condemned. Manifests go on
//! naming the old pack; readers who miss it look there, and find the chunk by its hash.
//!
//! # Races
//!
//! All listings are made in this order: condemned packs, tombstones, leases, moves, manifests,
//! packs. A writer's order is: lease, condemned packs (which it then writes into its lease, as
//! those that it ignores), packs; and in the end manifest, then the lease's deletion.
//!
//! *A pack is deleted that a writer refers to.* It was condemned in our listing, not needed in
//! our manifests, and each living lease in our listing ignores it. A writer whose manifest came
//! after our listing either had its lease in our listing (before that manifest), so it ignores
//! the pack; or it took its lease after our listing, when the marker was there to be seen by it.
//! Should the marker be gone before it looked, then so was the pack, since the marker is deleted
//! last, and the writer lists packs after markers. Another collection may delete only the marker,
//! but only because a manifest needs the pack; by the same reasoning there can be none.
//!
//! *A manifest is dropped that a new layer needs.* The tombstone was in our listing. A writer who
//! took a lease with that parent before we listed leases is seen there; one who took it later
//! checks after that whether the parent is visible, finds the tombstone and is refused.
//!
//! *A lease ran out* (its writer died, or was stopped). It is disregarded only if it ended longer
//! than the grace period ago and its manifest does not exist, and only after a tombstone for its
//! snapshot was written, so that a manifest created later is never seen; see `write` for the
//! writer's side. Tombstones without a manifest are kept for a week.
//!
//! *Two collections at once* condemn the same packs, delete what is deleted already (which is no
//! error), and may both copy the same chunks; then there are two moves, both true. A collection
//! that packs anew holds a lease like a writer, so that its packs are not deleted before it says
//! what is in them; and a move whose target is missing is disregarded.
//!
//! *A collection is killed.* Every step leaves the store readable; the next one goes on. What is
//! half done is a pack without a move (not needed, so condemned), a manifest deleted with its
//! tombstone left, or a pack deleted with its marker left.
//!
//! Clocks of machines that share a store may differ by up to the grace period.

mod look;
mod mark;
mod repack;
mod sweep;

use std::time::Duration;

use crate::{
    error::GcError,
    id::{PackId, SnapshotId},
    store::Store,
};

/// How to collect garbage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GcOptions {
    /// How long a pack stays condemned before it is deleted, and how much longer than it says a
    /// lease is minded. Zero deletes at once: only where nobody reads meanwhile, and where all
    /// writers' clocks agree with `now_ns`.
    pub grace: Duration,
    /// Now, nanoseconds since 1970.
    pub now_ns: u64,
    /// Only tells what would be done.
    pub dry_run: bool,
}

/// What was done, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Removed snapshots whose manifests were deleted.
    pub snapshots_dropped: Vec<SnapshotId>,
    /// Packs that are not needed and were condemned now.
    pub packs_condemned: Vec<PackId>,
    /// Bytes of these.
    pub bytes_condemned: u64,
    /// Condemned packs that are needed again.
    pub packs_spared: Vec<PackId>,
    /// Packs whose needed chunks were copied to others.
    pub packs_repacked: Vec<PackId>,
    /// Packs that were deleted.
    pub packs_deleted: Vec<PackId>,
    /// Bytes of these.
    pub bytes_freed: u64,
    /// Condemned packs that wait for the grace period, or for a writer to come to an end.
    pub packs_waiting: u64,
    /// Leases of writers that live.
    pub leases_live: u64,
    /// Leases that ran out and were disregarded.
    pub leases_ended: Vec<SnapshotId>,
    /// Files that killed writers left under staging names and that were deleted.
    pub staged_removed: u64,
}

impl Store {
    /// Frees what no snapshot needs; see [the module](crate::gc).
    ///
    /// # Errors
    ///
    /// [`GcError::Read`] where a needed manifest can't be read, [`GcError::Lease`] where a lease
    /// can't be understood: nothing is deleted then. Those of access; what was done until then
    /// stays done.
    pub fn gc(&self, options: GcOptions) -> Result<GcReport, GcError> {
        let mut report = GcReport::default();
        let at_once = options.grace.is_zero() && !options.dry_run;
        let mut seen = self.inner.collect(&options, &mut report)?;
        if at_once {
            // What was condemned just now may go at once, but only after a second look.
            seen = self.inner.collect(&options, &mut report)?;
        }
        // Packing anew comes last: it needs room, which may have to be freed first.
        let repacked = self.inner.repack(&options, &seen, &mut report)?;
        self.inner
            .condemn(&options, &seen, &repacked, &mut report)?;
        if at_once && !repacked.is_empty() {
            self.inner.collect(&options, &mut report)?;
        }
        Ok(report)
    }
}

impl GcOptions {
    fn grace_ns(&self) -> u64 {
        u64::try_from(self.grace.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Tells whether something of that time is past its grace period.
    fn is_past(&self, time_ns: u64) -> bool {
        time_ns.saturating_add(self.grace_ns()) <= self.now_ns
    }
}
