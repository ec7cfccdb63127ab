//! The `onionskin` command: arguments, screens and reports over the `onionskin` library.
#![forbid(unsafe_code)]

mod args;
mod conformance;
mod demo;
mod doctor;
mod generate;
mod open;
mod oracle;
mod out;
mod outcome;
mod snapshot;
mod snapshots;
mod stop;
mod table;
mod units;
mod watch;

use std::env;
use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::Parser;

use args::{Cli, Command};
use out::Out;
use outcome::Outcome;

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => {
            let mut out = Out::new(cli.json);
            let result = run(cli.command, &mut out);
            outcome::finish(result, &mut out)
        }
        Err(error) => refuse(&error),
    }
}

/// Prints help, the version or what is wrong with the arguments.
fn refuse(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && env::args_os().any(|argument| argument == "--json") {
        let text = error.render().to_string();
        let text = text.trim().trim_start_matches("error: ").to_owned();
        return outcome::finish(Err(anyhow!(text)), &mut Out::new(true));
    }
    // A closed terminal is no reason to fail.
    drop(error.print());
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn run(command: Command, out: &mut Out) -> Result<Outcome> {
    match command {
        Command::Doctor(args) => doctor::run(&args, out),
        Command::Watch(args) => watch::run(&args, out),
        Command::Snapshot(args) => snapshot::run(&args, out),
        Command::Snapshots(command) => snapshots::run(&command, out),
        Command::Oracle(command) => oracle::run(&command, out),
        Command::Conformance(args) => conformance::run(&args, out),
        Command::Demo(args) => demo::run(&args, out),
        Command::DemoWorkload(args) => demo::workload::run(&args),
        Command::Generate(args) => generate::run(&args, out),
    }
}
