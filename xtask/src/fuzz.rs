//! `cargo xtask fuzz`: runs each target of `fuzz/` for a while with cargo-fuzz.

use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;

use crate::process;
use crate::workspace::{Workspace, cargo};

/// Arguments of `cargo xtask fuzz`.
#[derive(Args)]
pub(crate) struct Options {
    /// How long each target runs.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Install cargo-fuzz if it is missing.
    #[arg(long)]
    install: bool,
    /// Run only these targets.
    targets: Vec<String>,
}

/// Runs the targets one after another; true if none found anything.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    if process::output_of(cargo().args(["fuzz", "--version"])).is_none() {
        if !options.install {
            bail!("cargo-fuzz is not installed: run `cargo xtask fuzz --install`");
        }
        process::run(cargo().args(["install", "cargo-fuzz", "--locked"]))?;
    }
    let targets = match &options.targets[..] {
        [] => list(workspace)?,
        some => some.to_vec(),
    };
    let mut found = Vec::new();
    for target in targets {
        let mut command = fuzz_command(workspace, "run");
        command.arg(&target).arg("--");
        command
            .arg(format!("-max_total_time={}", options.seconds))
            .arg("-rss_limit_mb=2048");
        if let Err(error) = process::run(&mut command) {
            found.push(format!("{target}: {error:#}"));
        }
    }
    for line in &found {
        println!("failed: {line}");
    }
    Ok(found.is_empty())
}

fn list(workspace: &Workspace) -> Result<Vec<String>> {
    let Some(names) = process::output_of(&mut fuzz_command(workspace, "list")) else {
        bail!("cargo fuzz list failed: is there a folder fuzz/ in the workspace?");
    };
    Ok(names.split_whitespace().map(str::to_owned).collect())
}

fn fuzz_command(workspace: &Workspace, subcommand: &str) -> Command {
    let mut command = cargo();
    command
        .current_dir(&workspace.root)
        .args(["fuzz", subcommand]);
    // The sanitizers that cargo-fuzz asks for are unstable flags, which a stable compiler takes
    // only so.
    command.env("RUSTC_BOOTSTRAP", "1");
    command
}
