//! `onionskin doctor`: what works here, and what to change.

use std::io::Write;

use anyhow::Result;
use onionskin::doctor::{self, Doctor, Finding, Row, Status};

use crate::args;
use crate::out::{BAD, BOLD, DIM, GOOD, Out, WARN, paint};
use crate::outcome::Outcome;
use crate::units::bytes;

/// Probes the machine, and a process if one is given. It counts as found if no strategy works, or
/// if there is no such process.
///
/// # Errors
///
/// Those of printing.
pub(crate) fn run(args: &args::Doctor, out: &mut Out) -> Result<Outcome> {
    let doctor = doctor::probe(args.pid);
    if out.json {
        out.json_line(&doctor)?;
    } else {
        print(&doctor, args.pid, out)?;
    }
    let gone = |row: &Row| row.name == "process" && !row.finding.is_good();
    let gone = doctor.process.iter().flatten().any(gone);
    Ok(Outcome::found_if(gone || !any_strategy(&doctor)))
}

/// Tells whether any strategy works.
pub(crate) fn any_strategy(doctor: &Doctor) -> bool {
    doctor
        .strategies
        .values()
        .any(|strategy| strategy.status == Status::Works)
}

fn print(doctor: &Doctor, pid: Option<u32>, out: &mut dyn Write) -> Result<()> {
    writeln!(
        out,
        "Linux {} on {}, pages of {}",
        paint(BOLD, &doctor.kernel),
        doctor.arch,
        bytes(doctor.page_size)
    )?;
    let width = doctor
        .features
        .keys()
        .chain(doctor.strategies.keys())
        .map(String::len)
        .max();
    let rows = doctor
        .process
        .iter()
        .flatten()
        .map(|row| row.name.len())
        .max();
    let width = width.max(rows).unwrap_or(0);
    heading("How a snapshot can be taken", out)?;
    print_strategies(doctor, width, out)?;
    for (title, wanted) in [
        ("What works", Status::Works),
        ("What is denied to us", Status::Denied),
        ("What is missing", Status::Missing),
    ] {
        let mut found = doctor
            .features
            .iter()
            .filter(|(_, f)| f.status == wanted)
            .peekable();
        if found.peek().is_some() {
            heading(title, out)?;
        }
        for (name, finding) in found {
            print_finding(name, finding, width, out)?;
        }
    }
    if let (Some(rows), Some(pid)) = (&doctor.process, pid) {
        heading(&format!("Process {pid}"), out)?;
        for row in rows {
            print_finding(&row.name, &row.finding, width, out)?;
        }
    }
    Ok(())
}

/// Prints a line for each strategy.
///
/// # Errors
///
/// Those of writing.
pub(crate) fn print_strategies(doctor: &Doctor, width: usize, out: &mut dyn Write) -> Result<()> {
    for (name, strategy) in &doctor.strategies {
        writeln!(
            out,
            "  {}  {name:<width$}  {}",
            mark(strategy.status),
            strategy.why
        )?;
    }
    Ok(())
}

fn heading(title: &str, out: &mut dyn Write) -> Result<()> {
    writeln!(out)?;
    Ok(writeln!(out, "{}", paint(BOLD, title))?)
}

fn print_finding(name: &str, finding: &Finding, width: usize, out: &mut dyn Write) -> Result<()> {
    let why = match finding.status {
        Status::Works => paint(DIM, &finding.why),
        Status::Missing | Status::Denied => finding.why.clone(),
    };
    writeln!(out, "  {}  {name:<width$}  {why}", mark(finding.status))?;
    if let Some(fix) = &finding.fix {
        writeln!(
            out,
            "{:indent$}{} {fix}",
            "",
            paint(DIM, "try:"),
            indent = width + 14
        )?;
    }
    Ok(())
}

/// The status as a word of eight columns.
fn mark(status: Status) -> String {
    match status {
        Status::Works => paint(GOOD, "works  "),
        Status::Missing => paint(WARN, "missing"),
        Status::Denied => paint(BAD, "denied "),
    }
}

#[cfg(test)]
mod tests {
    use onionskin::doctor::Strategy;

    use super::*;

    fn finding(status: Status, why: &str, fix: Option<&str>) -> Finding {
        Finding {
            status,
            why: why.to_owned(),
            fix: fix.map(str::to_owned),
        }
    }

    fn sample(strategy: Status) -> Doctor {
        let features = [
            (
                "userfaultfd",
                finding(Status::Works, "the system call", None),
            ),
            (
                "soft-dirty",
                finding(Status::Missing, "bit 55 stays clear", None),
            ),
            (
                "ptrace",
                finding(
                    Status::Denied,
                    "yama",
                    Some("sysctl kernel.yama.ptrace_scope=1"),
                ),
            ),
        ];
        let freeze = Strategy {
            status: strategy,
            why: "needs ptrace".to_owned(),
        };
        Doctor {
            kernel: "6.18.0".to_owned(),
            arch: "x86_64".to_owned(),
            page_size: 4096,
            features: features
                .into_iter()
                .map(|(n, f)| (n.to_owned(), f))
                .collect(),
            strategies: [("freeze".to_owned(), freeze)].into(),
            process: Some(vec![Row {
                name: "tracer".to_owned(),
                finding: finding(Status::Denied, "traced by process 12", None),
            }]),
        }
    }

    #[test]
    fn what_fails_says_why_and_what_to_try() {
        let mut text = Vec::new();
        print(&sample(Status::Denied), Some(7), &mut text).unwrap();
        let text = anstream::adapter::strip_str(std::str::from_utf8(&text).unwrap()).to_string();
        assert_eq!(
            text,
            "Linux 6.18.0 on x86_64, pages of 4.00 KiB

How a snapshot can be taken
  denied   freeze       needs ptrace

What works
  works    userfaultfd  the system call

What is denied to us
  denied   ptrace       yama
                         try: sysctl kernel.yama.ptrace_scope=1

What is missing
  missing  soft-dirty   bit 55 stays clear

Process 7
  denied   tracer       traced by process 12
"
        );
    }

    #[test]
    fn a_machine_that_can_do_nothing_is_a_finding() {
        assert!(any_strategy(&sample(Status::Works)));
        assert!(!any_strategy(&sample(Status::Missing)));
    }
}
