//! The engine over a fake process that changes its memory between any two of its calls.
//!
//! A run is named by its seed. `ONIONSKIN_SEED=N` repeats one, `ONIONSKIN_SEEDS=N` tries so many.
#![expect(clippy::unwrap_used, reason = "a test's helpers are tests")]

mod fake;
mod promises;
mod rng;
mod run;
mod sink;
mod world;

use std::cell::Cell;
use std::time::Duration;

use engine::{Event, Options, SnapshotError, Strategy, Verify};

use space::{MappingFlags, RangeSet};

use run::{Plan, Sim, Stuck, Trouble};
use world::Sabotage;

/// How often each thing came about.
#[derive(Default)]
struct Tally(Cell<u64>, Cell<u64>, Cell<u64>, Cell<u64>);

impl Tally {
    fn add(&self, outcome: Option<Strategy>) {
        let cell = match outcome {
            Some(Strategy::Precopy) => &self.0,
            Some(Strategy::Fork) => &self.1,
            Some(_) => &self.2,
            None => &self.3,
        };
        cell.set(cell.get() + 1);
    }
}

/// Runs `body` for many seeds and says how to repeat the one that fails.
fn seeds(test: &str, default: u64, body: impl Fn(u64)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let range = match number("ONIONSKIN_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ONIONSKIN_SEEDS").unwrap_or(default),
    };
    for seed in range {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(seed)));
        if let Err(panic) = result {
            eprintln!(
                "repeat with: ONIONSKIN_SEED={seed} cargo test -p onionskin-engine --test \
                 simulation {test}"
            );
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn a_snapshot_is_what_the_frozen_memory_held() {
    let tally = Tally::default();
    seeds("a_snapshot_is", 2000, |seed| {
        let mut sim = Sim::new(seed, Plan::write_protect());
        for _ in 0..5 {
            tally.add(sim.any_snapshot(Trouble::None));
        }
    });
    let Tally(precopy, fork, freeze, none) = tally;
    if std::env::var_os("ONIONSKIN_SEED").is_some() {
        return;
    }
    let few = (precopy.get() + fork.get() + freeze.get()) / 20;
    assert!(none.get() < few, "hardly any fails");
    for cell in [precopy, fork, freeze] {
        assert!(cell.get() >= few, "every strategy is used");
    }
}

#[test]
fn nothing_is_lost_after_failures() {
    seeds("nothing_is_lost", 2000, |seed| {
        let mut sim = Sim::new(seed, Plan::write_protect());
        for _ in 0..6 {
            sim.any_snapshot(Trouble::Any);
        }
        sim.any_snapshot(Trouble::None);
    });
}

#[test]
fn soft_dirty_bits_do_as_well() {
    seeds("soft_dirty", 1500, |seed| {
        let mut sim = Sim::new(seed, Plan::soft_dirty());
        for _ in 0..5 {
            sim.any_snapshot(Trouble::Any);
        }
        sim.any_snapshot(Trouble::None);
    });
}

#[test]
fn without_tracking_everything_is_copied() {
    seeds("without_tracking", 500, |seed| {
        let mut sim = Sim::new(seed, Plan::untracked());
        for _ in 0..4 {
            sim.any_snapshot(Trouble::Any);
        }
        sim.any_snapshot(Trouble::None);
    });
}

#[test]
#[cfg(feature = "drive")]
fn threads_change_nothing() {
    seeds("threads_change", 150, |seed| {
        let mut sim = Sim::new(seed, Plan::write_protect());
        sim.threads = 2;
        for _ in 0..4 {
            sim.any_snapshot(Trouble::Any);
        }
        sim.any_snapshot(Trouble::None);
    });
}

#[test]
fn a_quiet_target_is_read_once() {
    for plan in [Plan::quiet(), Plan::quiet_soft_dirty()] {
        for strategy in [
            Strategy::Auto,
            Strategy::Precopy,
            Strategy::Fork,
            Strategy::Freeze,
        ] {
            let mut sim = Sim::new(7, plan);
            let first = sim.attached(strategy);
            assert!(first.bytes_read.0 > 0, "{strategy:?} {plan:?}");
            let second = sim.attached(strategy);
            assert_eq!(second.bytes_read.0, 0, "{strategy:?} {plan:?}");
            assert_eq!(second.pages_total, first.pages_total);
            sim.write_pages(3);
            let third = sim.attached(strategy);
            assert_eq!(third.bytes_read.0, 3 * world::PAGE, "{strategy:?} {plan:?}");
            let fourth = sim.attached(strategy);
            assert_eq!(fourth.bytes_read.0, 0, "{strategy:?} {plan:?}");
        }
    }
}

#[test]
fn what_the_child_lacks_is_copied_from_the_target() {
    let cases = [
        (MappingFlags::DONT_FORK, 1),
        (MappingFlags::WIPE_ON_FORK, 2),
    ];
    for (flag, attempts) in cases {
        let mut sim = Sim::new(7, Plan::quiet());
        sim.advise_secretly(flag);
        let taken = sim.attached(Strategy::Fork);
        assert_eq!(taken.strategy, Strategy::Fork);
        assert_eq!(taken.attempts, attempts, "{flag:?}");
    }
}

#[test]
fn a_promise_is_kept_or_there_is_no_snapshot() {
    let tally = Tally::default();
    seeds("a_promise", 500, |seed| {
        let mut sim = Sim::new(seed, Plan::write_protect());
        sim.promise = Some(Duration::from_micros(300 + 50 * (seed % 8)));
        for _ in 0..4 {
            tally.add(sim.any_snapshot(Trouble::None));
        }
    });
    let Tally(precopy, fork, freeze, none) = tally;
    println!("{precopy:?} {fork:?} {freeze:?} {none:?}");
    if std::env::var_os("ONIONSKIN_SEED").is_none() {
        assert!(none.get() > 0, "some are given up");
        assert!(precopy.get() > 0 && fork.get() > 0 && freeze.get() > 0);
    }
}

#[test]
fn what_a_failed_snapshot_read_is_read_again_before_the_freeze() {
    let mut sim = Sim::new(11, Plan::quiet());
    sim.full(Strategy::Precopy);
    let taken = sim.attached(Strategy::Precopy);
    assert_eq!(taken.pages_copied_frozen.0, 0);
    assert!(taken.bytes_read.0 > 0);
    sim.write_pages(2);
    sim.full(Strategy::Freeze);
    let taken = sim.attached(Strategy::Precopy);
    assert_eq!(taken.pages_copied_frozen.0, 0);
    assert_eq!(taken.bytes_read.0, 2 * world::PAGE);
}

#[test]
fn what_a_failed_freeze_did_not_look_at_is_not_lost() {
    // On either kind of kernel: where scans report what is not there, the freeze asks for changes.
    for seed in [10, 11] {
        for plan in [Plan::quiet(), Plan::quiet_soft_dirty()] {
            let mut sim = Sim::new(seed, plan);
            let first = sim.attached(Strategy::Freeze);
            sim.full_unselected();
            let second = sim.attached(Strategy::Freeze);
            assert_eq!(second.pages_total, first.pages_total, "{seed} {plan:?}");
        }
    }
}

#[test]
fn page_tables_that_were_elsewhere_while_they_were_read_are_read_again() {
    let mut sim = Sim::new(7, Plan::quiet_soft_dirty());
    sim.invite_guests();
    // Each snapshot is held against what the frozen memory was.
    for _ in 0..2 {
        sim.attached(Strategy::Precopy);
    }
}

#[test]
fn memory_that_lost_its_registration_is_tracked_again() {
    for strategy in [Strategy::Precopy, Strategy::Fork, Strategy::Freeze] {
        let mut sim = Sim::new(9, Plan::quiet());
        sim.attached(strategy);
        sim.replace_all();
        assert!(sim.attached(strategy).bytes_read.0 > 0, "{strategy:?}");
        // It was found in the freeze or before it: in two snapshots at most all is as it was.
        sim.attached(strategy);
        assert_eq!(sim.attached(strategy).bytes_read.0, 0, "{strategy:?}");
    }
}

#[test]
fn a_task_that_does_not_stop_meets_the_limit() {
    let mut sim = Sim::new(5, Plan::quiet());
    let error = sim.stuck(0, Stuck::Stopping);
    assert!(
        matches!(error, SnapshotError::StopTimeout { .. }),
        "{error}"
    );
}

#[test]
#[cfg(feature = "drive")]
fn a_read_that_never_returns_holds_up_nobody() {
    let mut sim = Sim::new(5, Plan::quiet());
    let error = sim.stuck(2, Stuck::Reading);
    assert!(
        matches!(error, SnapshotError::StepTimeout { .. }),
        "{error}"
    );
}

#[test]
fn a_sink_that_takes_too_long_does_not_hold_up_the_target() {
    let (storing, comparing) = ("storing what was copied", "comparing every page");
    for (strategy, verify, late) in [
        (Strategy::Freeze, Verify::No, storing),
        (Strategy::Freeze, Verify::Yes, storing),
        (Strategy::Precopy, Verify::Yes, comparing),
    ] {
        let mut sim = Sim::new(5, Plan::quiet());
        sim.fill();
        let error = sim.slow_sink(strategy, verify);
        let SnapshotError::StepTimeout { step, .. } = error else {
            panic!("{strategy:?}, {verify:?}: {error}");
        };
        assert_eq!(step, late);
        // It ran meanwhile, so that what was armed counts for nothing.
        assert_eq!(sim.attached(strategy).bytes_read, world::ALL);
    }
}

#[test]
fn a_panic_in_the_freeze_resumes_the_target() {
    Sim::new(5, Plan::quiet()).panics_frozen();
}

#[test]
fn verification_finds_what_the_sink_lost() {
    let mut sim = Sim::new(3, Plan::quiet());
    sim.verify = Some(Verify::Yes);
    sim.forgetful_sink = true;
    let taken = sim.attached_unchecked(Strategy::Freeze);
    let verified = taken.verified.expect("asked for");
    assert!(!verified.differences.is_empty());
}

#[test]
fn a_snapshot_that_is_wanted_no_more_stops_nobody() {
    for last in [
        Event::RoundStarted { number: 1 },
        Event::RoundStarted { number: 2 },
    ] {
        let mut sim = Sim::new(5, Plan::write_protect());
        sim.wanted_until = Some(last.clone());
        let options = Options {
            strategy: Strategy::Precopy,
            threads: 0,
            ..Options::default()
        };
        match sim.with(&options) {
            Err(SnapshotError::Unwanted) => assert_eq!(sim.fake.stops, 0),
            // There was no second round.
            other => assert!(last != Event::RoundStarted { number: 1 }, "{other:?}"),
        }
        sim.wanted_until = None;
        sim.with(&options).unwrap();
    }
}

#[test]
fn files_that_may_not_be_looked_at_are_in_doubt() {
    // The worlds differ in what they map.
    let in_doubt = (0..20).filter(|&seed| {
        let mut sim = Sim::new(seed, Plan::write_protect());
        assert_eq!(sim.attached_unchecked(Strategy::Freeze).doubts, []);
        sim.fake.denied = true;
        let taken = sim.attached_unchecked(Strategy::Freeze);
        let parts: RangeSet = taken.parts.iter().map(|part| part.range).collect();
        let mut ranges = taken.doubts.iter().flat_map(|doubt| &doubt.ranges);
        assert!(
            ranges.all(|range| parts.intersection(&[*range].into_iter().collect()).len().0 > 0)
        );
        !taken.doubts.is_empty()
    });
    assert!(in_doubt.count() > 0);
}

/// The harness itself has to find a kernel that loses writes.
#[test]
fn sabotage_is_noticed() {
    for sabotage in [
        Sabotage::HidesWrites,
        Sabotage::ArmsUnreported,
        Sabotage::KeepsTracked,
    ] {
        let noticed = (0..300).any(|seed| {
            let hook = std::panic::take_hook();
            std::panic::set_hook(Box::new(|_| {}));
            let result = std::panic::catch_unwind(|| {
                let mut sim = Sim::new(seed, Plan::write_protect());
                sim.sabotage(sabotage);
                for _ in 0..5 {
                    sim.any_snapshot(Trouble::None);
                }
            });
            std::panic::set_hook(hook);
            result.is_err()
        });
        assert!(noticed, "{sabotage:?}");
    }
}

#[test]
fn a_watcher_sees_what_was_written() {
    seeds("a_watcher", 500, |seed| {
        for plan in [Plan::write_protect(), Plan::soft_dirty()] {
            run::watch(seed, plan);
        }
    });
}

#[test]
fn a_look_that_is_late_is_told() {
    seeds("a_look_that_is_late", 50, run::watch_a_look_that_is_late);
}
