//! Addresses of stores: a directory, `file://…` or `s3://bucket/prefix`.

use std::{path::PathBuf, sync::Arc};

use object_store::ObjectStore;
use url::Url;

use crate::error::OpenError;

/// Where a store is.
#[derive(Debug)]
pub(crate) enum Location {
    /// In a directory.
    Directory(PathBuf),
    /// In an object store.
    #[cfg_attr(
        not(feature = "s3"),
        expect(dead_code, reason = "no other address leads to an object store")
    )]
    Objects(Arc<dyn ObjectStore>),
}

/// Understands an address. Nothing is read or made.
pub(crate) fn parse_address(address: &str) -> Result<Location, OpenError> {
    let wrong = |problem: &str| OpenError::Address {
        address: address.to_owned(),
        problem: problem.to_owned(),
    };
    if address.is_empty() {
        return Err(wrong("it is empty"));
    }
    let Some((scheme, _)) = address.split_once("://") else {
        return Ok(Location::Directory(PathBuf::from(address)));
    };
    let url = Url::parse(address).map_err(|error| wrong(&error.to_string()))?;
    match scheme {
        "file" => {
            let path = url.to_file_path();
            path.map(Location::Directory)
                .map_err(|()| wrong("it names another host"))
        }
        "s3" => s3(&url).map_err(|problem| wrong(&problem)),
        _ => Err(wrong(
            "give a directory, file:///directory or s3://bucket/prefix",
        )),
    }
}

#[cfg(feature = "s3")]
fn s3(url: &Url) -> Result<Location, String> {
    use object_store::{aws::AmazonS3Builder, path::Path, prefix::PrefixStore};

    // reqwest wants one chosen, and an application that uses us may have done so already.
    _ = rustls::crypto::ring::default_provider().install_default();
    let bucket = url.host_str().ok_or("the bucket is missing")?;
    let bucket = AmazonS3Builder::from_env().with_bucket_name(bucket).build();
    let bucket = bucket.map_err(|error| error.to_string())?;
    let prefix = Path::from_url_path(url.path()).map_err(|error| error.to_string())?;
    Ok(Location::Objects(Arc::new(PrefixStore::new(
        bucket, prefix,
    ))))
}

#[cfg(not(feature = "s3"))]
fn s3(_url: &Url) -> Result<Location, String> {
    Err("this program was built without the feature `s3`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood_or_refused() {
        for (address, path) in [
            ("a/b", "a/b"),
            ("file:///a%20b", "/a b"),
            ("./s3:x", "./s3:x"),
        ] {
            match parse_address(address) {
                Ok(Location::Directory(found)) => assert_eq!(found, PathBuf::from(path)),
                other => panic!("{address}: {other:?}"),
            }
        }
        for wrong in ["", "ftp://a/b", "file://host/a", "s3://"] {
            assert!(
                matches!(parse_address(wrong), Err(OpenError::Address { .. })),
                "{wrong}"
            );
        }
    }
}
