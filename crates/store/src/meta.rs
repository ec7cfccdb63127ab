//! What a snapshot says of itself beside its pages.

use serde::{Deserialize, Serialize};
use space::{Mapping, PageRange, PageSize, ProcessState, TaskState};

use crate::id::SnapshotId;

/// One mapping, and what of it the snapshot was to hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedMapping {
    /// The mapping.
    pub mapping: Mapping,
    /// Its class, in the words of whoever selected it: `anonymous-private`, `file-shared`, …
    pub class: String,
    /// The part that was selected, if any.
    pub selected: Option<PageRange>,
}

/// All that a snapshot holds beside pages, given at [`Writer::commit`](crate::Writer::commit).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotMeta {
    /// The instant of the snapshot, nanoseconds since 1970.
    pub created_ns: u64,
    /// The machine's base page size.
    pub page_size: PageSize,
    /// The machine's architecture, as `uname -m` says.
    pub machine: String,
    /// The process.
    pub process: ProcessState,
    /// Its tasks, the first one first.
    pub tasks: Vec<TaskState>,
    /// All its mappings, sorted by address.
    pub mappings: Vec<SavedMapping>,
    /// Whether the snapshot is proven to be of one instant, in the words of whoever took it.
    pub consistency: serde_json::Value,
    /// How it was taken: opaque details.
    pub report: serde_json::Value,
}

/// A snapshot in one line of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Its id.
    pub id: SnapshotId,
    /// The snapshot that it followed, be that one removed or not.
    pub parent: Option<SnapshotId>,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// The instant of the snapshot, nanoseconds since 1970.
    pub created_ns: u64,
    /// How many layers lie under it; 0 where its manifest says everything itself.
    pub depth: u32,
    /// The process it shows.
    pub pid: u32,
    /// That process's name.
    pub process: String,
    /// The page size.
    pub page_size: PageSize,
    /// Tasks in it.
    pub tasks: u64,
    /// Bytes of memory in it, those of its parents and zeros included.
    pub memory_bytes: u64,
    /// Raw bytes that were written for it.
    pub bytes_read: u64,
    /// Bytes that it added to the store.
    pub bytes_stored: u64,
    /// The `state` of its consistency, where that is an object with one: `proven`, `unproven`.
    pub consistency: Option<String>,
}
