//! The model held against the running kernel: what once differed, and whether a mistake is found.
#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod common;
mod machine;

use std::num::NonZeroUsize;
use std::time::Duration;

use lab::compare::Allowance;
use lab::generate::Family;
use lab::kernel::Kernel;
use lab::oracle::{Checker, Options, reach, run};
use lab::program::Program;

use common::skip;

/// Name and text of programs that once showed a difference.
const REGRESSIONS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/regressions.rs"));

#[test]
fn what_once_differed_is_the_same() {
    let Some(subject) = machine::subject("what_once_differed_is_the_same") else {
        return;
    };
    let mut kernel = Kernel::new(subject.geometry);
    let mut differs = String::new();
    for (name, text) in REGRESSIONS {
        let program: Program = text.parse().unwrap();
        let part = format!("what_once_differed_is_the_same/{name}");
        if program.uses_pool() && subject.lacks_pool() {
            skip(&part, "another run works with the machine's huge pages");
            continue;
        }
        if !program.needs.iter().all(|need| subject.has(need)) {
            skip(&part, &format!("it needs {:?}", program.needs));
            continue;
        }
        let outcomes = kernel.run(&program).unwrap();
        let mut checker = Checker::new(subject.profile.clone(), subject.geometry);
        if let Err(divergence) = checker.check(&program, &outcomes) {
            differs.push_str(&format!("{name}: {divergence}"));
        }
        let cut_short =
            |(allowance, hits): (&Allowance, u64)| hits > 0 && allowance.name == "no-huge-page";
        if checker.allowances.hits().any(cut_short) {
            skip(&part, "no memory lies together for a huge page");
        }
    }
    assert!(differs.is_empty(), "{differs}");
}

#[test]
fn a_wrong_model_is_found() {
    let Some(mut subject) = machine::subject("a_wrong_model_is_found") else {
        return;
    };
    // The zero page is soft-dirty on no kernel without soft-dirty.
    subject.profile.soft_dirty = !subject.profile.soft_dirty;
    let options = Options {
        seed: 1,
        steps: Some(4_000),
        time: Some(Duration::from_secs(20)),
        divergences: None,
        families: vec![Family::Mapping],
        without: Vec::new(),
        workers: None,
    };
    let report = run(&subject, &options, |_| {}).unwrap();
    assert!(report.divergences > 0);
    let smallest = report
        .found
        .iter()
        .map(|found| found.program.steps.len())
        .min();
    assert!(
        smallest.is_some_and(|steps| steps <= 3),
        "shrunk to {smallest:?} steps"
    );
}

#[test]
fn the_number_of_workers_changes_nothing() {
    let Some(mut subject) = machine::subject("the_number_of_workers_changes_nothing") else {
        return;
    };
    // So that there is something to find.
    subject.profile.soft_dirty = !subject.profile.soft_dirty;
    // Where the kernel is emulated, a step takes a hundredth of a second.
    let slow = std::env::var_os("ONIONSKIN_SLOW").is_some();
    let steps = if slow { 200 } else { 2_000 };
    let with = |workers: usize| {
        let options = Options {
            seed: 3,
            steps: Some(steps),
            time: None,
            divergences: None,
            families: vec![Family::Mapping, Family::Fork],
            without: Vec::new(),
            workers: NonZeroUsize::new(workers),
        };
        let report = run(&subject, &options, |_| {}).unwrap();
        let found = report.found.into_iter();
        let mut found: Vec<_> = found
            .map(|one| (one.divergence.signature(), one.seed, one.times))
            .collect();
        found.sort();
        (report.programs, report.steps, report.divergences, found)
    };
    let alone = with(1);
    assert!(!alone.3.is_empty());
    assert_eq!(with(3), alone);
}

#[test]
fn all_that_is_listed_is_reached() {
    /// Enough for what happens once in a hundred thousand steps.
    const STEPS: u64 = 1_000_000;
    let Some(subject) = machine::subject("all_that_is_listed_is_reached") else {
        return;
    };
    let (coverage, missed) = reach(&subject, 1, STEPS).unwrap();
    let missed: Vec<String> = missed
        .iter()
        .map(|one| format!("{} {}", one.operation, one.ending))
        .collect();
    assert!(missed.is_empty(), "never: {}", missed.join(", "));
    assert!(coverage.success_percent() >= 40.0);
}
