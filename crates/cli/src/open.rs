//! Opening a store, and what to say of one that can't be reached.

use std::ffi::OsString;

use anyhow::{Error, Result};
use onionskin::store::{Access, OpenError, Store};

/// Opens the store at an address.
///
/// # Errors
///
/// Those of the store, with a hint where an object store's keys are missing.
pub(crate) fn store(address: &str, access: Access) -> Result<Store> {
    Store::open(address, access).map_err(|error| explained(address, error))
}

/// Opens the store at an address, if there is one.
///
/// # Errors
///
/// As [`store`].
pub(crate) fn existing(address: &str) -> Result<Option<Store>> {
    match Store::open(address, Access::Existing) {
        Ok(store) => Ok(Some(store)),
        Err(OpenError::Missing(_)) => Ok(None),
        Err(error) => Err(explained(address, error)),
    }
}

fn explained(address: &str, error: OpenError) -> Error {
    let hint = match &error {
        OpenError::Storage(_) => hint(address, std::env::var_os),
        _ => None,
    };
    let error = Error::from(error);
    match hint {
        Some(hint) => error.context(hint),
        None => error,
    }
}

/// Without keys an object store's client asks a service of the machine's provider for some, and
/// complains of that one.
fn hint(address: &str, variable: impl Fn(&'static str) -> Option<OsString>) -> Option<String> {
    const KEYS: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
    let missing: Vec<&str> = KEYS
        .into_iter()
        .filter(|name| variable(name).is_none_or(|value| value.is_empty()))
        .collect();
    (address.starts_with("s3:") && !missing.is_empty()).then(|| {
        format!(
            "{address} can't be reached, and {} not set: give the keys, the region (AWS_REGION) \
             and, for a server of your own, its address (AWS_ENDPOINT)",
            match missing[..] {
                [one] => format!("{one} is"),
                _ => format!("{} are", missing.join(" and ")),
            }
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_keys_are_named() {
        let nothing = |_| None;
        let both = hint("s3://bucket/prefix", nothing).unwrap();
        assert!(
            both.contains("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set"),
            "{both}"
        );
        let one = |name| (name == "AWS_ACCESS_KEY_ID").then(|| "key".into());
        let one = hint("s3://bucket", one).unwrap();
        assert!(
            one.contains("and AWS_SECRET_ACCESS_KEY is not set"),
            "{one}"
        );
        assert_eq!(hint("s3://bucket", |_| Some("set".into())), None);
        assert_eq!(hint("directory", nothing), None);
    }
}
