//! Conformance: named cases of what Linux does, each with all that it must show.
//!
//! A case is a [`Program`] with expectations, written once for several kinds of memory or several
//! ways to do a thing: [`template`] says how. Cases lie in `cases/FAMILY/NAME.txt`; families and
//! names follow Linux's own selftests. A [`Ground`] is what they run on: the live kernel or the
//! model. What it lacks by its configuration is found by asking it ([`features`]), and cases that
//! need such a thing are skipped.

mod check;
pub mod features;
mod ground;
mod table;
pub mod template;

use serde::Serialize;

pub use check::{Terms, check};
pub use features::Features;
pub use ground::{Ground, LiveKernel, Modelled, kernel_release};
pub use table::{Column, markdown};

use crate::program::{Geometry, Program};
use template::TemplateError;

/// The files of cases: family, name, text. What cases include has a name with `+` in front.
const FILES: &[(&str, &str, &str)] = include!(concat!(env!("OUT_DIR"), "/cases.rs"));

/// A case that can be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The family: the selftest that checks the same.
    pub family: &'static str,
    /// The name, with the kind of memory and the like behind dots.
    pub name: String,
    /// What it shows, in a sentence.
    pub about: String,
    /// What is done, and what it must show.
    pub program: Program,
}

/// Why a file holds no case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{family}/{name}: {why}")]
pub struct CaseError {
    /// The family.
    pub family: &'static str,
    /// The file's name.
    pub name: &'static str,
    /// What is wrong with it.
    pub why: Box<TemplateError>,
}

/// Returns all cases, by family and file.
///
/// # Errors
///
/// Fails where a file is wrong.
pub fn cases(geometry: Geometry) -> Result<Vec<Case>, CaseError> {
    let mut cases = Vec::new();
    for &(family, name, text) in FILES {
        if name.starts_with('+') {
            continue;
        }
        let included = |wanted: &str| {
            let same = |other: &str| other.strip_prefix('+') == Some(wanted);
            let mut found = FILES
                .iter()
                .filter(|(of, other, _)| *of == family && same(other));
            found.next().map(|(_, _, text)| (*text).to_owned())
        };
        let variants = template::expand(text, &included, geometry);
        let variants = variants.map_err(|why| CaseError {
            family,
            name,
            why: Box::new(why),
        })?;
        cases.extend(variants.into_iter().map(|variant| Case {
            family,
            name: format!("{name}{}", variant.suffix),
            about: variant.about,
            program: variant.program,
        }));
    }
    Ok(cases)
}

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything was shown as it must be.
    Pass,
    /// Something was not.
    Fail,
    /// The subject lacks what the case needs.
    Skip,
}

/// One case's result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The family.
    pub family: &'static str,
    /// The name.
    pub name: String,
    /// How it ended.
    pub result: Verdict,
    /// Why it failed or was skipped; empty where it passed.
    pub why: String,
}

/// Runs a case.
pub fn judge(case: &Case, ground: &mut dyn Ground) -> Finding {
    let features = ground.features(&case.program);
    let implied = features::implied(&case.program);
    let mut needs = case.program.needs.iter().map(String::as_str).chain(implied);
    let lacks = needs.find(|need| !features.holds(need));
    let (result, why) = match lacks {
        Some(need) => (Verdict::Skip, features::explain(need)),
        None => match verdict(&case.program, ground, &features) {
            Ok(()) => (Verdict::Pass, String::new()),
            Err(why) => (Verdict::Fail, why),
        },
    };
    let Case { family, name, .. } = case;
    Finding {
        family,
        name: name.clone(),
        result,
        why,
    }
}

fn verdict(program: &Program, ground: &mut dyn Ground, features: &Features) -> Result<(), String> {
    let outcomes = ground.run(program)?;
    if outcomes.len() != program.steps.len() {
        return Err("not every step was made".to_owned());
    }
    let soft_dirty = program.needs.iter().any(|need| need == "soft-dirty");
    let terms = Terms {
        features,
        geometry: ground.geometry(),
        soft_dirty,
    };
    for (number, (step, outcome)) in program.steps.iter().zip(&outcomes).enumerate() {
        check(step, outcome, terms)
            .map_err(|why| format!("step {number} '{} {}': {why}", step.lane, step.op))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
