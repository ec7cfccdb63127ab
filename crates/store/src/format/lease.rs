//! A lease: who is writing into the store, and until when garbage collection must mind them.

use serde::{Deserialize, Serialize};

use super::FormatError;
use crate::id::{PackId, SnapshotId};

/// Bytes of the longest lease that is read: room for 100,000 ignored packs.
const LEASE_BYTES_MAX: u64 = 4 << 20;
/// The version this program writes.
const VERSION: u32 = 1;

/// What a writer says of itself in `leases/ID`, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Version of the format.
    pub version: u32,
    /// The id that the snapshot will have.
    pub id: SnapshotId,
    /// The name that the snapshot will have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The snapshot that it will be layered on: it must not be dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<SnapshotId>,
    /// When the lease ends unless it is renewed: nanoseconds since 1970.
    pub expires_ns: u64,
    /// The condemned packs that the writer has seen and will not refer to; `None` until it has
    /// looked. A condemned pack may be deleted only if every live lease lists it.
    pub ignores: Option<Vec<PackId>>,
}

impl Lease {
    /// Makes a lease of the current version.
    pub(crate) fn new(id: SnapshotId, name: Option<String>, parent: Option<SnapshotId>) -> Self {
        Self {
            version: VERSION,
            id,
            name,
            parent,
            expires_ns: 0,
            ignores: None,
        }
    }

    /// Encodes it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a lease has only strings and numbers")
    }

    /// Decodes one.
    ///
    /// # Errors
    ///
    /// Any [`FormatError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        super::bytes::limited("the length of a lease", bytes.len() as u64, LEASE_BYTES_MAX)?;
        let lease: Self = serde_json::from_slice(bytes).map_err(|error| FormatError::Json {
            what: "the lease",
            problem: error.to_string(),
        })?;
        if lease.version != VERSION {
            return Err(FormatError::Version {
                found: lease.version,
                known: VERSION,
            });
        }
        Ok(lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_and_refuses_rubbish() {
        let mut lease = Lease::new(SnapshotId([1; 16]), Some("a".into()), None);
        lease.ignores = Some(vec![PackId([2; 16])]);
        assert_eq!(Lease::decode(&lease.encode()), Ok(lease.clone()));
        lease.version = 9;
        assert!(matches!(
            Lease::decode(&lease.encode()),
            Err(FormatError::Version { .. })
        ));
        assert!(matches!(
            Lease::decode(b"{}"),
            Err(FormatError::Json { .. })
        ));
    }
}
