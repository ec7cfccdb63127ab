//! Writing a snapshot.
//!
//! # A writer's life
//!
//! 1. [`Store::begin`](crate::Store::begin) draws the snapshot's id, writes a lease that names
//!    it, its name and its parent, then lists the condemned packs, writes into the lease that it
//!    ignores them, and last lists the packs whose chunks it may refer to.
//! 2. [`Writer::put`](space::PageSink::put) is called by many threads. Each cuts its run into
//!    chunks, hashes and compresses them itself, and holds the lock only to look chunks up and to
//!    append them. Full packs are uploaded beside that.
//! 3. [`Writer::commit`] waits for the packs, checks that the lease holds, creates the manifest,
//!    and checks again that the lease held until then.
//!
//! # Races
//!
//! *Two writers* share no file: packs, lease and manifest bear their own random ids. They may
//! store the same chunk twice. A name is given once: each writer first writes its lease with the
//! name and then looks at the others' leases and at the manifests, so that of two, the one who
//! looks later sees the other (both may see each other, then both are refused); a writer that
//! commits creates the manifest before it drops the lease, and another that finds no lease any
//! more finds the manifest, since it looks there last.
//!
//! *A writer and garbage collection* are explained in [`gc`](crate::gc).
//!
//! *A writer that was stopped for long* (SIGSTOP, a suspended machine) may go on after its lease
//! ran out. Garbage collection puts a tombstone for the snapshot's id before it disregards a
//! lease, and it does so only when the lease ended longer than the grace period ago. So the
//! manifest of such a writer is hidden as soon as it is created; and the writer says that it
//! succeeded only if the lease still held, by both clocks, after the manifest was created, and no
//! tombstone was there. Clocks of machines that share a store may differ by up to the grace
//! period.
//!
//! *A request that was sent twice* (object stores retry) may find the manifest created by its own
//! first try. Since nobody else creates a manifest of that id, it is read back and compared.
//!
//! # What a crash leaves
//!
//! Packs that no manifest names, a lease that runs out, and in a directory files under staging
//! names. The manifest is the last object written, in one piece: it is there or not.

mod assemble;
mod begin;
mod commit;
mod compress;
mod cut;
mod differ;
mod overlay;
mod put;
mod upload;

pub use begin::{WriteOptions, check_name};
pub use put::{WriteStats, Writer};

pub(crate) use assemble::OpenPack;
