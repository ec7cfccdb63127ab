//! What the probes found, in the form in which it is shown.

use std::collections::BTreeMap;

use serde::Serialize;
use space::Errno;

/// What came of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It did what it should.
    Works,
    /// The kernel or the machine does not have it.
    Missing,
    /// It is there, but not for us.
    Denied,
}

/// One thing that was probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What came of it.
    pub status: Status,
    /// What was seen, for a person to read.
    pub why: String,
    /// The command that would change it, where there is one.
    pub fix: Option<String>,
}

impl Finding {
    /// Makes a finding of something that works.
    pub(crate) fn works(why: impl Into<String>) -> Self {
        Self {
            status: Status::Works,
            why: why.into(),
            fix: None,
        }
    }

    /// Makes a finding of something that is not there.
    pub(crate) fn missing(why: impl Into<String>) -> Self {
        Self {
            status: Status::Missing,
            why: why.into(),
            fix: None,
        }
    }

    /// Makes a finding of something that we may not use.
    pub(crate) fn denied(why: impl Into<String>) -> Self {
        Self {
            status: Status::Denied,
            why: why.into(),
            fix: None,
        }
    }

    /// Makes a finding of a call that failed: what we may not do is denied, all else missing.
    pub(crate) fn failed(what: &str, errno: Errno) -> Self {
        let why = format!("{what}: {errno}");
        match errno {
            Errno::EPERM | Errno::EACCES => Self::denied(why),
            _ => Self::missing(why),
        }
    }

    /// Adds the command that would change it.
    #[must_use]
    pub(crate) fn fix(self, command: impl Into<String>) -> Self {
        Self {
            fix: Some(command.into()),
            ..self
        }
    }

    /// Tells whether it works.
    pub fn is_good(&self) -> bool {
        self.status == Status::Works
    }
}

/// Whether a way of taking a snapshot is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Strategy {
    /// Whether it is.
    pub status: Status,
    /// What it rests on, or lacks.
    pub why: String,
}

/// One thing about a process that a snapshot of it depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What it is about.
    pub name: String,
    /// What was found: what does not work stands in the way.
    #[serde(flatten)]
    pub finding: Finding,
}

/// All that was probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Doctor {
    /// The kernel's release, as `uname -r`.
    pub kernel: String,
    /// The machine, as `uname -m`.
    pub arch: String,
    /// The base page size, in bytes.
    pub page_size: u64,
    /// What the kernel offers us, by name.
    pub features: BTreeMap<String, Finding>,
    /// The ways of taking a snapshot, by name.
    pub strategies: BTreeMap<String, Strategy>,
    /// What was found about the process that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Vec<Row>>,
}
