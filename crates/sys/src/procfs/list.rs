//! The processes there are.

use std::fs;

use space::Errno;

use super::error::ProcfsError;
use super::text::small;

/// Returns the ids of all processes that `/proc` shows, sorted.
///
/// # Errors
///
/// [`ProcfsError::Read`] where `/proc` may not be listed.
pub fn processes() -> Result<Vec<u32>, ProcfsError> {
    let error = |error| ProcfsError::Read {
        pid: std::process::id(),
        file: "/proc".into(),
        errno: Errno::from(error),
    };
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").map_err(error)? {
        let name = entry.map_err(error)?.file_name();
        pids.extend(small::<u32>(name.as_encoded_bytes()));
    }
    pids.sort_unstable();
    Ok(pids)
}
