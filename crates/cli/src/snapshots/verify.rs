//! `snapshots verify`.

use std::io::{IsTerminal, Write, stderr};

use anyhow::Result;
use onionskin::store::{Store, VerifyReport};
use serde::Serialize;

use crate::out::{BAD, GOOD, Out, paint};
use crate::outcome::Outcome;
use crate::snapshot::progress::ByteBar;
use crate::units::{bytes, counted};

/// What a check found.
#[derive(Debug, Serialize)]
struct Shown {
    snapshots: u64,
    chunks: u64,
    bytes: u64,
    damaged: Vec<Damage>,
}

/// Something that can't be read as it was written.
#[derive(Debug, Serialize)]
struct Damage {
    /// Where: a pack and an offset, or a manifest.
    place: String,
    problem: String,
    hurts: Vec<Hurt>,
}

/// Whom it hurts.
#[derive(Debug, Serialize)]
struct Hurt {
    snapshot: String,
    ranges: Vec<String>,
}

/// Checks snapshots, or all. Damage counts as found.
///
/// # Errors
///
/// Those of the store and of printing.
pub(super) fn run(store: &Store, ids: &[String], out: &mut Out) -> Result<Outcome> {
    let ids = ids
        .iter()
        .map(|id| store.find(id))
        .collect::<Result<Vec<_>, _>>()?;
    let bar = ByteBar::new("checking", !out.json && stderr().is_terminal());
    let report = store.verify(&ids, &mut |progress| {
        bar.show(progress.bytes_done, progress.bytes_total);
    });
    bar.finish();
    let shown = Shown::of(report?);
    if out.json {
        out.json_line(&shown)?;
    } else {
        print(&shown, out)?;
    }
    Ok(Outcome::found_if(!shown.damaged.is_empty()))
}

impl Shown {
    fn of(report: VerifyReport) -> Self {
        let manifests = report.bad_manifests.into_iter().map(|(id, error)| Damage {
            place: format!("the manifest of {id}"),
            problem: format!("{:#}", anyhow::Error::from(error)),
            hurts: vec![Hurt {
                snapshot: id.to_string(),
                ranges: Vec::new(),
            }],
        });
        let chunks = report.bad_chunks.into_iter().map(|bad| Damage {
            place: format!("pack {} at {}, {} bytes", bad.pack, bad.offset, bad.stored),
            problem: bad.problem,
            hurts: bad
                .hurts
                .into_iter()
                .map(|hurt| Hurt {
                    snapshot: hurt.snapshot.to_string(),
                    ranges: hurt.pages.iter().map(ToString::to_string).collect(),
                })
                .collect(),
        });
        Self {
            snapshots: report.snapshots.len() as u64,
            chunks: report.chunks,
            bytes: report.bytes,
            damaged: manifests.chain(chunks).collect(),
        }
    }
}

fn print(shown: &Shown, out: &mut dyn Write) -> Result<()> {
    for damage in &shown.damaged {
        writeln!(
            out,
            "{} {}: {}",
            paint(BAD, "damaged:"),
            damage.place,
            damage.problem
        )?;
        for hurt in &damage.hurts {
            let ranges = match hurt.ranges.as_slice() {
                [] => String::new(),
                [one] => format!(" at {one}"),
                [first, rest @ ..] => {
                    format!(
                        " at {first} and {} more",
                        counted(rest.len() as u64, "range")
                    )
                }
            };
            writeln!(out, "         snapshot {}{ranges}", hurt.snapshot)?;
        }
    }
    let verdict = if shown.damaged.is_empty() {
        paint(GOOD, "every hash is right")
    } else {
        paint(
            BAD,
            format_args!("{} damaged", counted(shown.damaged.len() as u64, "place")),
        )
    };
    writeln!(
        out,
        "{} checked, {} in {}: {verdict}",
        counted(shown.snapshots, "snapshot"),
        bytes(shown.bytes),
        counted(shown.chunks, "chunk"),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_says_whom_it_hurts() {
        let shown = Shown {
            snapshots: 2,
            chunks: 10,
            bytes: 4 << 20,
            damaged: vec![Damage {
                place: "pack 12 at 4096, 77 bytes".to_owned(),
                problem: "the hash is wrong".to_owned(),
                hurts: vec![Hurt {
                    snapshot: "3f2a".to_owned(),
                    ranges: vec!["1000-2000".to_owned(), "5000-6000".to_owned()],
                }],
            }],
        };
        let mut text = Vec::new();
        print(&shown, &mut text).unwrap();
        let text = anstream::adapter::strip_str(std::str::from_utf8(&text).unwrap()).to_string();
        assert_eq!(
            text,
            "damaged: pack 12 at 4096, 77 bytes: the hash is wrong
         snapshot 3f2a at 1000-2000 and 1 range more
2 snapshots checked, 4.00 MiB in 10 chunks: 1 place damaged
"
        );
    }
}
