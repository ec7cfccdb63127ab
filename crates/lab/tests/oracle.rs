//! The model held against the running kernel: what once differed, and whether a mistake is found.
#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::generate::Family;
use lab::kernel::Kernel;
use lab::oracle::{Checker, Options, Subject, run};
use lab::program::Program;

/// The machine, if it is one that the model is compared with.
fn subject(test: &str) -> Option<Subject> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    if !release.starts_with("6.18.") {
        return skip(test, "a kernel of version 6.18");
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
        return skip(test, "root");
    }
    Some(Subject::of_this_machine(None).unwrap())
}

fn skip(test: &str, missing: &str) -> Option<Subject> {
    println!("skipped: {missing}");
    if let Some(path) = std::env::var_os("ONIONSKIN_SKIPS") {
        use std::io::Write;
        let mut file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        writeln!(file, "{test}: {missing}").unwrap();
    }
    None
}

fn regressions() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.collect();
    files.sort();
    files
}

#[test]
fn what_once_differed_is_the_same() {
    let Some(subject) = subject("what_once_differed_is_the_same") else {
        return;
    };
    let mut kernel = Kernel::new(subject.geometry);
    for path in regressions() {
        let program: Program = fs::read_to_string(&path).unwrap().parse().unwrap();
        if !program.needs.iter().all(|need| subject.has(need)) {
            println!(
                "skipped: {} for want of {:?}",
                path.display(),
                program.needs
            );
            continue;
        }
        let outcomes = kernel.run(&program).unwrap();
        let mut checker = Checker::new(subject.profile.clone(), subject.geometry);
        if let Err(divergence) = checker.check(&program, &outcomes) {
            panic!("{}: {divergence}", path.display());
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
