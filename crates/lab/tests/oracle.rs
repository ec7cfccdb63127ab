//! The model held against the running kernel: what once differed, and whether a mistake is found.
#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use lab::generate::Family;
use lab::kernel::Kernel;
use lab::oracle::{Checker, Options, Subject, run};
use lab::program::Program;

use common::{page_size_fits, skip};

/// Name and text of programs that once showed a difference.
const REGRESSIONS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/regressions.rs"));

/// The releases that the model has a profile for, but 6.1: it does not tell a process its mappings
/// (`PROCMAP_QUERY`), and so there is little to compare.
const COMPARED: [&str; 2] = ["6.12.", "6.18."];

/// The machine, if it is one that the model is compared with.
fn subject(test: &str) -> Option<Subject> {
    if !page_size_fits(test) {
        return None;
    }
    if !cfg!(target_arch = "x86_64") {
        skip(test, "the model is compared with kernels of x86_64");
        return None;
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    if !COMPARED.iter().any(|known| release.starts_with(known)) {
        skip(
            test,
            &format!("a kernel of version {}", COMPARED.join(" or ")),
        );
        return None;
    }
    if !Path::new("/proc/sys/vm/nr_hugepages")
        .metadata()
        .is_ok_and(|file| {
            let opened = fs::OpenOptions::new()
                .write(true)
                .open("/proc/sys/vm/nr_hugepages");
            file.is_file() && opened.is_ok()
        })
    {
        skip(test, "root");
        return None;
    }
    Some(Subject::of_this_machine(None).unwrap())
}

#[test]
fn what_once_differed_is_the_same() {
    let Some(subject) = subject("what_once_differed_is_the_same") else {
        return;
    };
    let mut kernel = Kernel::new(subject.geometry);
    for (name, text) in REGRESSIONS {
        let program: Program = text.parse().unwrap();
        if !program.needs.iter().all(|need| subject.has(need)) {
            skip(
                &format!("what_once_differed_is_the_same/{name}"),
                &format!("it needs {:?}", program.needs),
            );
            continue;
        }
        let outcomes = kernel.run(&program).unwrap();
        let mut checker = Checker::new(subject.profile.clone(), subject.geometry);
        if let Err(divergence) = checker.check(&program, &outcomes) {
            panic!("{name}: {divergence}");
        }
    }
}

#[test]
fn a_wrong_model_is_found() {
    let Some(mut subject) = subject("a_wrong_model_is_found") else {
        return;
    };
    // The zero page is soft-dirty on no kernel without soft-dirty.
    subject.profile.soft_dirty = !subject.profile.soft_dirty;
    let options = Options {
        seed: 1,
        steps: Some(20_000),
        time: Some(Duration::from_secs(20)),
        families: vec![Family::Mapping],
        without: Vec::new(),
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

/// Always the same random programs, of the families whose differences are all mended.
#[test]
fn a_short_run_finds_nothing() {
    let Some(subject) = subject("a_short_run_finds_nothing") else {
        return;
    };
    let options = Options {
        seed: 1,
        steps: Some(3_000),
        time: None,
        families: vec![Family::Mapping, Family::Fork],
        without: Vec::new(),
    };
    let report = run(&subject, &options, |found| println!("{}", found.text())).unwrap();
    assert!(report.steps >= 3_000);
    assert_eq!(report.divergences, 0);
}
