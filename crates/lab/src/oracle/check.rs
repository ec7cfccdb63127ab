//! Holds the model against what the kernel showed for one program.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};

use mm::Profile;

use super::Coverage;
use crate::compare::{Allowances, Difference, compare};
use crate::model::Model;
use crate::outcome::{Answer, Outcome};
use crate::program::{Geometry, Program};

/// A step at which the model and the kernel part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The step's number, from 0.
    pub step: usize,
    /// The operation's name.
    pub op: &'static str,
    /// What differs.
    pub difference: Difference,
}

impl Divergence {
    /// What divergences of one cause most likely share.
    pub fn signature(&self) -> String {
        let Difference {
            what,
            kernel,
            model,
        } = &self.difference;
        let short = |text: &str| {
            text.split([' ', '\n'])
                .take(2)
                .collect::<Vec<_>>()
                .join(" ")
        };
        match what.as_str() {
            "answer" => format!("{} {what} {} {}", self.op, short(kernel), short(model)),
            _ => format!("{} {what}", self.op),
        }
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference {
            what,
            kernel,
            model,
        } = &self.difference;
        writeln!(f, "step {} ({}): {what}", self.step, self.op)?;
        for (side, text) in [("kernel", kernel), ("model", model)] {
            for line in text.lines() {
                writeln!(f, "  {side:6} {line}")?;
            }
        }
        Ok(())
    }
}

/// Checks programs against a profile.
#[derive(Debug)]
pub struct Checker {
    profile: Profile,
    geometry: Geometry,
    /// What was allowed, and how often.
    pub allowances: Allowances,
    /// What was reached.
    pub coverage: Coverage,
}

impl Checker {
    /// Makes one.
    pub fn new(profile: Profile, geometry: Geometry) -> Self {
        Self {
            profile,
            geometry,
            allowances: Allowances::default(),
            coverage: Coverage::default(),
        }
    }

    /// Runs a program on the model, and compares it with what the kernel showed.
    ///
    /// # Errors
    ///
    /// Fails with the first step at which they part.
    pub fn check(&mut self, program: &Program, kernel: &[Outcome]) -> Result<(), Divergence> {
        let mut at = 0;
        let checked = panic::catch_unwind(AssertUnwindSafe(|| {
            self.check_steps(program, kernel, &mut at)
        }));
        checked.unwrap_or_else(|cause| {
            let text = cause.downcast_ref::<String>().cloned();
            let text = text.or_else(|| cause.downcast_ref::<&str>().map(|&text| text.to_owned()));
            let model = format!("panicked: {}", text.unwrap_or_default());
            let kernel = kernel[at].answer.to_string();
            let what = "the model broke".to_owned();
            Err(divergence(
                program,
                at,
                Difference {
                    what,
                    kernel,
                    model,
                },
            ))
        })
    }

    fn check_steps(
        &mut self,
        program: &Program,
        kernel: &[Outcome],
        at: &mut usize,
    ) -> Result<(), Divergence> {
        let mut model = Model::new(self.profile.clone(), self.geometry, program);
        for (index, (step, seen)) in program.steps.iter().zip(kernel).enumerate() {
            *at = index;
            if seen.answer == Answer::Endless {
                // The child is lost in this step, and the program ends with it.
                let outcome = Outcome::plain(Answer::LeftOut);
                return compare(step, seen, &outcome, &mut self.allowances)
                    .map_err(|difference| divergence(program, index, difference));
            }
            self.coverage.note(&step.op, seen.answer);
            if let Some((lane, ..)) = seen.woken.iter().find(|woken| woken.1 == Answer::Endless) {
                // A lane that had slept is lost: its last step is the one that never ends.
                let mut before = program.steps[..index].iter().rev();
                let slept = before.find(|before| before.lane.0 == *lane);
                let endless = Outcome::plain(Answer::Endless);
                let outcome = Outcome::plain(Answer::LeftOut);
                return compare(
                    slept.unwrap_or(step),
                    &endless,
                    &outcome,
                    &mut self.allowances,
                )
                .map_err(|difference| divergence(program, index, difference));
            }
            let shown = model.step(step, Some(seen));
            if self.allowances.ends(step, seen.answer, shown.answer) {
                return Ok(());
            }
            compare(step, seen, &shown, &mut self.allowances)
                .map_err(|difference| divergence(program, index, difference))?;
            model.verify().map_err(|violation| {
                let what = "an invariant".to_owned();
                let kernel = "always holds".to_owned();
                divergence(
                    program,
                    index,
                    Difference {
                        what,
                        kernel,
                        model: violation,
                    },
                )
            })?;
        }
        Ok(())
    }
}

fn divergence(program: &Program, step: usize, difference: Difference) -> Divergence {
    Divergence {
        step,
        op: program.steps[step].op.name(),
        difference,
    }
}
