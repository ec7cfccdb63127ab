//! `oracle replay`: one program, step by step.

use std::fs;
use std::io::Write;

use anyhow::{Context, Result, bail};
use lab::kernel::Kernel;
use lab::model::Model;
use lab::oracle::{Checker, Subject};
use lab::outcome::Outcome as Shown;
use lab::program::Program;
use serde::Serialize;

use crate::args::{OracleReplay, SideArg};
use crate::out::{BAD, BOLD, DIM, GOOD, Out, paint};
use crate::outcome::Outcome;

/// A replay in JSON.
#[derive(Debug, Serialize)]
struct ReplayJson {
    steps: Vec<StepJson>,
    divergence: Option<String>,
}

/// A step with what it showed.
#[derive(Debug, Serialize)]
struct StepJson {
    step: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mm: Option<String>,
}

/// Replays the program.
///
/// # Errors
///
/// Fails if the file can't be read, or if the child process fails.
pub(crate) fn run(args: &OracleReplay, out: &mut Out) -> Result<Outcome> {
    let text = fs::read_to_string(&args.file)
        .with_context(|| format!("reading {}", args.file.display()))?;
    let program: Program = text
        .parse()
        .with_context(|| format!("{} is no program", args.file.display()))?;
    let subject = match (&args.profile, args.on) {
        (Some(name), SideArg::Mm) => Subject::nowhere(name)?,
        (name, _) => Subject::of_this_machine(name.as_deref())?,
    };
    if args.on == SideArg::Both && program.uses_pool() && subject.lacks_pool() {
        bail!(
            "another run works with the machine's huge pages, which this program uses: try again \
             when it has ended"
        );
    }
    let kernel = match args.on {
        SideArg::Mm => None,
        SideArg::Kernel | SideArg::Both => Some(Kernel::new(subject.geometry).run(&program)?),
    };
    let mut checker = Checker::new(subject.profile.clone(), subject.geometry);
    let divergence = kernel
        .as_ref()
        .filter(|_| args.on == SideArg::Both)
        .and_then(|kernel| checker.check(&program, kernel).err());
    let turns = std::mem::take(&mut checker.turns);
    let model = (args.on != SideArg::Kernel)
        .then(|| on_model(&program, &subject, kernel.as_deref().unwrap_or(&[]), turns));
    let mut steps = Vec::new();
    for (index, step) in program.steps.iter().enumerate() {
        let at = |shown: &Option<Vec<Shown>>| {
            shown
                .as_ref()
                .and_then(|shown| shown.get(index))
                .map(describe)
        };
        let (kernel, mm) = (at(&kernel), at(&model));
        steps.push(StepJson {
            step: step.to_string(),
            kernel,
            mm,
        });
    }
    if out.json {
        let divergence = divergence.as_ref().map(ToString::to_string);
        out.json_line(&ReplayJson {
            steps,
            divergence: divergence.clone(),
        })?;
        return Ok(Outcome::found_if(divergence.is_some()));
    }
    for step in steps {
        writeln!(out, "{}", paint(BOLD, &step.step))?;
        for (side, shown) in [("kernel", step.kernel), ("mm", step.mm)] {
            for line in shown.iter().flat_map(|shown| shown.lines()) {
                writeln!(out, "  {} {line}", paint(DIM, format!("{side:6}")))?;
            }
        }
    }
    match (&divergence, args.on) {
        (Some(divergence), _) => write!(out, "{} {divergence}", paint(BAD, "they part:"))?,
        (None, SideArg::Both) => writeln!(out, "{}", paint(GOOD, "the same on both"))?,
        (None, SideArg::Kernel | SideArg::Mm) => {}
    }
    Ok(Outcome::found_if(divergence.is_some()))
}

/// Runs the program on the model, with what the kernel chose where it ran there, too, and with the
/// lanes in that order.
fn on_model(
    program: &Program,
    subject: &Subject,
    kernel: &[Shown],
    turns: Vec<usize>,
) -> Vec<Shown> {
    let profile = subject.profile.clone();
    let mut model = Model::with_turns(profile, subject.geometry, program, turns);
    let steps = program.steps.iter().enumerate();
    steps
        .map(|(at, step)| model.step(step, kernel.get(at..).unwrap_or(&[])))
        .collect()
}

fn describe(shown: &Shown) -> String {
    let mut text = shown.answer.to_string();
    for (name, value) in &shown.outputs {
        text.push_str(&format!(" {name}={value:#x}"));
    }
    for (lane, answer, _) in &shown.woken {
        text.push_str(&format!("; l{lane} goes on: {answer}"));
    }
    if let Some(view) = &shown.view {
        text.push('\n');
        text.push_str(&view.to_string());
    }
    text
}
