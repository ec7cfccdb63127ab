//! Names: of snapshots and packs (random), and of chunks (the BLAKE3 hash of their bytes).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What a text that should be an id is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is 32 hexadecimal digits")]
pub struct IdError;

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_hex(text).map(Self).ok_or(IdError)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    };
}

random_id! {
    /// The name of a snapshot: 16 random bytes, written as 32 hexadecimal digits.
    SnapshotId
}

random_id! {
    /// The name of a pack. Its first 8 bytes are those of the snapshot (or of the collection of
    /// garbage) that it was written for, so that a listing tells whose it is.
    PackId
}

impl SnapshotId {
    /// Draws a new one.
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }
}

impl PackId {
    /// Draws a new one for a pack written on behalf of `owner`.
    pub(crate) fn random(owner: SnapshotId) -> Result<Self, getrandom::Error> {
        let mut bytes = owner.0;
        getrandom::fill(&mut bytes[8..])?;
        Ok(Self(bytes))
    }

    /// Tells whether the pack was written for `owner`.
    pub(crate) fn belongs_to(self, owner: SnapshotId) -> bool {
        self.0[..8] == owner.0[..8]
    }
}

/// Reads exactly 32 lower-case hexadecimal digits.
fn parse_hex(text: &str) -> Option<[u8; 16]> {
    let digits = text.as_bytes();
    if digits.len() != 32
        || !digits
            .iter()
            .all(|d| matches!(d, b'0'..=b'9' | b'a'..=b'f'))
    {
        return None;
    }
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_what_they_print() {
        let id = SnapshotId([0x0f; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in [
            "",
            "0f",
            &"0F".repeat(16),
            &"é".repeat(16),
            &"0f".repeat(17),
        ] {
            assert_eq!(wrong.parse::<SnapshotId>(), Err(IdError), "{wrong}");
        }
    }

    #[test]
    fn packs_know_their_owner() {
        let owner = SnapshotId::random().unwrap();
        let pack = PackId::random(owner).unwrap();
        assert!(pack.belongs_to(owner));
        assert!(!pack.belongs_to(SnapshotId([0; 16])));
        assert_ne!(pack, PackId::random(owner).unwrap());
    }
}
