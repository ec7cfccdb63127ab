//! How many steps a second the oracle compares, for programs of one process.
//!
//! `cargo bench -p onionskin-lab`. Beside the whole (`compared`) it shows what each side could do
//! alone: `kernel` runs the programs, `model` holds the model against what was seen. The rounds go
//! in turn, so that a change of the machine's speed meets all of them; medians are printed.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use lab::generate::{self, Family, Random};
use lab::kernel::Kernel;
use lab::oracle::{Checker, Options, Subject, run};

/// How many programs a round of one side has.
const PROGRAMS: usize = 400;
/// How many rounds there are.
const ROUNDS: u64 = 7;
/// How long a round of both sides takes.
const TIME: Duration = Duration::from_secs(2);

/// How many compared steps a second are asked for, on a quiet machine with two processors.
const ASKED: u64 = 50_000;

fn main() {
    let subject = Subject::of_this_machine(None).expect("a kernel to compare with");
    let families: Vec<Family> = Family::ALL
        .iter()
        .copied()
        .filter(|family| family.is_single())
        .collect();
    let mut rates = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        let (kernel, model) = apart(&subject, &families, round);
        let options = Options {
            seed: round,
            steps: None,
            time: Some(TIME),
            divergences: None,
            families: families.clone(),
            without: Vec::new(),
            workers: None,
        };
        let report = run(&subject, &options, |_| {}).expect("the kernel's side works");
        let both = rate(report.steps, report.time);
        for (rates, rate) in rates.iter_mut().zip([kernel, model, both]) {
            rates.push(rate);
        }
    }
    for (name, mut rates) in ["kernel", "model", "compared"].into_iter().zip(rates) {
        rates.sort_unstable();
        let (least, median, most) = (rates[0], rates[rates.len() / 2], rates[rates.len() - 1]);
        println!("{name:8} {median:>8} steps/s (median of {ROUNDS}; {least} to {most})");
        if name == "compared" {
            let verdict = if median >= ASKED { "kept" } else { "missed" };
            println!("asked {ASKED} compared steps/s, measured {median}: {verdict}");
        }
    }
}

/// The rates of the two sides, one after the other.
fn apart(subject: &Subject, families: &[Family], seed: u64) -> (u64, u64) {
    let mut draw = Random::new(seed);
    let mut kernel = Kernel::new(subject.geometry);
    let mut ran = Vec::new();
    let (mut steps, mut time) = (0, Duration::ZERO);
    for _ in 0..PROGRAMS {
        let program = generate::program(draw.one_of(families), draw.word());
        let begin = Instant::now();
        let outcomes = kernel.run(&program);
        time += begin.elapsed();
        if let Ok(outcomes) = outcomes {
            steps += outcomes.len() as u64;
            ran.push((program, outcomes));
        }
    }
    let of_kernel = rate(steps, time);
    let mut checker = Checker::new(subject.profile.clone(), subject.geometry);
    let begin = Instant::now();
    let mut steps = 0;
    for (program, outcomes) in &ran {
        let checked = checker.check(program, outcomes);
        steps += checked.map_or_else(|found| found.step + 1, |()| outcomes.len()) as u64;
    }
    (of_kernel, rate(steps, begin.elapsed()))
}

fn rate(steps: u64, time: Duration) -> u64 {
    u64::try_from(u128::from(steps) * 1_000_000_000 / time.as_nanos().max(1)).unwrap_or(u64::MAX)
}
