//! Every case on the model, and that cases can fail. The live kernel has `tests/conformance.rs`.

use space::Errno;

use super::*;
use crate::outcome::{Answer, Outcome};

const GEOMETRY: Geometry = Geometry::X86_64;

fn failures(findings: &[Finding]) -> Vec<String> {
    let failed = findings
        .iter()
        .filter(|finding| finding.result == Verdict::Fail);
    failed
        .map(|finding| format!("{}/{}: {}", finding.family, finding.name, finding.why))
        .collect()
}

fn run(ground: &mut dyn Ground) -> Vec<Finding> {
    let cases = cases(GEOMETRY).unwrap_or_else(|error| panic!("{error}"));
    cases.iter().map(|case| judge(case, ground)).collect()
}

#[test]
fn there_are_cases_of_every_family() {
    let cases = cases(GEOMETRY).unwrap_or_else(|error| panic!("{error}"));
    assert!(cases.len() >= 350, "{}", cases.len());
    let mut names: Vec<_> = cases.iter().map(|case| (case.family, &case.name)).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), cases.len(), "names come once");
}

#[test]
fn the_model_passes() {
    let findings = run(&mut Modelled::default());
    assert_eq!(failures(&findings), Vec::<String>::new());
}

/// A kernel that fails where it should succeed and succeeds where it should fail.
struct Wrong(LiveKernel);

impl Ground for Wrong {
    fn run(&mut self, program: &Program) -> Result<Vec<Outcome>, String> {
        let mut outcomes = self.0.run(program)?;
        for outcome in &mut outcomes {
            outcome.answer = match outcome.answer {
                Answer::Value(_) => Answer::Errno(Errno(22)),
                _ => Answer::Value(0),
            };
        }
        Ok(outcomes)
    }

    fn features(&mut self, program: &Program) -> Features {
        self.0.features(program)
    }

    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }
}

#[test]
fn a_wrong_kernel_fails_everywhere() {
    let findings = run(&mut Wrong(LiveKernel::new(GEOMETRY)));
    assert!(
        findings
            .iter()
            .all(|finding| finding.result != Verdict::Pass)
    );
}
