//! What is asked for.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use space::{ByteLen, RangeSet};

use crate::Selection;

/// How a snapshot is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Whichever is forecast to have the shortest freeze.
    Auto,
    /// Copies while the target runs, then what was written meanwhile in the freeze.
    Precopy,
    /// Forks the target in the freeze and reads the child after it.
    Fork,
    /// Copies everything in the freeze.
    Freeze,
}

impl Strategy {
    /// Returns the name as users write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Precopy => "precopy",
            Self::Fork => "fork",
            Self::Freeze => "freeze",
        }
    }
}

/// Whether every page is compared with the target before it runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verify {
    /// Pages are taken as read.
    No,
    /// Every page is read a second time, while nothing can change, and compared.
    Yes,
}

/// Whether another snapshot is to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stay {
    /// What was copied is armed again in the freeze, so that the next snapshot reads only what
    /// is written from then on.
    Attached,
    /// This snapshot is the last: nothing is armed in the freeze.
    Detached,
}

/// What a snapshot is to be like.
#[derive(Clone, Debug)]
pub struct Options {
    /// How it is taken.
    pub strategy: Strategy,
    /// The longest freeze allowed; a longer one is given up, and there is no snapshot.
    pub max_freeze: Option<Duration>,
    /// The longest that stopping the tasks may take: those that stand still already wait for the
    /// last one.
    pub stop_limit: Duration,
    /// The longest that looking may take in a freeze, and the longest that copying may make no
    /// progress.
    pub step_limit: Duration,
    /// How much may be copied into memory in a freeze. What is more goes to the sink while the
    /// target stands still, which takes longer.
    pub frozen_max: ByteLen,
    /// Whether pages are compared before the target runs on.
    pub verify: Verify,
    /// Whether another snapshot follows.
    pub stay: Stay,
    /// Which memory belongs in it.
    pub selection: Selection,
    /// Addresses that are written without the page tables showing it, as pinned buffers.
    pub volatile: RangeSet,
    /// The most rounds before the freeze.
    pub rounds_max: u32,
    /// How many threads read and hand on pages; 0 for the calling thread alone.
    pub threads: usize,
    /// What each thread does first that reads and hands on pages, and so hashes and compresses them,
    /// while the target runs: it should not take the processors from it. Those that the target stands
    /// still for do without.
    pub give_way: fn(),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            strategy: Strategy::Auto,
            max_freeze: None,
            stop_limit: Duration::from_millis(250),
            step_limit: Duration::from_secs(10),
            frozen_max: ByteLen(1 << 30),
            verify: Verify::No,
            stay: Stay::Detached,
            selection: Selection::default(),
            volatile: RangeSet::new(),
            rounds_max: 8,
            threads: 2,
            give_way: || {},
        }
    }
}
