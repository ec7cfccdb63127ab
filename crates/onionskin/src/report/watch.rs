//! What a process wrote in one interval.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use space::PageRange;

use super::{Heat, Strategy, range_text};

/// What a process wrote between two looks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatchInterval {
    /// Milliseconds from the start of watching to the end of the interval.
    pub t_ms: f64,
    /// The length of the interval in milliseconds.
    pub interval_ms: f64,
    /// The process's id.
    pub pid: u32,
    /// The file that the process runs, or its name.
    pub program: String,
    /// How writes are seen.
    pub tracking: TrackingMode,
    /// How long the process stood still since the last interval, in milliseconds: for the look (with
    /// soft-dirty bits), to register new mappings (with write protection), and at first for attaching.
    pub stopped_ms: f64,
    /// The size of a base page, in bytes.
    pub page_size: u64,
    /// Base pages written at least once in the interval.
    pub written_pages: u64,
    /// Their bytes divided by the interval.
    pub written_bytes_per_s: f64,
    /// Base pages in memory or swapped out.
    pub resident_pages: u64,
    /// The freeze that a snapshot would need now.
    pub forecast: Forecast,
    /// Every mapping, by address.
    pub mappings: Vec<MappingActivity>,
}

/// How writes are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrackingMode {
    /// Asynchronous write protection (`UFFD_FEATURE_WP_ASYNC`): the process never waits
    /// for a look, and is stopped for a moment where it has new mappings.
    WriteProtect,
    /// Soft-dirty bits: the process is stopped for each look.
    SoftDirty,
}

impl TrackingMode {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::WriteProtect => "write-protect",
            Self::SoftDirty => "soft-dirty",
        }
    }
}

/// The freeze that a snapshot would need: a forecast from what looking took here and what a sample
/// of the memory took to copy. Stopping and forking are not tried, so that these parts are typical
/// values of a small machine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// The strategy that `auto` would choose.
    pub strategy: Strategy,
    /// The freeze of each strategy.
    pub freeze_ms: FreezeForecast,
}

/// Milliseconds of freeze for each strategy; `None` where it does not work for this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FreezeForecast {
    /// With rounds before.
    pub precopy: Option<f64>,
    /// With a duplicate.
    pub fork: Option<f64>,
    /// Stop and copy.
    pub freeze: Option<f64>,
}

/// What was written in one mapping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MappingActivity {
    /// Its addresses.
    #[serde(with = "range_text")]
    pub range: PageRange,
    /// The file's name, the kernel's name as `[heap]`, or empty.
    pub name: String,
    /// As in `/proc/PID/maps`: `rw-p`.
    pub protection: String,
    /// Its length in bytes.
    pub size_bytes: u64,
    /// Bytes of it in memory or swapped out.
    pub resident_bytes: u64,
    /// Base pages written at least once in the interval.
    pub written_pages: u64,
    /// Their bytes divided by the interval.
    pub written_bytes_per_s: f64,
    /// Whether its writes are seen.
    pub tracked: Tracked,
    /// Where it was written.
    pub heat: Heat,
    /// The written pages, in order.
    #[serde(
        with = "range_text::list",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub written: Vec<PageRange>,
}

/// Whether the writes to a mapping are seen: `true` in JSON, or the reason why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tracked {
    /// They are.
    Yes,
    /// They are not, and why.
    No(String),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum TrackedJson<'a> {
    Yes(bool),
    No(std::borrow::Cow<'a, str>),
}

impl Serialize for Tracked {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Yes => TrackedJson::Yes(true),
            Self::No(reason) => TrackedJson::No(reason.into()),
        }
        .serialize(out)
    }
}

impl<'de> Deserialize<'de> for Tracked {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        Ok(match TrackedJson::deserialize(input)? {
            TrackedJson::Yes(true) => Self::Yes,
            TrackedJson::Yes(false) => Self::No("not told".to_owned()),
            TrackedJson::No(reason) => Self::No(reason.into_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tracked_is_true_or_the_reason() {
        let reason = Tracked::No("a device's memory".to_owned());
        for (value, text) in [
            (Tracked::Yes, json!(true)),
            (reason, json!("a device's memory")),
        ] {
            assert_eq!(serde_json::to_value(&value).unwrap(), text);
            assert_eq!(serde_json::from_value::<Tracked>(text).unwrap(), value);
        }
    }
}
