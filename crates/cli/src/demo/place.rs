//! The directory that the demo writes into.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

const MARKER: &str = "made-by-onionskin-demo";
const STORE: &str = "store";
const CORE: &str = "core";

/// A directory that is ours: new, empty, or an earlier demo's.
#[derive(Debug)]
pub(super) struct Place {
    dir: PathBuf,
}

impl Place {
    /// Takes a directory, and removes what an earlier demo left in it.
    ///
    /// # Errors
    ///
    /// Where it holds something else, and those of the file system.
    pub(super) fn take(dir: &Path) -> Result<Self> {
        let shown = dir.display();
        let marker = dir.join(MARKER);
        match fs::read_dir(dir) {
            Ok(mut entries) => {
                if entries.next().is_some() && !marker.exists() {
                    bail!("{shown} holds other files: give a new directory with --dir");
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(dir).with_context(|| format!("can't make {shown}"))?;
            }
            Err(error) => return Err(error).with_context(|| format!("can't use {shown}")),
        }
        fs::write(&marker, "This directory can be deleted.\n")
            .with_context(|| format!("can't write into {shown}"))?;
        let place = Self {
            dir: dir.to_owned(),
        };
        let removed = [
            fs::remove_dir_all(place.store()),
            fs::remove_file(place.core()),
        ];
        for result in removed {
            match result {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("can't clear {shown}"));
                }
                _ => {}
            }
        }
        Ok(place)
    }

    /// Returns the directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns where the store is.
    pub(super) fn store(&self) -> PathBuf {
        self.dir.join(STORE)
    }

    /// Returns where the core is.
    pub(super) fn core(&self) -> PathBuf {
        self.dir.join(CORE)
    }

    /// Adds up what the files take on the disk, holes left out.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub(super) fn bytes(&self) -> io::Result<u64> {
        disk_bytes(&self.dir)
    }
}

fn disk_bytes(dir: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;

    /// The unit of `st_blocks`, whatever the file system's own blocks are.
    const BLOCK: u64 = 512;
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() {
            disk_bytes(&entry.path())?
        } else {
            metadata.blocks() * BLOCK
        };
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("core"), "precious").unwrap();
        let error = Place::take(dir.path()).unwrap_err();
        assert!(error.to_string().contains("holds other files"), "{error}");
        assert_eq!(
            fs::read_to_string(dir.path().join("core")).unwrap(),
            "precious"
        );
    }

    #[test]
    fn an_earlier_demo_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let new = dir.path().join("a/b");
        let place = Place::take(&new).unwrap();
        fs::create_dir(place.store()).unwrap();
        fs::write(place.store().join("pack"), [7; 9000]).unwrap();
        fs::write(place.core(), "old").unwrap();
        assert!(place.bytes().unwrap() >= 9000);
        let place = Place::take(&new).unwrap();
        assert!(!place.store().exists() && !place.core().exists());
    }
}
