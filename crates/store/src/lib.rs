//! Snapshots kept: pages named by their content, in a directory or an object store.
//!
//! A [`Store`] holds *packs* (chunks of pages, each named by the BLAKE3 hash of its bytes and kept
//! once) and *manifests* (one for each snapshot: its description, and where each of its pages is,
//! or what changed since the snapshot it is layered on). Manifests are immutable and written last,
//! so that a snapshot is there whole or not at all, whenever a writer dies.
//!
//! [`Store::begin`] gives a [`Writer`], which takes pages as a [`space::PageSink`];
//! [`Store::load`] gives a [`Snapshot`], which yields them as a [`space::PageSource`].
//! [`Store::gc`] frees what no snapshot needs, also while others write and read: [`gc`] tells how.
//! The bytes on the disk are described in `docs/snapshot-format.md` and made in [`mod@format`].
//!
//! This crate knows nothing of how pages are found; nobody else knows of files and requests.
#![forbid(unsafe_code)]

mod backend;
mod catalog;
mod diff;
mod error;
mod fetch;
pub mod format;
pub mod gc;
mod id;
mod known;
mod lease;
mod meta;
mod page_map;
mod snapshot;
mod store;
mod verify;
mod write;

pub use catalog::Listing;
pub use diff::{Diff, MappingChange, MappingDiff};
pub use error::{GcError, OpenError, ReadError, StorageError, WriteError};
pub use gc::{GcOptions, GcReport};
pub use id::{IdError, PackId, SnapshotId};
pub use meta::{SavedMapping, SnapshotMeta, Summary};
pub use page_map::{Chunk, Content, Extent, PageMap};
pub use snapshot::Snapshot;
pub use store::{Access, Store};
pub use verify::{BadChunk, Hurt, VerifyProgress, VerifyReport};
pub use write::{WriteOptions, WriteStats, Writer, check_name};
