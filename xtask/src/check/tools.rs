//! The checks that other programs make: rustfmt, clippy, rustdoc, cargo-deny, a build for a target
//! without an operating system, and one of the fuzz targets.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::Outcome;
use crate::process;
use crate::workspace::{Workspace, cargo};

const WASM: &str = "wasm32-unknown-unknown";
/// What is built without an operating system: this is how its purity is checked.
const ENGINE: &str = "onionskin-engine";
const MODEL: &str = "onionskin-mm";
const CLI: &str = "onionskin-cli";

/// Fails where `cargo fmt` would change something.
pub(super) fn fmt(workspace: &Workspace) -> Result<Outcome> {
    if !has_subcommand("fmt") {
        return Ok(Outcome::Skipped(
            "rustfmt is not installed (rustup component add rustfmt)".into(),
        ));
    }
    Ok(run(cargo()
        .current_dir(&workspace.root)
        .args(["fmt", "--all", "--check", "--", "-l"])))
}

/// Fails on any lint of the workspace.
pub(super) fn clippy(workspace: &Workspace) -> Result<Outcome> {
    if !has_subcommand("clippy") {
        return Ok(Outcome::Skipped(
            "clippy is not installed (rustup component add clippy)".into(),
        ));
    }
    let mut command = cargo();
    command.args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]);
    Ok(run(command.current_dir(&workspace.root)))
}

/// Builds the documentation, private items too, with warnings denied.
pub(super) fn docs(workspace: &Workspace) -> Result<Outcome> {
    // The program and the facade have the same name, and so the same folder of pages: the
    // program goes first, so that the facade's pages are those that stay.
    for selection in [&["-p", CLI][..], &["--workspace", "--exclude", CLI]] {
        let mut command = cargo();
        command
            .args(["doc", "--no-deps", "--document-private-items"])
            .args(selection);
        command
            .env("RUSTDOCFLAGS", "-D warnings")
            .current_dir(&workspace.root);
        if let failed @ Outcome::Failed(_) = run(&mut command) {
            return Ok(failed);
        }
    }
    Ok(Outcome::Passed)
}

/// Holds the dependencies against deny.toml.
pub(super) fn deny(workspace: &Workspace) -> Result<Outcome> {
    if !has_subcommand("deny") {
        let how = "cargo-deny is not installed (cargo install cargo-deny --locked)";
        return Ok(Outcome::Skipped(how.into()));
    }
    let mut command = cargo();
    command.args(["deny", "check", "--hide-inclusion-graph"]);
    command.args(["bans", "licenses", "sources"]);
    if let failed @ Outcome::Failed(_) = run(command.current_dir(&workspace.root)) {
        return Ok(failed);
    }
    // Its database is a git repository of its own, which not every machine can reach.
    let mut fetch = cargo();
    fetch.args(["deny", "fetch", "db"]);
    if process::output_of(fetch.current_dir(&workspace.root)).is_none() {
        let why = "bans, licences and sources hold; the advisories' database can't be fetched";
        return Ok(Outcome::Skipped(why.into()));
    }
    let mut command = cargo();
    command.args(["deny", "check", "advisories"]);
    Ok(run(command.current_dir(&workspace.root)))
}

/// Builds the engine's pure part and the model where there is no operating system to call.
pub(super) fn wasm(workspace: &Workspace) -> Result<Outcome> {
    let sysroot = process::output_of(Command::new("rustc").args(["--print", "sysroot"]));
    let library = Path::new(sysroot.unwrap_or_default().trim())
        .join("lib/rustlib")
        .join(WASM);
    if !library.is_dir() {
        let how = format!("the target {WASM} is not installed (rustup target add {WASM})");
        return Ok(Outcome::Skipped(how));
    }
    let mut command = cargo();
    command.args([
        "build",
        "--lib",
        "-p",
        ENGINE,
        "-p",
        MODEL,
        "--no-default-features",
        "--target",
        WASM,
    ]);
    Ok(run(command.current_dir(&workspace.root)))
}

/// Compiles the fuzz targets, which are a workspace of their own that no other step sees.
pub(super) fn fuzz(workspace: &Workspace) -> Result<Outcome> {
    let folder = workspace.root.join("fuzz");
    let mut fetch = cargo();
    fetch.args(["fetch", "--locked"]).current_dir(&folder);
    if process::output_of(&mut fetch).is_none() {
        let why = "the fuzz targets' own dependencies can't be fetched as fuzz/Cargo.lock has them";
        return Ok(Outcome::Skipped(why.into()));
    }
    if process::output_of(Command::new("c++").arg("--version")).is_none() {
        let how = "there is no C++ compiler, which libFuzzer needs (apt-get install g++)";
        return Ok(Outcome::Skipped(how.into()));
    }
    let mut command = cargo();
    command
        .args(["check", "--locked", "--bins", "--target-dir"])
        .arg(workspace.target.join("fuzz"));
    Ok(run(command.current_dir(&folder)))
}

fn run(command: &mut Command) -> Outcome {
    match process::run(command) {
        Ok(()) => Outcome::Passed,
        Err(error) => Outcome::Failed(vec![format!("{error:#}")]),
    }
}

fn has_subcommand(name: &str) -> bool {
    process::output_of(cargo().args([name, "--version"])).is_some()
}
