//! Compares what a step showed on the kernel and on the model.
//!
//! Everything must be equal, but for the [`Allowance`]s: what a kernel may do either way, each with
//! its reason and the place in the kernel's source that it comes from.

mod allowance;

pub use allowance::{Allowance, Allowances};

use crate::outcome::{Answer, Outcome, Output, View};
use crate::program::Step;

/// What differs, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What it is that differs: the answer, an output's name, mappings, pages.
    pub what: String,
    /// What the kernel showed.
    pub kernel: String,
    /// What the model showed.
    pub model: String,
}

/// Compares two outcomes of a step.
///
/// # Errors
///
/// Fails with the first difference that is not allowed.
pub fn compare(
    step: &Step,
    kernel: &Outcome,
    model: &Outcome,
    allowances: &mut Allowances,
) -> Result<(), Difference> {
    if !allowances.answers(step, kernel.answer, model.answer) {
        return Err(different("answer", &kernel.answer, &model.answer));
    }
    outputs("", &kernel.outputs, &model.outputs)?;
    woken(kernel, model)?;
    match (&kernel.view, &model.view) {
        (Some(kernel), Some(model)) => views(kernel, model),
        // A side that did not look can't differ: the lane sleeps or has ended.
        _ => Ok(()),
    }
}

fn different(
    what: &str,
    kernel: &dyn std::fmt::Display,
    model: &dyn std::fmt::Display,
) -> Difference {
    Difference {
        what: what.to_owned(),
        kernel: kernel.to_string(),
        model: model.to_string(),
    }
}

fn outputs(prefix: &str, kernel: &[Output], model: &[Output]) -> Result<(), Difference> {
    if kernel == model {
        return Ok(());
    }
    let pairs = kernel.iter().zip(model);
    let first = pairs.clone().find(|(kernel, model)| kernel != model);
    let what = match first {
        Some(((name, _), _)) => format!("{prefix}{name}"),
        None => format!("{prefix}number of outputs"),
    };
    Err(different(&what, &Outputs(kernel), &Outputs(model)))
}

/// Shows outputs one behind the other.
struct Outputs<'a>(&'a [Output]);

impl std::fmt::Display for Outputs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, value) in self.0 {
            write!(f, "{name}={value:#x} ")?;
        }
        Ok(())
    }
}

/// Lanes that went on: their order is the scheduler's, so they are compared by number.
fn woken(kernel: &Outcome, model: &Outcome) -> Result<(), Difference> {
    let lanes = |outcome: &Outcome| {
        let mut lanes = outcome.woken.clone();
        lanes.sort_by_key(|(lane, ..)| *lane);
        lanes
    };
    let (kernel, model) = (lanes(kernel), lanes(model));
    let names = |woken: &[(u8, Answer, Vec<Output>)]| {
        let names = woken
            .iter()
            .map(|(lane, answer, _)| format!("l{lane}: {answer}"));
        names.collect::<Vec<_>>().join(", ")
    };
    if kernel.len() != model.len() {
        return Err(different(
            "lanes that went on",
            &names(&kernel),
            &names(&model),
        ));
    }
    for (one, other) in kernel.iter().zip(&model) {
        if (one.0, one.1) != (other.0, other.1) {
            return Err(different(
                "lanes that went on",
                &names(&kernel),
                &names(&model),
            ));
        }
        outputs(&format!("l{}'s ", one.0), &one.2, &other.2)?;
    }
    Ok(())
}

fn views(kernel: &View, model: &View) -> Result<(), Difference> {
    if kernel.areas != model.areas {
        return Err(different("mappings", kernel, model));
    }
    let pairs = kernel.entries.iter().zip(&model.entries);
    let changed = pairs
        .enumerate()
        .find(|(_, (kernel, model))| kernel != model);
    match changed {
        Some((page, (one, other))) => {
            let letters = crate::program::expect::letters;
            let kernel = format!("{} at page {page}; {kernel}", letters(*one));
            let model = format!("{} at page {page}; {model}", letters(*other));
            Err(different("pagemap", &kernel, &model))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use space::Errno;

    use super::*;
    use crate::program::Op;

    fn outcome(answer: Answer, page: u64) -> Outcome {
        let entries = vec![0, page];
        let view = Some(View {
            areas: Vec::new(),
            entries,
        });
        Outcome {
            view,
            ..Outcome::plain(answer)
        }
    }

    fn what(kernel: &Outcome, model: &Outcome) -> Option<String> {
        let step = Step::new(0, Op::Look {});
        let compared = compare(&step, kernel, model, &mut Allowances::default());
        compared.err().map(|difference| difference.what)
    }

    #[test]
    fn every_part_is_compared() {
        let plain = outcome(Answer::Value(0), 1 << 63);
        assert_eq!(what(&plain, &plain), None);
        let failed = outcome(Answer::Errno(Errno::EINVAL), 1 << 63);
        assert_eq!(what(&plain, &failed).as_deref(), Some("answer"));
        let absent = outcome(Answer::Value(0), 0);
        assert_eq!(what(&plain, &absent).as_deref(), Some("pagemap"));
        let copied = Outcome {
            outputs: vec![("copy", 1)],
            ..plain.clone()
        };
        let copied_less = Outcome {
            outputs: vec![("copy", 0)],
            ..plain.clone()
        };
        assert_eq!(what(&copied, &copied_less).as_deref(), Some("copy"));
        assert_eq!(what(&copied, &plain).as_deref(), Some("number of outputs"));
        let woke = Outcome {
            woken: vec![(1, Answer::Value(0), Vec::new())],
            ..plain.clone()
        };
        assert_eq!(what(&woke, &plain).as_deref(), Some("lanes that went on"));
    }
}
