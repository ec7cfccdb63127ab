//! Languages with runtimes of their own: garbage collectors, green threads, signals.
//!
//! Each program checks itself, answers each line of its input with its progress, and ends with 0
//! at the end of its input, or with 3 where something was not what it should be.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::{Ended, STRATEGIES, Target, Tool, ask, rounds, skip, temporary_directory};

/// Runs a command that should succeed; `None` where it can't be run.
fn runs(command: &mut Command) -> Option<bool> {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.ok().map(|status| status.success())
}

fn disturb(mut command: Command, name: &str) {
    let mut target = Target::run(&mut command);
    for strategy in STRATEGIES {
        let mut tool = Tool::on(&target);
        if !tool.can(strategy) {
            continue;
        }
        for _ in rounds(8, Duration::from_secs(8)) {
            tool.must(&ask(strategy));
            target.must_advance("rounds");
        }
    }
    assert_eq!(target.finish(), Ended::Exit(0), "{name}");
}

#[test]
fn python() {
    if runs(Command::new("python3").arg("--version")) != Some(true) {
        skip("it is not installed");
        return;
    }
    let mut command = Command::new("python3");
    command.args(["-c", include_str!("../targets/runtime.py")]);
    disturb(command, "python3");
}

#[test]
fn node() {
    if runs(Command::new("node").arg("--version")) != Some(true) {
        skip("it is not installed");
        return;
    }
    let mut command = Command::new("node");
    command.args(["-e", include_str!("../targets/runtime.js")]);
    disturb(command, "node");
}

fn source(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/targets")).join(name)
}

#[test]
fn java() {
    if runs(Command::new("java").arg("--version")) != Some(true) {
        skip("it is not installed");
        return;
    }
    let mut command = Command::new("java");
    command
        .args(["-Xmx128m", "-XX:+UseG1GC"])
        .arg(source("Runtime1.java"));
    disturb(command, "java");
}

#[test]
fn go() {
    let directory = temporary_directory();
    let program = directory.path().join("program");
    let mut build = Command::new("go");
    build
        .arg("build")
        .arg("-o")
        .arg(&program)
        .arg(source("runtime.go"));
    build
        .env("GOFLAGS", "-mod=mod")
        .env("GOPROXY", "off")
        .env("GOCACHE", directory.path());
    match runs(&mut build) {
        None => skip("it is not installed"),
        Some(false) => panic!("the Go program does not build"),
        Some(true) => disturb(Command::new(program), "go"),
    }
}
