//! Builds the C programs that the tests look at.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Programs built by this run of the tests, or found to be new enough.
static BUILT: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);

/// A directory for what the tests leave behind, on a file system of the disk.
pub(crate) fn scratch_dir() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Returns the program made of `targets/NAME.c`.
pub(crate) fn build(name: &str) -> PathBuf {
    build_with(name, &["-O2", "-g", "-pthread"]).expect("cc builds the program")
}

/// Returns the 32-bit program made of `targets/NAME.c`, or why there is none.
pub(crate) fn build_32_bit(name: &str) -> Result<PathBuf, String> {
    build_with(
        name,
        &[
            "-O2",
            "-m32",
            "-nostdlib",
            "-static",
            "-fno-stack-protector",
        ],
    )
}

/// `ONIONSKIN_PROGRAMS` names a folder that has them ready, where there is no compiler: `cargo xtask
/// kernels` packs one into its guests.
fn ready_made(name: &str) -> Option<Result<PathBuf, String>> {
    let binary = Path::new(&std::env::var_os("ONIONSKIN_PROGRAMS")?).join(name);
    let missing = || format!("{name} does not run on this architecture");
    Some(binary.exists().then_some(binary).ok_or_else(missing))
}

fn build_with(name: &str, flags: &[&str]) -> Result<PathBuf, String> {
    if let Some(found) = ready_made(name) {
        return found;
    }
    let mut guard = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let built = guard.get_or_insert_default();
    if let Some(binary) = built.get(name) {
        return Ok(binary.clone());
    }
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/targets");
    let source = directory.join(name).with_extension("c");
    let binary = scratch_dir().join(format!("target-{name}"));
    if changed(&binary).is_none_or(|made| newest_source(&directory) >= made) {
        // Other test processes may run the old one, or build the same: the name is moved.
        let fresh = binary.with_extension(std::process::id().to_string());
        let output = Command::new("cc")
            .args(flags)
            .arg("-o")
            .arg(&fresh)
            .arg(&source)
            .output()
            .map_err(|error| format!("cc can't be run: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        std::fs::rename(&fresh, &binary).map_err(|error| error.to_string())?;
    }
    built.insert(name.to_owned(), binary.clone());
    Ok(binary)
}

fn changed(path: &Path) -> Option<SystemTime> {
    path.metadata().ok()?.modified().ok()
}

/// Headers are shared, so any source that changed counts.
fn newest_source(directory: &Path) -> SystemTime {
    std::fs::read_dir(directory)
        .expect("the targets' sources are there")
        .filter_map(|entry| changed(&entry.ok()?.path()))
        .max()
        .expect("there are targets")
}
