//! The C programs that the tests look at: a process of our own would bring Rust's runtime into
//! the picture. They lie in `tests/programs`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the program made of `tests/programs/NAME.c`.
///
/// `ONIONSKIN_PROGRAMS` names a folder that has them ready, where there is no compiler: `cargo
/// xtask kernels` packs one into its guests. Otherwise it is built in `directory`.
pub(crate) fn program(name: &str, directory: &Path) -> PathBuf {
    if let Some(ready) = std::env::var_os("ONIONSKIN_PROGRAMS") {
        return Path::new(&ready).join(name);
    }
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs");
    let binary = directory.join(name);
    let built = Command::new("cc")
        .args(["-w", "-O1", "-pthread", "-o"])
        .arg(&binary)
        .arg(sources.join(name).with_extension("c"))
        .status()
        .expect("cc can be run");
    assert!(built.success(), "{name}.c does not compile");
    binary
}
