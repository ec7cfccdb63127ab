//! A snapshot in words: what it cost, how far it can be trusted, how to open it.

use std::io::Write;

use anyhow::Result;
use onionskin::report::{Consistency, Doubt, SnapshotReport, Verification};

use crate::out::{BAD, BOLD, DIM, GOOD, WARN, paint};
use crate::units::{bytes, count, counted, millis};

/// How many of the ranges in doubt are printed.
const RANGES_MAX: usize = 3;

/// Returns the part of an id that is enough to find it by, in most stores.
pub(crate) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// Prints all that a person wants to know of a new snapshot.
///
/// # Errors
///
/// Those of writing.
pub(crate) fn print(report: &SnapshotReport, store: &str, out: &mut dyn Write) -> Result<()> {
    print_facts(report, out)?;
    let id = report.name.as_deref().unwrap_or(short(&report.snapshot));
    writeln!(out)?;
    writeln!(
        out,
        "Open it:  onionskin snapshots export {id} --store {} --output core",
        quoted(store)
    )?;
    writeln!(out, "          gdb {} core", quoted(&report.program))?;
    Ok(())
}

/// Prints what is known of a snapshot, without advice.
///
/// # Errors
///
/// Those of writing.
pub(crate) fn print_facts(report: &SnapshotReport, out: &mut dyn Write) -> Result<()> {
    let mut row = |name: &str, text: String| {
        writeln!(out, "  {}{text}", paint(DIM, format_args!("{name:<13}")))
    };
    row("snapshot", identity(report))?;
    row(
        "of",
        format!(
            "{} (process {}) at {}",
            report.program, report.pid, report.created
        ),
    )?;
    row("frozen for", freeze(report))?;
    if !report.stops.is_empty() {
        row("also stopped", other_stops(report))?;
    }
    row("strategy", strategy(report))?;
    row("memory", memory(report))?;
    row("cost", cost(report))?;
    if let Some(verify) = &report.verify {
        let compared = format!(
            "{} compared in {}",
            counted(verify.pages, "page"),
            millis(verify.ms)
        );
        row(
            "verified",
            match verify.differing_pages {
                0 => format!("{compared}, {}", paint(GOOD, "all equal")),
                n => format!(
                    "{compared}, {}",
                    paint(BAD, format_args!("{} differ", counted(n, "page")))
                ),
            },
        )?;
    }
    row("consistency", verdict(&report.consistency))?;
    if let Consistency::Unproven { reasons } = &report.consistency {
        for doubt in reasons {
            row("", doubt_text(doubt))?;
        }
    }
    for warning in &report.warnings {
        row("warning", paint(WARN, warning))?;
    }
    Ok(())
}

/// Prints a snapshot in one line, for a series.
///
/// # Errors
///
/// Those of writing.
pub(crate) fn print_line(report: &SnapshotReport, out: &mut dyn Write) -> Result<()> {
    let time = report.created.to_string();
    let time = time.get(11..19).unwrap_or(&time);
    let id = report.snapshot.get(..8).unwrap_or(&report.snapshot);
    let differs = |verify: &Verification| verify.differing_pages > 0;
    let state = match (&report.consistency, &report.verify) {
        (_, Some(verify)) if differs(verify) => paint(BAD, "DIFFERS"),
        (Consistency::Unproven { .. }, _) => paint(WARN, "unproven"),
        (Consistency::Proven, Some(_)) => "verified".to_owned(),
        (Consistency::Proven, None) => "proven".to_owned(),
    };
    // It fits into 80 columns.
    writeln!(
        out,
        "{} {} frozen {:>8} {:<7} read {:>8} stored {:>8} {state}",
        paint(DIM, time),
        paint(BOLD, id),
        millis(report.freeze_ms),
        report.strategy.name(),
        bytes(report.bytes_read),
        bytes(report.bytes_stored),
    )?;
    for warning in &report.warnings {
        writeln!(out, "          {}", paint(WARN, warning))?;
    }
    Ok(())
}

fn identity(report: &SnapshotReport) -> String {
    let name = report
        .name
        .as_ref()
        .map_or_else(String::new, |name| format!(" {name:?}"));
    let parent = report.parent.as_ref();
    let layer = parent.map_or_else(String::new, |id| format!(", a layer on {}", short(id)));
    format!("{}{name}{layer}", paint(BOLD, &report.snapshot))
}

fn freeze(report: &SnapshotReport) -> String {
    let parts = report.freeze;
    format!(
        "{} (stopping {}, scanning {}, copying {}, registers {})",
        paint(BOLD, millis(report.freeze_ms)),
        millis(parts.stop),
        millis(parts.scan),
        millis(parts.copy),
        millis(parts.registers)
    )
}

fn other_stops(report: &SnapshotReport) -> String {
    let stops = report
        .stops
        .iter()
        .map(|stop| format!("{} {}", stop.why, millis(stop.ms)));
    stops.collect::<Vec<_>>().join(", ")
}

fn strategy(report: &SnapshotReport) -> String {
    match report.rounds {
        0 => report.strategy.name().to_owned(),
        n => format!(
            "{}, after {}",
            report.strategy.name(),
            counted(n.into(), "round")
        ),
    }
}

fn memory(report: &SnapshotReport) -> String {
    format!(
        "{} in {}, {} of them copied while frozen",
        bytes(report.pages_total * report.page_size),
        counted(report.pages_total, "page"),
        count(report.pages_copied_frozen)
    )
}

fn cost(report: &SnapshotReport) -> String {
    let cost = format!(
        "{} read, {} stored",
        bytes(report.bytes_read),
        bytes(report.bytes_stored)
    );
    // The time until it was safe can't be in the snapshot itself.
    if report.duration_ms > 0.0 {
        format!("{cost}, in {}", millis(report.duration_ms))
    } else {
        cost
    }
}

