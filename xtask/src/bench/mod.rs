//! `cargo xtask bench`: measures, and writes what came out to `docs/`.
//!
//! `snapshot` is the bench target of the facade; this builds it and the command in release, and
//! passes the arguments on. It measures nothing itself, and installs nothing: `cargo xtask test`
//! installs gdb and redis-tools, without which their figures are left out with a message.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::process;
use crate::workspace::{Workspace, cargo};

/// Arguments of `cargo xtask bench`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Freezes, scans, copies, throughput and memory of snapshots; writes docs/performance.md.
    Snapshot(Snapshot),
}

#[derive(Args)]
struct Snapshot {
    /// Small and short, to see that it works; nothing is written.
    #[arg(long)]
    quick: bool,
    /// What to measure: freeze, sizes, busy, loops, watched, first, peak, redis. [default: all]
    subjects: Vec<String>,
}

/// Measures; true if it could be.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let What::Snapshot(snapshot) = &options.what;
    let mut build = cargo();
    build
        .current_dir(&workspace.root)
        .args(["build", "--release", "-p", "onionskin-cli"]);
    process::run(&mut build)?;
    let tool: PathBuf = workspace.target.join("release/onionskin");
    let mut bench = cargo();
    bench.current_dir(&workspace.root);
    bench
        .args([
            "bench",
            "-p",
            "onionskin",
            "--bench",
            "snapshot",
            "--",
            "--tool",
        ])
        .arg(tool);
    bench.arg("--docs").arg(workspace.root.join("docs"));
    if snapshot.quick {
        bench.arg("--quick");
    }
    bench.args(&snapshot.subjects);
    process::run(&mut bench)?;
    Ok(true)
}
