//! What can go wrong, one enum for each operation.

pub use crate::backend::StorageError;
use crate::{
    format::FormatError,
    id::{PackId, SnapshotId},
};

/// Why a store can't be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The address can't be understood.
    #[error("the store's address {address:?} can't be used: {problem}")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There is no store.
    #[error("there is no snapshot store at {0}: `onionskin snapshot --store` makes one")]
    Missing(String),
    /// Something else is there.
    #[error("{0} is not empty and no snapshot store: choose an empty or a new directory")]
    Occupied(String),
    /// It was made by a newer version.
    #[error("the store at {0} has a format that this program does not know: use a newer one")]
    Version(String),
    /// The directory can't be made or read.
    #[error("the directory {path} can't be used")]
    Directory {
        /// The directory.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A request failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The runtime for requests can't be started.
    #[error("the threads for the store's requests can't be started")]
    Runtime(#[source] std::io::Error),
}

/// Why something can't be found or read.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No visible snapshot has this name or id.
    #[error("the store has no snapshot {0:?}: `onionskin snapshots list` shows what it has")]
    NotFound(String),
    /// Several snapshots' ids begin so.
    #[error("{count} snapshots' ids begin with {prefix:?}: give more digits")]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// How many fit.
        count: usize,
    },
    /// A manifest is damaged.
    #[error("the manifest of snapshot {id} is damaged")]
    Manifest {
        /// The snapshot.
        id: SnapshotId,
        /// What is wrong with it.
        #[source]
        source: FormatError,
    },
    /// A manifest that a layer needs is missing or no fit.
    #[error("snapshot {id} is layered on {parent}, which is missing or does not fit: {problem}")]
    Layer {
        /// The layer.
        id: SnapshotId,
        /// What it is layered on.
        parent: SnapshotId,
        /// What is wrong.
        problem: &'static str,
    },
    /// A pack's index is damaged.
    #[error("the index of pack {pack} is damaged")]
    Pack {
        /// The pack.
        pack: PackId,
        /// What is wrong with it.
        #[source]
        source: FormatError,
    },
    /// Stored bytes are not what they were.
    #[error("pack {pack} at offset {offset}: {problem}")]
    Chunk {
        /// The pack.
        pack: PackId,
        /// Byte offset of the chunk in it.
        offset: u32,
        /// What is wrong.
        problem: &'static str,
    },
    /// A request failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why a snapshot can't be written.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The name can't be one.
    #[error("{0:?} can't be a snapshot's name: use 1 to 128 letters, digits, '.', '_', '-'")]
    Name(String),
    /// The name is taken.
    #[error("the name {name:?} is taken by snapshot {by}: remove that or choose another")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        by: SnapshotId,
    },
    /// The name is being given to another snapshot right now.
    #[error(
        "the name {name:?} is being given to snapshot {by}: wait {seconds} s or choose another"
    )]
    NameLeased {
        /// The name.
        name: String,
        /// Who writes under it.
        by: SnapshotId,
        /// Until that one's lease ends, if it was killed.
        seconds: u64,
    },
    /// The parent's pages have another size.
    #[error("the parent {0} has another page size")]
    ParentPageSize(SnapshotId),
    /// The page size is larger than the store's chunks.
    #[error("pages of {0} bytes are too large for the store: 64 KiB at most")]
    PageSize(u64),
    /// Pages were given that are no whole pages, or not as many bytes as they take.
    #[error("{bytes} bytes were given for the pages {range}")]
    Shape {
        /// The pages.
        range: space::PageRange,
        /// The bytes.
        bytes: usize,
    },
    /// The lease ended before the snapshot was whole.
    #[error("the store's lease of {0} was not renewed in time: take the snapshot again")]
    LeaseLost(SnapshotId),
    /// The description can't be encoded.
    #[error("the snapshot's description can't be stored")]
    Description(#[from] FormatError),
    /// Reading what is there already failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A request failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// No random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// Why a snapshot can't be removed, or garbage not collected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GcError {
    /// A manifest that is needed can't be read: nothing was deleted, since what it names is not
    /// known.
    #[error(
        "nothing was deleted, since not all snapshots can be read: remove those that \
         `onionskin snapshots verify` names first"
    )]
    Read(#[from] ReadError),
    /// A lease can't be understood: nothing was deleted.
    #[error(
        "nothing was deleted, since the lease {name} can't be understood: where no snapshot is being \
         written (nor by a newer version of onionskin), delete that file"
    )]
    Lease {
        /// The lease's name.
        name: String,
        /// What is wrong with it.
        #[source]
        source: FormatError,
    },
    /// Packing live chunks anew failed.
    #[error("packing what is still used anew failed")]
    Repack(#[source] Box<WriteError>),
    /// A request failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Files that killed writers left can't be removed.
    #[error("left-over files in {path} can't be removed")]
    Staged {
        /// The directory.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
