//! Other programs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// A folder on a file system of the disk, for what is removed in the end.
pub(crate) fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Builds a C program of the tests or of this bench.
pub(crate) fn compile(source: &str, name: &str) -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let program = scratch().join(name);
    run(Command::new("cc")
        .args(["-O2", "-g", "-pthread", "-o"])
        .arg(&program)
        .arg(&source))?;
    Ok(program)
}

/// Runs a program to its end, and returns how long it took.
pub(crate) fn run(command: &mut Command) -> Result<Duration> {
    let began = Instant::now();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} can't be run", command.get_program().display()))?;
    ensure!(
        output.status.success(),
        "{} ended with {}: {}",
        command.get_program().display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(began.elapsed())
}

/// Has gcore write a core, and removes it.
pub(crate) fn gcore(pid: u32) -> Result<Duration> {
    let directory = tempfile::tempdir_in(scratch())?;
    run(Command::new("gcore")
        .arg("-o")
        .arg(directory.path().join("core"))
        .arg(pid.to_string()))
    .context("gcore comes with gdb")
}

/// Sends a signal to one process.
pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) -> Result<()> {
    let id = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(id.context("no process id")?, signal)?;
    Ok(())
}
