//! What becomes of a freeze that must not be longer than promised, or than a fork would be.

use std::time::Duration;

use engine::{Costs, Options, SnapshotError, Stay, Strategy, Verify};

use crate::run::{Plan, Sim};
use crate::world::PAGE;

const PROMISE: Duration = Duration::from_millis(2);

fn promised(strategy: Strategy) -> Options {
    Options {
        strategy,
        max_freeze: Some(PROMISE),
        stay: Stay::Attached,
        threads: 0,
        ..Options::default()
    }
}

/// Nothing is promised, and no round goes before the freeze.
fn unpromised() -> Options {
    Options {
        max_freeze: None,
        rounds_max: 0,
        ..promised(Strategy::Auto)
    }
}

/// A process that is quiet, with some batches of memory.
fn filled() -> Sim {
    let mut sim = Sim::new(5, Plan::quiet());
    sim.fill();
    sim
}

fn reason(error: SnapshotError<impl std::fmt::Debug>) -> String {
    match error {
        SnapshotError::MaxFreeze { reason, limit, .. } => {
            assert_eq!(limit, PROMISE);
            reason
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_fork_that_would_be_too_long_stops_nobody() {
    let mut sim = filled();
    sim.costs.fork_page_ns = 1e6;
    let told = reason(sim.with(&promised(Strategy::Fork)).unwrap_err());
    assert!(told.contains("forking the target is forecast"), "{told}");
    assert_eq!(sim.fake.stops, 0);
}

/// How often a snapshot is refused before one is taken.
fn refusals(sim: &mut Sim, options: &Options) -> usize {
    let tries = (0..100).take_while(|_| sim.with(options).is_err());
    tries.count()
}

#[test]
fn no_cost_is_believed_for_ever() {
    type Spoil = fn(&mut Costs);
    let spoils: [Spoil; 6] = [
        |costs| costs.stop *= 1000,
        |costs| costs.resume *= 1000,
        |costs| costs.registers *= 1000,
        |costs| costs.look *= 1000,
        |costs| costs.scan_page_ns *= 1e4,
        |costs| costs.fork_page_ns *= 1e4,
    ];
    for (index, spoil) in spoils.iter().enumerate() {
        let mut sim = filled();
        spoil(&mut sim.costs);
        let refused = refusals(&mut sim, &promised(Strategy::Fork));
        assert!((1..35).contains(&refused), "{index}: {refused}");
        assert_eq!(sim.fake.stops, 1, "{index}: only one that may do is tried");
        assert_eq!(refusals(&mut sim, &promised(Strategy::Fork)), 0);
    }
}

#[test]
fn auto_forks_again_where_forks_were_dear_once() {
    for max_freeze in [Some(PROMISE), None] {
        let mut sim = filled();
        let options = Options {
            max_freeze,
            rounds_max: 0,
            ..promised(Strategy::Auto)
        };
        sim.fake.read_micros = 100;
        sim.costs.fork_page_ns *= 1000.0;
        let forked = (0..100).position(|_| {
            sim.write_pages(160);
            // It is known what copies take.
            sim.costs.copy_byte_ns = 5.0;
            let taken = sim.with(&options);
            taken.is_ok_and(|taken| taken.strategy == Strategy::Fork)
        });
        assert!(forked.is_some_and(|refused| refused > 0), "{forked:?}");
    }
}

#[test]
fn a_copy_that_would_be_too_long_is_tried_once_and_given_up() {
    let mut sim = filled();
    sim.costs.copy_byte_ns = 10.0;
    sim.fake.read_micros = 100;
    let told = reason(sim.with(&promised(Strategy::Freeze)).unwrap_err());
    assert!(told.contains("copying what was written"), "{told}");
    assert_eq!(sim.fake.stops, 1, "the first time the forecast is believed");
    // A forecast that was wrong is found out.
    sim.fake.read_micros = 0;
    let taken = sim.with(&promised(Strategy::Freeze)).unwrap();
    assert!(taken.freeze.total <= PROMISE);
}

#[test]
fn auto_forks_where_only_that_keeps_the_promise() {
    let mut sim = filled();
    let options = Options {
        rounds_max: 0,
        ..promised(Strategy::Auto)
    };
    sim.costs.copy_byte_ns = 10.0;
    let taken = sim.with(&options).unwrap();
    assert_eq!((taken.strategy, taken.attempts), (Strategy::Fork, 1));
}

#[test]
fn where_a_fork_fails_a_copy_is_tried() {
    // In the last attempt, after a copy was given up for it.
    let mut sim = filled();
    sim.fake.unforkable = true;
    sim.fake.read_micros = 200;
    let free = unpromised();
    let taken = sim.with(&free).unwrap();
    assert_eq!((taken.strategy, taken.attempts), (Strategy::Freeze, 2));
    assert!(taken.warnings[0].contains("could not be forked"));
    // And where the forecast says that a copy can't keep the promise, in the attempt after it.
    let mut sim = filled();
    sim.fake.unforkable = true;
    sim.costs.copy_byte_ns = 10.0;
    let options = Options {
        max_freeze: Some(PROMISE),
        ..free
    };
    let taken = sim.with(&options).unwrap();
    assert_eq!((taken.strategy, taken.attempts), (Strategy::Freeze, 2));
    assert!(taken.freeze.total <= PROMISE);
}

#[test]
fn letting_the_tasks_go_is_part_of_the_freeze() {
    for strategy in [Strategy::Auto, Strategy::Precopy, Strategy::Freeze] {
        for verify in [Verify::No, Verify::Yes] {
            let mut sim = filled();
            sim.fake.resume_micros = 5000;
            let options = Options {
                verify,
                ..promised(strategy)
            };
            let told = reason(sim.with(&options).unwrap_err());
            assert!(told.contains("letting the tasks go"), "{told}");
            assert_eq!(sim.fake.stops, 2, "it is tried again once");
            sim.fake.resume_micros = 2;
            let taken = sim.with(&options).unwrap();
            assert_eq!(taken.attempts, 1, "{strategy:?}");
        }
    }
}

#[test]
fn a_copy_that_gets_longer_than_a_fork_is_given_up_for_one() {
    let mut sim = filled();
    sim.fake.read_micros = 1000;
    let options = unpromised();
    let taken = sim.with(&options).unwrap();
    assert_eq!((taken.strategy, taken.attempts), (Strategy::Fork, 2));
    assert!(taken.freeze.total < Duration::from_millis(5));
    assert_eq!(taken.stops[0].why, "an attempt given up");
    // Who asks for a copy gets one, and who has the freeze made longer by a comparison.
    for (strategy, verify) in [
        (Strategy::Freeze, Verify::No),
        (Strategy::Auto, Verify::Yes),
    ] {
        let options = Options {
            strategy,
            verify,
            ..options.clone()
        };
        let mut sim = filled();
        sim.fake.read_micros = 1000;
        let taken = sim.with(&options).unwrap();
        assert_eq!((taken.strategy, taken.attempts), (Strategy::Freeze, 1));
    }
}

#[test]
fn a_copy_that_is_given_up_for_a_fork_costs_no_trust() {
    let mut sim = filled();
    let options = unpromised();
    sim.with(&options).unwrap();
    sim.write_pages(128);
    sim.costs.copy_byte_ns = 0.5;
    // Each batch takes longer than all of a copy may.
    sim.fake.read_micros = 200;
    let taken = sim.with(&options).unwrap();
    assert_eq!((taken.strategy, taken.attempts), (Strategy::Fork, 2));
    assert_eq!(sim.fake.lock().times_overdue, 0, "the engine came first");
    assert_eq!(taken.bytes_read.0, 128 * PAGE, "nothing else is read again");
}

#[test]
fn a_read_that_hangs_holds_a_copy_up_for_little_longer_than_a_fork() {
    let mut sim = filled();
    sim.fake.read_micros = 100_000;
    let options = unpromised();
    let taken = sim.with(&options).unwrap();
    assert_eq!((taken.strategy, taken.attempts), (Strategy::Fork, 2));
    assert_eq!(sim.fake.lock().times_overdue, 1);
    let given_up = taken.stops[0].length;
    assert!(given_up < Duration::from_millis(60), "{given_up:?}");
}

#[test]
fn a_task_that_does_not_stop_in_time_breaks_the_promise() {
    let mut sim = filled();
    sim.fake.unstoppable = true;
    let told = reason(sim.with(&promised(Strategy::Auto)).unwrap_err());
    assert!(told.contains("stopping the tasks"), "{told}");
    sim.fake.unstoppable = false;
    assert!(sim.with(&promised(Strategy::Auto)).is_ok());
}