/// Says in words how far a snapshot can be trusted.
pub(crate) fn verdict(consistency: &Consistency) -> String {
    match consistency {
        Consistency::Proven => {
            format!("{}: all of it is of one instant", paint(GOOD, "proven"))
        }
        Consistency::Unproven { .. } => format!(
            "{}: something may have written unseen while it was taken:",
            paint(WARN, "unproven")
        ),
    }
}

fn doubt_text(doubt: &Doubt) -> String {
    let mut ranges: Vec<String> = doubt
        .ranges
        .iter()
        .take(RANGES_MAX)
        .map(ToString::to_string)
        .collect();
    if doubt.ranges.len() > RANGES_MAX {
        ranges.push(format!("{} more", doubt.ranges.len() - RANGES_MAX));
    }
    if ranges.is_empty() {
        return doubt.reason.clone();
    }
    format!("{} ({})", doubt.reason, ranges.join(", "))
}

/// Quotes a word for a shell, if that is needed.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:+@%=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
pub(crate) mod tests {
    use onionskin::report::{FreezeParts, OtherStop, Strategy, Timestamp};
    use space::{PageRange, Vaddr};

    use super::*;

    /// An invented report.
    pub(crate) fn report() -> SnapshotReport {
        SnapshotReport {
            snapshot: "3f2a91c04b7e5d6688990011aabbccdd".to_owned(),
            parent: None,
            name: None,
            pid: 4711,
            program: "/usr/bin/example".to_owned(),
            created: Timestamp::from_unix_ms(1_782_907_445_678),
            strategy: Strategy::Precopy,
            rounds: 3,
            freeze_ms: 3.714,
            freeze: FreezeParts {
                stop: 0.1,
                scan: 1.0,
                copy: 2.604,
                registers: 0.01,
            },
            stops: vec![OtherStop {
                why: "attach".to_owned(),
                ms: 0.21,
            }],
            page_size: 4096,
            pages_total: 524_288,
            pages_copied_frozen: 5120,
            bytes_read: 2_300_000_000,
            bytes_stored: 1 << 30,
            duration_ms: 3100.0,
            verify: None,
            consistency: Consistency::Proven,
            warnings: Vec::new(),
        }
    }

    fn plain(show: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut text = Vec::new();
        show(&mut text);
        anstream::adapter::strip_str(&String::from_utf8(text).unwrap()).to_string()
    }

    #[test]
    fn a_summary_says_it_all() {
        let text = plain(|out| print(&report(), "my store", out).unwrap());
        assert_eq!(
            text,
            "  snapshot     3f2a91c04b7e5d6688990011aabbccdd
  of           /usr/bin/example (process 4711) at 2026-07-01T12:04:05.678Z
  frozen for   3.71 ms (stopping 100 µs, scanning 1.00 ms, copying 2.60 ms, registers 10 µs)
  also stopped attach 210 µs
  strategy     precopy, after 3 rounds
  memory       2.00 GiB in 524,288 pages, 5,120 of them copied while frozen
  cost         2.14 GiB read, 1.00 GiB stored, in 3.10 s
  consistency  proven: all of it is of one instant

Open it:  onionskin snapshots export 3f2a91c04b7e --store 'my store' --output core
          gdb /usr/bin/example core
"
        );
    }

    #[test]
    fn doubts_and_differences_stand_out() {
        let ranges = (1..6).map(|n| PageRange::new(Vaddr(n << 16), Vaddr((n << 16) + 4096)));
        let unproven = SnapshotReport {
            name: Some("n".to_owned()),
            parent: Some("91be0000000000000000".to_owned()),
            consistency: Consistency::from_doubts(vec![Doubt {
                ranges: ranges.map(Option::unwrap).collect(),
                reason: "an RDMA device may hold these pages".to_owned(),
            }]),
            verify: Some(Verification {
                ms: 1200.0,
                pages: 524_288,
                differing_pages: 2,
            }),
            warnings: vec!["one task was in vfork".to_owned()],
            ..report()
        };
        let text = plain(|out| print(&unproven, "s", out).unwrap());
        for part in [
            "dd \"n\", a layer on 91be00000000\n",
            "compared in 1.20 s, 2 pages differ",
            "unproven: something may",
            "may hold these pages (10000-11000, 20000-21000, 30000-31000, 2 more)",
            "warning      one task was in vfork",
            "export n --store s",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        let line = plain(|out| print_line(&unproven, out).unwrap());
        assert_eq!(
            line.lines().next(),
            Some("12:04:05 3f2a91c0 frozen  3.71 ms precopy read 2.14 GiB stored 1.00 GiB DIFFERS")
        );
    }

    #[test]
    fn a_line_of_a_series_fits_a_terminal_of_80_columns() {
        let doubt = Doubt {
            ranges: Vec::new(),
            reason: "somebody writes".to_owned(),
        };
        for freeze_ms in [0.001, 9.99, 999.9, 59_999.0] {
            for bytes in [0, 1023, 1023 << 10, 1023 << 20, 1023 << 30] {
                let wide = SnapshotReport {
                    freeze_ms,
                    bytes_read: bytes,
                    bytes_stored: bytes,
                    consistency: Consistency::from_doubts(vec![doubt.clone()]),
                    ..report()
                };
                let line = plain(|out| print_line(&wide, out).unwrap());
                let columns = line.lines().next().map_or(0, |line| line.chars().count());
                assert!(columns <= 80, "{columns}: {line}");
            }
        }
    }

    #[test]
    fn words_are_quoted_where_a_shell_needs_it() {
        assert_eq!(quoted("s3://bucket/a-b_c.d"), "s3://bucket/a-b_c.d");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
