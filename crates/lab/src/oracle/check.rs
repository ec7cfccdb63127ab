//! Holds the model against what the kernel showed for one program.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};

use mm::Profile;

use super::Coverage;
use super::attempt::{Attempt, furthest};
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
    /// Which lane came first in the last program, where a step let several go on: for
    /// [`Model::with_turns`].
    pub turns: Vec<usize>,
    /// Whether the model had a huge page in the last program, up to where it parted: the kernel may have
    /// found no memory for one.
    pub had_huge_pages: bool,
}

impl Checker {
    /// Makes one.
    pub fn new(profile: Profile, geometry: Geometry) -> Self {
        Self {
            profile,
            geometry,
            allowances: Allowances::default(),
            coverage: Coverage::default(),
            turns: Vec::new(),
            had_huge_pages: false,
        }
    }

    /// Runs a program on the model, and compares it with what the kernel showed. Where a step let
    /// several lanes go on, any of them may have come first.
    ///
    /// # Errors
    ///
    /// Fails with the first step at which they part.
    pub fn check(&mut self, program: &Program, kernel: &[Outcome]) -> Result<(), Divergence> {
        let mut attempt = furthest(|told| self.attempt(program, kernel, told));
        let out_of_order = attempt.out_of_order();
        attempt.allowances.lane_order(out_of_order);
        self.coverage.add(&attempt.coverage);
        self.allowances.add(&attempt.allowances);
        self.turns = attempt.turns.iter().map(|turn| turn.taken).collect();
        self.had_huge_pages = attempt.had_huge_pages;
        attempt.ended
    }

    /// Runs the program once, and tells the model which lanes come first.
    fn attempt(&self, program: &Program, kernel: &[Outcome], told: Vec<usize>) -> Attempt {
        let mut model = Model::with_turns(self.profile.clone(), self.geometry, program, told);
        let mut attempt = Attempt::default();
        let mut at = 0;
        let checked = panic::catch_unwind(AssertUnwindSafe(|| {
            follow(&mut model, program, kernel, &mut at, &mut attempt)
        }));
        attempt.turns = model.turns().to_vec();
        attempt.had_huge_pages = model.machine().had_huge_pages();
        attempt.ended = checked.unwrap_or_else(|cause| {
            let text = cause.downcast_ref::<String>().cloned();
            let text = text.or_else(|| cause.downcast_ref::<&str>().map(|&text| text.to_owned()));
            let difference = Difference {
                what: "the model broke".to_owned(),
                kernel: kernel[at].answer.to_string(),
                model: format!("panicked: {}", text.unwrap_or_default()),
            };
            Err(divergence(program, at, difference))
        });
        attempt
    }
}

/// Runs a program on the model, and compares each step. `at` is the step that it is at.
fn follow(
    model: &mut Model,
    program: &Program,
    kernel: &[Outcome],
    at: &mut usize,
    attempt: &mut Attempt,
) -> Result<(), Divergence> {
    let allowances = &mut attempt.allowances;
    for (index, (step, seen)) in program.steps.iter().zip(kernel).enumerate() {
        *at = index;
        let parted = |difference| divergence(program, index, difference);
        let left_out = Outcome::plain(Answer::LeftOut);
        if seen.answer == Answer::Endless {
            // The child is lost in this step, and the program ends with it.
            return compare(step, seen, &left_out, allowances).map_err(parted);
        }
        attempt.coverage.note(&step.op, seen.answer);
        if let Some((lane, ..)) = seen.woken.iter().find(|woken| woken.1 == Answer::Endless) {
            // A lane that had slept is lost: its last step is the one that never ends.
            let mut before = program.steps[..index].iter().rev();
            let slept = before.find(|before| before.lane.0 == *lane).unwrap_or(step);
            let endless = Outcome::plain(Answer::Endless);
            return compare(slept, &endless, &left_out, allowances).map_err(parted);
        }
        let shown = model.step(step, &kernel[index..]);
        if allowances.ends(step, seen.answer, shown.answer) {
            return Ok(());
        }
        compare(step, seen, &shown, allowances).map_err(parted)?;
        model.verify().map_err(|violation| {
            parted(Difference {
                what: "an invariant".to_owned(),
                kernel: "always holds".to_owned(),
                model: violation,
            })
        })?;
    }
    Ok(())
}

fn divergence(program: &Program, step: usize, difference: Difference) -> Divergence {
    Divergence {
        step,
        op: program.steps[step].op.name(),
        difference,
    }
}

#[cfg(test)]
mod tests {
    use mm::{Arch, Kernel};

    use super::*;

    /// Two lanes wait for a page, one to store and one to load, and then for another one: what is loaded
    /// shows the first order, and the faults that are read the second.
    const RACE: &str = "onionskin program 1
userfaultfd u0 nonblock
api u0 170 0
mmap @0 2p r|w private|fixed|anon - 0
register u0 @0 2p missing
thread l1
thread l2
l1: store @0 0x41
l2: load @0
zeropage u0 @0 1p 0
l1: store @1p 0x42
l2: load @1p
wake u0 @1p 1p
read-event u0 u1
read-event u0 u1
";

    fn outcomes(checker: &Checker, program: &Program, told: &[usize]) -> Vec<Outcome> {
        let (profile, told) = (checker.profile.clone(), told.to_vec());
        let mut model = Model::with_turns(profile, checker.geometry, program, told);
        let steps = program.steps.iter();
        steps.map(|step| model.step(step, &[])).collect()
    }

    fn lane_order(checker: &Checker) -> u64 {
        let mut hits = checker.allowances.hits();
        let found = hits.find(|(allowance, _)| allowance.name == "lane-order");
        found.map_or(0, |(_, hits)| hits)
    }

    #[test]
    fn lanes_may_come_in_any_order_and_nothing_else_may_differ() {
        let program: Program = RACE.parse().unwrap();
        let geometry = Geometry {
            page: 4096,
            huge: 2 << 20,
        };
        let fresh = || Checker::new(Profile::new(Kernel::V6_18, Arch::X86_64), geometry);
        for (told, hits) in [([0, 0], 0), ([1, 0], 1), ([0, 1], 1), ([1, 1], 2)] {
            let mut checker = fresh();
            let seen = outcomes(&checker, &program, &told);
            assert_eq!(checker.check(&program, &seen), Ok(()), "{told:?}");
            assert_eq!((lane_order(&checker), &*checker.turns), (hits, &told[..]));
        }
        let mut checker = fresh();
        let mut seen = outcomes(&checker, &program, &[1, 1]);
        let woken = &mut seen[8].woken;
        let load = woken.iter_mut().find(|woken| woken.0 == 2).unwrap();
        load.1 = Answer::Value(0x44);
        let parted = checker.check(&program, &seen).unwrap_err();
        assert_eq!(parted.step, 8);
    }
}
