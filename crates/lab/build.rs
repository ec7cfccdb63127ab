//! Lists the conformance cases, so that the library carries them with it, and the oracle's
//! regressions, so that its test does.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let folder =
        |name| Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join(name);
    let out = |name| Path::new(&env::var("OUT_DIR").expect("cargo sets it")).join(name);
    fs::write(out("cases.rs"), cases(&folder("cases"))?)?;
    fs::write(out("regressions.rs"), regressions(&folder("regressions"))?)
}

/// Family, name and text of each case.
fn cases(root: &Path) -> io::Result<String> {
    println!("cargo::rerun-if-changed={}", root.display());
    let mut list = String::from("&[\n");
    for family in entries(root)? {
        println!("cargo::rerun-if-changed={}", family.display());
        for file in entries(&family)? {
            let (family, mut name) = (stem(&family), stem(&file));
            if file.extension().is_some_and(|ending| ending == "inc") {
                name.insert(0, '+');
            }
            writeln!(list, "    ({family:?}, {name:?}, include_str!({file:?})),")
                .expect("a string takes everything");
        }
    }
    list.push(']');
    Ok(list)
}

/// Name and text of each program.
fn regressions(root: &Path) -> io::Result<String> {
    println!("cargo::rerun-if-changed={}", root.display());
    let mut list = String::from("&[\n");
    for file in entries(root)? {
        let name = stem(&file);
        writeln!(list, "    ({name:?}, include_str!({file:?})),")
            .expect("a string takes everything");
    }
    list.push(']');
    Ok(list)
}

/// What a folder holds, in order.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut entries = entries.collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    Ok(entries)
}

fn stem(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
