//! `oracle`: the model of memory management held against the running kernel.

mod replay;

use std::fs;
use std::io::Write;
use std::panic;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use lab::generate::Family;
use lab::oracle::{
    self as lab_oracle, Disturbance, Disturbed, Found, Missed, Options, Report, Row, Subject,
    known, missed,
};
use serde::Serialize;

use crate::args::{Oracle, OracleRun};
use crate::out::{BAD, BOLD, DIM, Out, paint};
use crate::outcome::Outcome;
use crate::table::{Side, Table};
use crate::units::{as_f64, count};

/// How long a run takes that was given no limit.
const TIME: Duration = Duration::from_secs(30);

/// A run in numbers.
#[derive(Debug, Serialize)]
struct ReportJson {
    steps: u64,
    seconds: f64,
    seed: u64,
    divergences: u64,
    programs: u64,
    profile: String,
    steps_per_second: f64,
    success_percent: f64,
    lost: Vec<String>,
    disturbed: usize,
    parted_once: u64,
    disturbed_programs: Vec<DisturbedJson>,
    found: Vec<FoundJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    coverage: Option<Vec<RowJson>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowances: Option<Vec<AllowanceJson>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<Vec<MissedJson>>,
}

/// One kind of divergence.
#[derive(Debug, Serialize)]
struct FoundJson {
    family: Family,
    seed: u64,
    times: u64,
    what: String,
    program: String,
}

/// A program that was not compared.
#[derive(Debug, Serialize)]
struct DisturbedJson {
    number: u64,
    family: Family,
    seed: u64,
    what: String,
    program: String,
}

/// One line of the coverage.
#[derive(Debug, Serialize)]
struct RowJson {
    operation: String,
    outcome: String,
    count: u64,
}

/// What the specification lists and the run did not reach.
#[derive(Debug, Serialize)]
struct MissedJson {
    operation: &'static str,
    outcome: &'static str,
    reason: Option<String>,
}

/// An allowance and how often it was needed.
#[derive(Debug, Serialize)]
struct AllowanceJson {
    name: &'static str,
    reason: &'static str,
    source: &'static str,
    hits: u64,
}

/// Carries out the command.
///
/// # Errors
///
/// Fails if there is no kernel to compare with, or if the child processes fail.
pub(crate) fn run(command: &Oracle, out: &mut Out) -> Result<Outcome> {
    match command {
        Oracle::Run(args) => compare(args, out),
        Oracle::Replay(args) => replay::run(args, out),
    }
}

fn compare(args: &OracleRun, out: &mut Out) -> Result<Outcome> {
    let subject = Subject::of_this_machine(args.profile.as_deref())?;
    let seed = args.seed.unwrap_or_else(fresh_seed);
    let time = args.seconds.map(Duration::from_secs);
    let options = Options {
        seed,
        steps: args.steps,
        time: time.or(args.steps.is_none().then_some(TIME)),
        divergences: args.divergences,
        families: families(args, &subject)?,
        without: args.without.clone(),
        workers: args.workers,
    };
    if !out.json {
        writeln!(out, "seed {seed}, profile {}", subject.name())?;
        if let Some(error) = subject.loan_error() {
            writeln!(out, "without huge pages: {error}")?;
        }
        out.flush()?;
    }
    // A model that panics is a divergence, which is printed with its program.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let mut shown = Ok(());
    let report = lab_oracle::run(&subject, &options, |found| {
        if shown.is_ok() {
            shown = show(found, args.out.as_deref(), out);
        }
    });
    panic::set_hook(hook);
    let report = report?;
    shown?;
    print(args, &subject, seed, &report, out)?;
    Ok(Outcome::found_if(
        report.divergences > 0
            || !report.lost.is_empty()
            || report.is_disturbed()
            || report.is_unsteady(),
    ))
}

fn fresh_seed() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::from(now.subsec_nanos()) ^ (now.as_secs() & 0xFFFF_FFFF)
}

fn families(args: &OracleRun, subject: &Subject) -> Result<Vec<Family>> {
    if args.family.is_empty() {
        let families = Family::ALL.iter().copied();
        return Ok(families.filter(|family| subject.can_run(*family)).collect());
    }
    let family =
        |name: &String| Family::of(name).ok_or_else(|| anyhow!("no family is named {name}"));
    args.family.iter().map(family).collect()
}

