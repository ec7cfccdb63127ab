//! `snapshots show`.

use std::io::Write;

use anyhow::Result;
use onionskin::report::SnapshotReport;
use onionskin::store::{SavedMapping, Snapshot, Store, Summary};
use serde::Serialize;
use space::{Protection, Sharing};

use super::list::Listed;
use crate::args::StoreArg;
use crate::out::{DIM, Out, paint};
use crate::outcome::Outcome;
use crate::snapshot::summary::{print_facts, quoted, short};
use crate::table::{Side, Table};
use crate::units::{bytes, counted};

/// One snapshot.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    summary: Listed,
    command_line: Vec<String>,
    executable: String,
    machine: String,
    tasks: Vec<ShownTask>,
    mappings: Vec<ShownMapping>,
    report: serde_json::Value,
}

/// A thread of it.
#[derive(Debug, Serialize)]
struct ShownTask {
    tid: u32,
    name: String,
}

/// A mapping of it.
#[derive(Debug, Serialize)]
struct ShownMapping {
    range: String,
    protection: String,
    name: String,
    class: String,
    size_bytes: u64,
    captured_bytes: u64,
}

/// Shows one snapshot.
///
/// # Errors
///
/// Those of the store and of printing.
pub(super) fn run(store: &Store, id: &str, at: &StoreArg, out: &mut Out) -> Result<Outcome> {
    let snapshot = store.load(id)?;
    let shown = Shown::of(&snapshot);
    if out.json {
        out.json_line(&shown)?;
    } else {
        print(&shown, snapshot.summary(), &at.store, out)?;
    }
    Ok(Outcome::Fine)
}

impl Shown {
    fn of(snapshot: &Snapshot) -> Self {
        let meta = snapshot.meta();
        let captured = snapshot.captured();
        let mapping = |saved: &SavedMapping| ShownMapping {
            range: saved.mapping.range.to_string(),
            protection: protection(saved),
            name: saved.mapping.name.clone(),
            class: saved.class.clone(),
            size_bytes: saved.mapping.range.len().0,
            captured_bytes: captured
                .intersection(&[saved.mapping.range].into_iter().collect())
                .len()
                .0,
        };
        let tasks = meta.tasks.iter().map(|task| ShownTask {
            tid: task.tid,
            name: task.name.clone(),
        });
        Self {
            summary: snapshot.summary().into(),
            command_line: meta.process.command_line.clone(),
            executable: meta.process.executable.clone(),
            machine: meta.machine.clone(),
            tasks: tasks.collect(),
            mappings: meta.mappings.iter().map(mapping).collect(),
            report: meta.report.clone(),
        }
    }
}

fn protection(saved: &SavedMapping) -> String {
    let flag = |flag: Protection, letter: char| {
        if saved.mapping.protection.contains(flag) {
            letter
        } else {
            '-'
        }
    };
    let shared = match saved.mapping.sharing {
        Sharing::Private => 'p',
        Sharing::Shared => 's',
    };
    [
        flag(Protection::READ, 'r'),
        flag(Protection::WRITE, 'w'),
        flag(Protection::EXEC, 'x'),
        shared,
    ]
    .into_iter()
    .collect()
}

fn print(shown: &Shown, summary: &Summary, store: &str, out: &mut dyn Write) -> Result<()> {
    match serde_json::from_value::<SnapshotReport>(shown.report.clone()) {
        Ok(report) => print_facts(&report, out)?,
        Err(_) => writeln!(out, "  {}{}", paint(DIM, "snapshot     "), summary.id)?,
    }
    let mut row = |name: &str, text: String| {
        writeln!(out, "  {}{text}", paint(DIM, format_args!("{name:<13}")))
    };
    row(
        "command",
        shown
            .command_line
            .iter()
            .map(|w| quoted(w))
            .collect::<Vec<_>>()
            .join(" "),
    )?;
    row("threads", counted(shown.tasks.len() as u64, "thread"))?;
    writeln!(out)?;
    let mut table = Table::new(&[
        ("mapping", Side::Left),
        ("", Side::Left),
        ("size", Side::Right),
        ("captured", Side::Right),
        ("class", Side::Left),
        ("name", Side::Left),
    ]);
    for mapping in &shown.mappings {
        table.line([
            mapping.range.clone(),
            mapping.protection.clone(),
            bytes(mapping.size_bytes),
            match mapping.captured_bytes {
                0 => "–".to_owned(),
                count => bytes(count),
            },
            mapping.class.clone(),
            mapping.name.clone(),
        ]);
    }
    table.print(out)?;
    let id = summary
        .name
        .clone()
        .unwrap_or_else(|| short(&summary.id.to_string()).to_owned());
    writeln!(out)?;
    writeln!(
        out,
        "Open it:  onionskin snapshots export {id} --store {} --output core",
        quoted(store)
    )?;
    writeln!(out, "          gdb {} core", quoted(&shown.executable))?;
    Ok(())
}
