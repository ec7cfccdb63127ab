//! `snapshots list`.

use std::io::Write;

use anyhow::Result;
use onionskin::report::Timestamp;
use onionskin::store::{Listing, Store, Summary};
use serde::Serialize;

use crate::out::{BAD, BOLD, DIM, Out, WARN, paint};
use crate::outcome::Outcome;
use crate::snapshot::summary::short;
use crate::table::{Side, Table};
use crate::units::{bytes, count};

/// A store's snapshots, the oldest first.
#[derive(Debug, Serialize)]
struct List {
    snapshots: Vec<Listed>,
    damaged: Vec<Damaged>,
}

/// A snapshot in one line.
#[derive(Debug, Serialize)]
pub(super) struct Listed {
    snapshot: String,
    parent: Option<String>,
    name: Option<String>,
    created: Timestamp,
    pid: u32,
    program: String,
    threads: u64,
    memory_bytes: u64,
    bytes_read: u64,
    bytes_stored: u64,
    layers_below: u32,
    consistency: Option<String>,
}

/// A snapshot that can't be read.
#[derive(Debug, Serialize)]
struct Damaged {
    snapshot: String,
    problem: String,
}

/// Lists the snapshots. Damaged ones count as found.
///
/// # Errors
///
/// Those of the store and of printing.
pub(super) fn run(store: &Store, out: &mut Out) -> Result<Outcome> {
    let list = List::from(store.list()?);
    if out.json {
        out.json_line(&list)?;
    } else {
        print(&list, out)?;
    }
    Ok(Outcome::found_if(!list.damaged.is_empty()))
}

impl From<Listing> for List {
    fn from(listing: Listing) -> Self {
        let damaged = listing.damaged.into_iter().map(|(id, error)| Damaged {
            snapshot: id.to_string(),
            problem: format!("{:#}", anyhow::Error::from(error)),
        });
        Self {
            snapshots: listing.snapshots.iter().map(Listed::from).collect(),
            damaged: damaged.collect(),
        }
    }
}

impl From<&Summary> for Listed {
    fn from(summary: &Summary) -> Self {
        Self {
            snapshot: summary.id.to_string(),
            parent: summary.parent.map(|id| id.to_string()),
            name: summary.name.clone(),
            created: Timestamp::from_unix_ms(summary.created_ns / 1_000_000),
            pid: summary.pid,
            program: summary.process.clone(),
            threads: summary.tasks,
            memory_bytes: summary.memory_bytes,
            bytes_read: summary.bytes_read,
            bytes_stored: summary.bytes_stored,
            layers_below: summary.depth,
            consistency: summary.consistency.clone(),
        }
    }
}

fn print(list: &List, out: &mut dyn Write) -> Result<()> {
    if list.snapshots.is_empty() && list.damaged.is_empty() {
        writeln!(out, "no snapshots")?;
        return Ok(());
    }
    let mut table = Table::new(&[
        ("snapshot", Side::Left),
        ("name", Side::Left),
        ("created (UTC)", Side::Left),
        ("process", Side::Left),
        ("threads", Side::Right),
        ("memory", Side::Right),
        ("stored", Side::Right),
        ("on", Side::Left),
        ("consistency", Side::Left),
    ]);
    for one in &list.snapshots {
        let created = one.created.to_string();
        table.line([
            paint(BOLD, short(&one.snapshot)),
            one.name.clone().unwrap_or_default(),
            created.get(..19).unwrap_or(&created).replace('T', " "),
            format!("{} {}", one.program, paint(DIM, one.pid)),
            count(one.threads),
            bytes(one.memory_bytes),
            bytes(one.bytes_stored),
            one.parent
                .as_deref()
                .map(short)
                .unwrap_or_default()
                .to_owned(),
            match one.consistency.as_deref() {
                Some("proven") => "proven".to_owned(),
                other => paint(WARN, other.unwrap_or("unknown")),
            },
        ]);
    }
    table.print(out)?;
    for damaged in &list.damaged {
        writeln!(
            out,
            "{} {}: {}",
            paint(BAD, "damaged:"),
            damaged.snapshot,
            damaged.problem
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_a_line_for_each() {
        let first = Listed {
            snapshot: "3f2a91c04b7e5d6688990011aabbccdd".to_owned(),
            parent: None,
            name: Some("before".to_owned()),
            created: Timestamp::from_unix_ms(1_782_907_445_678),
            pid: 4711,
            program: "example".to_owned(),
            threads: 12,
            memory_bytes: 2 << 30,
            bytes_read: 2 << 30,
            bytes_stored: 1 << 30,
            layers_below: 0,
            consistency: Some("proven".to_owned()),
        };
        let list = List {
            snapshots: vec![first],
            damaged: vec![Damaged {
                snapshot: "77".to_owned(),
                problem: "it is cut short".to_owned(),
            }],
        };
        let mut text = Vec::new();
        print(&list, &mut text).unwrap();
        let text = anstream::adapter::strip_str(std::str::from_utf8(&text).unwrap()).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[1],
            "3f2a91c04b7e  before  2026-07-01 12:04:05  example 4711       12  2.00 GiB  \
             1.00 GiB      proven"
        );
        assert_eq!(lines[2], "damaged: 77: it is cut short");
    }
}
