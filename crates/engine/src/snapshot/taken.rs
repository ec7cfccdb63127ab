//! What came of a snapshot.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use space::{ByteLen, Mapping, PageCount, PageRange, RangeSet, StopLength, TaskState};

use super::{Doubt, Strategy};
use crate::Part;

/// One round of copying while the target ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// Its number, from 1.
    pub number: u32,
    /// Pages copied.
    pub pages: PageCount,
    /// Bytes read for them; pages of zeros are not read.
    pub bytes: ByteLen,
    /// How long it took.
    pub duration: Duration,
}

/// The freeze, and what it was spent on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeTimes {
    /// From the first request to stop a task to the last resume, without verification.
    pub total: Duration,
    /// Until all stood still.
    pub stop: Duration,
    /// Listing mappings and asking for their pages.
    pub scan: Duration,
    /// Copying or forking.
    pub copy: Duration,
    /// Reading registers; it runs beside the copying.
    pub registers: Duration,
}

/// What a comparison of all pages showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// How long it took; the target stood still for it, but for pages read from a forked child.
    pub duration: Duration,
    /// Pages compared.
    pub pages: PageCount,
    /// Pages that differ, or that the snapshot should hold and does not.
    pub differences: RangeSet,
}

/// A snapshot that was taken.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The strategy that was used in the end; never [`Strategy::Auto`].
    pub strategy: Strategy,
    /// Its rounds, in order.
    pub rounds: Vec<Round>,
    /// Its freeze.
    pub freeze: FreezeTimes,
    /// Every other stop of the target that the engine asked for: of attempts given up, of reaping.
    pub stops: Vec<StopLength>,
    /// The tasks in the freeze.
    pub tasks: Vec<TaskState>,
    /// All mappings in the freeze, sorted by address.
    pub mappings: Vec<Mapping>,
    /// The parts of them that were taken, sorted by address.
    pub parts: Vec<Part>,
    /// Pages in the snapshot, those of earlier layers among them.
    pub pages_total: PageCount,
    /// Pages copied while the target stood still.
    pub pages_copied_frozen: PageCount,
    /// Bytes read from the target and from a forked child, without verification.
    pub bytes_read: ByteLen,
    /// What the comparison showed, if it was asked for.
    pub verified: Option<Verified>,
    /// How often the target was frozen for it.
    pub attempts: u32,
    /// Pages that have content which could not be read, and are not in the snapshot.
    pub unreadable: Vec<PageRange>,
    /// What can't be proven to be of the instant of the freeze.
    pub doubts: Vec<Doubt>,
    /// What else the user should know, as sentences.
    pub warnings: Vec<String>,
}
