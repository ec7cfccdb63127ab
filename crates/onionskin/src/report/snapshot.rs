//! What one snapshot cost, and how far it can be trusted.

use serde::{Deserialize, Serialize};
use space::PageRange;

use super::{Timestamp, range_text};

/// How a snapshot is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Rounds of copying while the process runs, then a freeze for what is left.
    Precopy,
    /// A duplicate made in the freeze, read at leisure.
    Fork,
    /// Stop, copy everything, go on.
    Freeze,
}

impl Strategy {
    /// Returns the name that users type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Precopy => "precopy",
            Self::Fork => "fork",
            Self::Freeze => "freeze",
        }
    }
}

/// One snapshot: what it is, what it cost, how far it can be trusted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotReport {
    /// Its id in the store.
    pub snapshot: String,
    /// The id of the snapshot that it is a layer on.
    pub parent: Option<String>,
    /// The name that its user gave it.
    pub name: Option<String>,
    /// The process's id.
    pub pid: u32,
    /// The file that the process runs.
    pub program: String,
    /// The instant of the freeze.
    pub created: Timestamp,
    /// The strategy that was used.
    pub strategy: Strategy,
    /// Rounds of copying while the process ran.
    pub rounds: u32,
    /// The freeze, from the first request to stop a task to the last resume; milliseconds.
    pub freeze_ms: f64,
    /// What the freeze was spent on.
    pub freeze: FreezeParts,
    /// Every other stop of the process.
    pub stops: Vec<OtherStop>,
    /// The size of a base page, in bytes.
    pub page_size: u64,
    /// Pages in the snapshot, its parents' included; base pages.
    pub pages_total: u64,
    /// Pages copied during the freeze.
    pub pages_copied_frozen: u64,
    /// Bytes read from the process.
    pub bytes_read: u64,
    /// Bytes that the store grew by.
    pub bytes_stored: u64,
    /// From the start until the snapshot was safe in the store; milliseconds.
    pub duration_ms: f64,
    /// The comparison with the frozen process, if it was asked for.
    pub verify: Option<Verification>,
    /// Whether it can be the memory of another moment somewhere.
    pub consistency: Consistency,
    /// What else a reader should know, a sentence each.
    pub warnings: Vec<String>,
}

/// What a freeze was spent on, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FreezeParts {
    /// Stopping every task.
    pub stop: f64,
    /// Finding out what was written, mappings and hazards included.
    pub scan: f64,
    /// Copying it, or duplicating the process.
    pub copy: f64,
    /// Reading the registers.
    pub registers: f64,
}

/// A stop of the process outside the freeze.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OtherStop {
    /// What for: `attach`, `inject`, `reap`, ….
    pub why: String,
    /// Its length in milliseconds.
    pub ms: f64,
}

/// A comparison of the snapshot with the memory of the still frozen process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// How long it took, in milliseconds; not counted in the freeze.
    pub ms: f64,
    /// Pages that were compared.
    pub pages: u64,
    /// Pages that differed; anything but 0 is a defect of Onionskin.
    pub differing_pages: u64,
}

/// Whether every page of a snapshot is of the same instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Consistency {
    /// It is: nothing was found that could write unseen.
    Proven,
    /// It may not be.
    Unproven {
        /// Why, and where.
        reasons: Vec<Doubt>,
    },
}

impl Consistency {
    /// Makes the verdict out of what is in doubt.
    pub fn from_doubts(reasons: Vec<Doubt>) -> Self {
        if reasons.is_empty() {
            Self::Proven
        } else {
            Self::Unproven { reasons }
        }
    }
}

/// Something that can write memory without being seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// The memory it may write; empty where that is not known.
    #[serde(with = "range_text::list")]
    pub ranges: Vec<PageRange>,
    /// What it is, as a sentence.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use space::Vaddr;

    use super::*;

    #[test]
    fn the_verdict_has_its_state_in_json() {
        let proven = Consistency::from_doubts(Vec::new());
        assert_eq!(
            serde_json::to_value(&proven).unwrap(),
            json!({"state": "proven"})
        );
        let doubt = Doubt {
            ranges: PageRange::new(Vaddr(0x7f00_0000_0000), Vaddr(0x7f00_0000_1000))
                .into_iter()
                .collect(),
            reason: "pinned".to_owned(),
        };
        let unproven = Consistency::from_doubts(vec![doubt]);
        let value = serde_json::to_value(&unproven).unwrap();
        assert_eq!(
            value,
            json!({
                "state": "unproven",
                "reasons": [{"ranges": ["7f0000000000-7f0000001000"], "reason": "pinned"}],
            })
        );
        assert_eq!(
            serde_json::from_value::<Consistency>(value).unwrap(),
            unproven
        );
    }
}
