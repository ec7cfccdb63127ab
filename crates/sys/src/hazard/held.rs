//! Files that a process has no mapping of, but can write to by a descriptor.

use rustix::fs::{major, minor};
use space::Errno;

use crate::procfs::{Process, ProcfsError};

/// A file that is open for writing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) device: (u32, u32),
    pub(super) inode: u64,
    /// Its name, as `/proc/PID/maps` has it too.
    pub(super) name: String,
}

/// Finds the files with certain inodes that `task` has open for writing.
///
/// What has no path (sockets, pipes, event descriptors) is not asked anything: that may take locks of
/// others. A file is asked for its device only where its inode is among those that are wanted: asking
/// may take long, on a network file system that does not answer.
///
/// # Errors
///
/// Those of reading about its descriptors, but for those that were just closed.
pub(super) fn held(
    task: &Process,
    is_wanted: impl Fn(u64) -> bool,
) -> Result<Vec<Held>, ProcfsError> {
    let mut found = Vec::new();
    for number in task.descriptor_numbers()? {
        let name = unless_closed(task.link(&format!("fd/{number}")))?;
        let Some(name) = name.filter(|name| name.starts_with('/')) else {
            continue;
        };
        let Some(info) = unless_closed(task.descriptor_info(number))? else {
            continue;
        };
        if !info.is_writable() || info.inode.is_some_and(|inode| !is_wanted(inode)) {
            continue;
        }
        let Some(status) = unless_closed(task.descriptor_status(number))? else {
            continue;
        };
        if is_wanted(status.st_ino) {
            found.push(Held {
                device: (major(status.st_dev), minor(status.st_dev)),
                inode: status.st_ino,
                name,
            });
        }
    }
    Ok(found)
}

fn unless_closed<T>(read: Result<T, ProcfsError>) -> Result<Option<T>, ProcfsError> {
    match read {
        Ok(it) => Ok(Some(it)),
        Err(ProcfsError::Read {
            errno: Errno::ENOENT,
            ..
        }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn only_what_can_be_written_is_found() {
        let written = tempfile::NamedTempFile::new().unwrap();
        let file = written.as_file().metadata().unwrap();
        let ours = Process::open(std::process::id()).unwrap();
        let by_inode = |inode: u64| held(&ours, |it| it == inode).unwrap();
        let found = by_inode(file.ino());
        let named = found
            .iter()
            .find(|held| held.name == written.path().to_str().unwrap());
        let device = (major(file.dev()), minor(file.dev()));
        assert_eq!(named.map(|held| held.device), Some(device));
        let path = written.into_temp_path();
        assert!(
            by_inode(file.ino())
                .iter()
                .all(|held| held.name != path.to_str().unwrap())
        );
        let _read = std::fs::File::open(&path).unwrap();
        assert!(
            by_inode(file.ino())
                .iter()
                .all(|held| held.name != path.to_str().unwrap())
        );
    }
}
