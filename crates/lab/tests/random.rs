//! Random programs with a fresh seed on the kernel and on the model: nothing new may differ.
//!
//! It takes two minutes, or as long as `ONIONSKIN_ORACLE_SECONDS` says, where 0 leaves it out. A run that
//! fails prints the command that shows the same again; `ONIONSKIN_ORACLE_SEED` has this test begin with its
//! seed.
#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod common;
mod machine;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lab::generate::Family;
use lab::oracle::{Options, known, run};

use common::skip;

/// Families whose programs may still part, or of which too few were compared to say that none does
/// (`docs/mm/divergences.md`): without them.
const OPEN: &[Family] = &[Family::Hugetlb, Family::Thp, Family::Handler];

/// How long it takes unless said.
const SECONDS: u64 = 120;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap())
}

fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::from(now.subsec_nanos()) ^ now.as_secs()
}

#[test]
fn a_fresh_seed_finds_nothing_new() {
    const TEST: &str = "a_fresh_seed_finds_nothing_new";
    let seconds = number("ONIONSKIN_ORACLE_SECONDS").unwrap_or(SECONDS);
    if seconds == 0 {
        return skip(TEST, "ONIONSKIN_ORACLE_SECONDS is 0");
    }
    let Some(subject) = machine::subject(TEST) else {
        return;
    };
    // See docs/mm/divergences.md.
    if !subject.has("kernel>=6.18") {
        return skip(TEST, "the model of older kernels still differs");
    }
    let seed = number("ONIONSKIN_ORACLE_SEED").unwrap_or_else(fresh_seed);
    println!("seed {seed}, {seconds} s, profile {}", subject.name());
    let families = Family::ALL.iter().copied();
    let families: Vec<Family> = families.filter(|family| !OPEN.contains(family)).collect();
    let named = families
        .iter()
        .map(|family| format!(" --family {}", family.name()));
    let named: String = named.collect();
    let options = Options {
        seed,
        steps: None,
        time: Some(Duration::from_secs(seconds)),
        divergences: None,
        families,
        without: Vec::new(),
        workers: None,
    };
    let mut new = String::new();
    let report = run(&subject, &options, |found| {
        match known(found.family, &found.divergence) {
            Some(known) => println!("known: {} ({} times)", known.name, found.times),
            None => new.push_str(&format!("{}\n", found.text())),
        }
    })
    .unwrap();
    for lost in &report.lost {
        new.push_str(&format!("lost: {lost}\n"));
    }
    for disturbed in &report.disturbed {
        println!("not compared: {disturbed}");
    }
    let (steps, programs) = (report.steps, report.programs);
    println!("{steps} steps in {programs} programs");
    assert!(
        new.is_empty(),
        "{new}to see this again: cargo run --release -p onionskin-cli -- oracle run --seed {seed} \
         --steps {steps}{named}"
    );
    assert!(steps > 0, "nothing was compared");
    assert!(!report.is_disturbed(), "too many were not compared");
    assert!(
        !report.is_unsteady(),
        "too many parted once and not again: {:?}",
        report.disturbed
    );
}
