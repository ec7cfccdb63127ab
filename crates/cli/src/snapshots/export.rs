//! `snapshots export`.

use std::io::{IsTerminal, Write, stderr};
use std::path::PathBuf;

use anyhow::Result;
use onionskin::export;
use onionskin::store::Store;
use serde::Serialize;
use space::ByteLen;

use crate::args::{ExportArgs, ExportFormat};
use crate::out::{BOLD, Out, paint};
use crate::outcome::Outcome;
use crate::snapshot::progress::ByteBar;
use crate::snapshot::summary::{quoted, short};
use crate::units::bytes;

/// What was written.
#[derive(Debug, Serialize)]
struct Exported {
    snapshot: String,
    format: &'static str,
    output: PathBuf,
    written_bytes: u64,
}

/// Writes a snapshot for other tools.
///
/// # Errors
///
/// Those of the store and of writing.
pub(super) fn run(store: &Store, args: &ExportArgs, out: &mut Out) -> Result<Outcome> {
    let snapshot = store.load(&args.id)?;
    let bar = ByteBar::new("writing", !out.json && stderr().is_terminal());
    let total = snapshot.captured().len();
    let mut done = ByteLen(0);
    let mut progress = |more: ByteLen| {
        done.0 += more.0;
        bar.show(done.0, total.0);
    };
    let result = match args.format {
        ExportFormat::Core => {
            export::core(&snapshot, &args.output, &mut progress).map(|summary| summary.written)
        }
        ExportFormat::Raw => {
            export::raw(&snapshot, &args.output, &mut progress).map(|summary| summary.written)
        }
    };
    bar.finish();
    let written = result?;
    let exported = Exported {
        snapshot: snapshot.id().to_string(),
        format: match args.format {
            ExportFormat::Core => "core",
            ExportFormat::Raw => "raw",
        },
        output: args.output.clone(),
        written_bytes: written.0,
    };
    if out.json {
        out.json_line(&exported)?;
        return Ok(Outcome::Fine);
    }
    let output = args.output.display().to_string();
    writeln!(
        out,
        "wrote {} ({} of memory) from {}",
        paint(BOLD, &output),
        bytes(written.0),
        short(&exported.snapshot)
    )?;
    match args.format {
        ExportFormat::Core => {
            let program = quoted(&snapshot.meta().process.executable);
            writeln!(out, "Open it:  gdb {program} {}", quoted(&output))?;
        }
        ExportFormat::Raw => writeln!(out, "index.json in it says which file is which mapping")?,
    }
    Ok(Outcome::Fine)
}