fn show(found: &Found, folder: Option<&Path>, out: &mut Out) -> Result<()> {
    if !out.json {
        writeln!(
            out,
            "{}\n{}",
            paint(BOLD, "the model and the kernel part:"),
            found.text()
        )?;
        out.flush()?;
    }
    if let Some(folder) = folder {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let letter = |letter: char| {
            if letter.is_alphanumeric() {
                letter
            } else {
                '-'
            }
        };
        let name: String = found.divergence.signature().chars().map(letter).collect();
        let path = folder.join(format!("{name}.txt"));
        fs::write(&path, found.text()).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn print(
    args: &OracleRun,
    subject: &Subject,
    seed: u64,
    report: &Report,
    out: &mut Out,
) -> Result<()> {
    let seconds = report.time.as_secs_f64();
    let rate = as_f64(report.steps) / seconds.max(f64::MIN_POSITIVE);
    if out.json {
        let found = |found: &Found| FoundJson {
            family: found.family,
            seed: found.seed,
            times: found.times,
            what: found.divergence.to_string(),
            program: found.program.to_string(),
        };
        let disturbed = |one: &Disturbed| DisturbedJson {
            number: one.number,
            family: one.family,
            seed: one.seed,
            what: one.to_string(),
            program: one.program.to_string(),
        };
        let row = |row: Row| RowJson {
            operation: row.operation,
            outcome: row.ending.to_string(),
            count: row.count,
        };
        let json = |one: Missed| MissedJson {
            operation: one.operation,
            outcome: one.ending,
            reason: one.reason,
        };
        let allowances = report
            .allowances
            .hits()
            .map(|(allowance, hits)| AllowanceJson {
                name: allowance.name,
                reason: allowance.reason,
                source: allowance.source,
                hits,
            });
        return out.json_line(&ReportJson {
            steps: report.steps,
            seconds,
            seed,
            divergences: report.divergences,
            programs: report.programs,
            profile: subject.name(),
            steps_per_second: rate,
            lost: report.lost.iter().map(ToString::to_string).collect(),
            disturbed: report.disturbed.len(),
            parted_once: report.parted_once(),
            disturbed_programs: report.disturbed.iter().map(disturbed).collect(),
            success_percent: report.coverage.success_percent(),
            found: report.found.iter().map(found).collect(),
            coverage: args
                .coverage
                .then(|| report.coverage.rows().map(row).collect()),
            allowances: args.coverage.then(|| allowances.collect()),
            missed: args.coverage.then(|| {
                missed(&report.coverage, subject)
                    .into_iter()
                    .map(json)
                    .collect()
            }),
        });
    }
    if args.coverage {
        coverage(report, subject, out)?;
    }
    for found in &report.found {
        let known = match known(found.family, &found.divergence) {
            Some(known) => format!(" (known: {})", known.name),
            None => String::new(),
        };
        writeln!(
            out,
            "{} times: {}{known}",
            count(found.times),
            found.divergence.signature()
        )?;
    }
    for lost in &report.lost {
        writeln!(out, "{} {lost}", paint(BAD, "lost:"))?;
    }
    disturbed(report, out)?;
    let percent = report.coverage.success_percent();
    writeln!(
        out,
        "{} steps in {} programs and {seconds:.1} s ({rate:.0} a second), {percent:.0} % succeed; \
         {} programs diverged",
        count(report.steps),
        count(report.programs),
        count(report.divergences)
    )?;
    Ok(())
}

/// Programs that were not compared: each with its seed, and the first that parted once with its text.
fn disturbed(report: &Report, out: &mut Out) -> Result<()> {
    for one in &report.disturbed {
        writeln!(out, "{} {one}", paint(DIM, "not compared:"))?;
    }
    let mut all = report.disturbed.iter();
    if let Some(first) = all.find(|one| matches!(one.why, Disturbance::Once(_))) {
        writeln!(out, "{}", first.program)?;
    }
    if report.is_disturbed() {
        let most = as_f64(Report::DISTURBED_MAX) / 10.0;
        let too_many = paint(BAD, "too many programs were not compared");
        writeln!(out, "{too_many}: more than {most:.0} % of all")?;
    }
    if report.is_unsteady() {
        let too_many = paint(BAD, "too many programs parted once and not again");
        writeln!(
            out,
            "{too_many}: more than one in {}",
            count(Report::ONCE_IN)
        )?;
    }
    Ok(())
}

fn coverage(report: &Report, subject: &Subject, out: &mut Out) -> Result<()> {
    let mut table = Table::new(&[
        ("operation", Side::Left),
        ("outcome", Side::Left),
        ("times", Side::Right),
    ]);
    for row in report.coverage.rows() {
        table.line([row.operation, row.ending.to_string(), count(row.count)]);
    }
    table.print(out)?;
    for Missed {
        operation,
        ending,
        reason,
    } in missed(&report.coverage, subject)
    {
        let why = reason.unwrap_or_else(|| paint(BAD, "without a reason: run longer"));
        writeln!(out, "never {operation} {ending}: {why}")?;
    }
    for (allowance, hits) in report.allowances.hits() {
        let source = paint(DIM, allowance.source);
        writeln!(
            out,
            "allowed {} times: {}\n  {}\n  {source}",
            count(hits),
            allowance.name,
            allowance.reason
        )?;
    }
    Ok(())
}
