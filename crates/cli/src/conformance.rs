//! `onionskin conformance`: what memory management must do, case by case.

use std::io::Write;
use std::panic;

use anyhow::{Context, Result, bail};
use lab::conform::{self, Case, Finding, Ground, LiveKernel, Modelled, Verdict};
use lab::program::Geometry;
use serde::Serialize;

use crate::args;
use crate::out::{BAD, DIM, GOOD, Out, WARN, paint};
use crate::outcome::Outcome;

/// All results, as JSON.
#[derive(Serialize)]
struct Results<'a> {
    on: &'static str,
    cases: &'a [Finding],
}

/// Runs the cases. It counts as found if one fails.
///
/// # Errors
///
/// Those of reading the cases and of printing.
pub(crate) fn run(args: &args::Conformance, out: &mut Out) -> Result<Outcome> {
    let geometry = Geometry::X86_64;
    let mut cases = conform::cases(geometry).context("the cases can't be read")?;
    cases.retain(|case| format!("{}/{}", case.family, case.name).contains(&args.only));
    if cases.is_empty() {
        bail!("no case has '{}' in its name", args.only);
    }
    if args.markdown {
        let kernel = on(args::Ground::Kernel, args, &cases);
        let mm = on(args::Ground::Mm, args, &cases);
        let release = conform::kernel_release();
        let kernel_name = format!("Linux {release}");
        let columns = [
            (kernel_name.as_str(), kernel.as_slice()),
            ("mm", mm.as_slice()),
        ];
        write!(out, "{}", conform::markdown(&cases, &columns))?;
        return Ok(Outcome::found_if(any_failed(&kernel) || any_failed(&mm)));
    }
    let findings = on(args.on, args, &cases);
    if out.json {
        out.json_line(&Results {
            on: name(args.on),
            cases: &findings,
        })?;
    } else {
        print(&findings, out)?;
    }
    Ok(Outcome::found_if(any_failed(&findings)))
}

fn name(ground: args::Ground) -> &'static str {
    match ground {
        args::Ground::Kernel => "kernel",
        args::Ground::Mm => "mm",
    }
}

fn on(ground: args::Ground, args: &args::Conformance, cases: &[Case]) -> Vec<Finding> {
    let geometry = Geometry::X86_64;
    let judged = |ground: &mut dyn Ground| {
        cases
            .iter()
            .map(|case| conform::judge(case, ground))
            .collect()
    };
    match ground {
        args::Ground::Kernel => {
            let kernel = LiveKernel::new(geometry);
            let mut kernel = if args.allow_poisoning {
                kernel.with_poisoning()
            } else {
                kernel
            };
            judged(&mut kernel)
        }
        args::Ground::Mm => {
            // A case in which the model panics fails, and says so.
            let hook = panic::take_hook();
            panic::set_hook(Box::new(|_| {}));
            let findings = judged(&mut Modelled::default());
            panic::set_hook(hook);
            findings
        }
    }
}

fn any_failed(findings: &[Finding]) -> bool {
    findings
        .iter()
        .any(|finding| finding.result == Verdict::Fail)
}

fn print(findings: &[Finding], out: &mut dyn Write) -> Result<()> {
    let mut counts = [0_usize; 3];
    for Finding {
        family,
        name,
        result,
        why,
    } in findings
    {
        let (count, style, word) = match result {
            Verdict::Pass => (0, GOOD, "pass"),
            Verdict::Fail => (1, BAD, "fail"),
            Verdict::Skip => (2, WARN, "skip"),
        };
        counts[count] += 1;
        write!(out, "{} {family}/{name}", paint(style, word))?;
        if why.is_empty() {
            writeln!(out)?;
        } else {
            writeln!(out, "  {}", paint(DIM, why))?;
        }
    }
    let [passed, failed, skipped] = counts;
    writeln!(out, "{passed} passed, {failed} failed, {skipped} skipped")?;
    Ok(())
}
