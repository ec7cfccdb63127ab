//! One instant: programs that check themselves are snapshotted under load, and the sum holds in
//! every snapshot.

use std::time::Duration;

use onionskin::{SnapshotOptions, Strategy};

use crate::common::{
    Ended, STRATEGIES, Target, Tool, ask, audit_bank, audit_slots, compare_areas, hugetlb_mib,
    is_slow, number, pages_of, rounds, rounds_min, skip, skip_part,
};

/// Snapshots of a bank by each strategy, and the time after which no more are begun: far more than a quiet
/// machine takes.
const COUNT: u32 = 200;
const BANK_TIME: Duration = Duration::from_secs(240);
/// What a run on a machine under load must reach for all that.
const COUNT_MIN: u32 = 100;
/// The time for mappings that change places.
const TIME: Duration = Duration::from_secs(30);

/// Transfers a second of each of a bank's threads: as many as leave some processor to us.
fn rate() -> &'static str {
    if is_slow() { "4000" } else { "40000" }
}

/// Takes snapshots of a working bank, each a layer on the one before, and audits all of them.
fn bank(strategy: Strategy, attach: impl FnOnce(&Target) -> Option<Tool>) {
    let mut args = vec!["--mib", "4", "--threads", "4", "--rate", rate()];
    if hugetlb_mib(64) {
        args.push("--hugetlb");
    } else {
        skip_part("hugetlb", "there are no huge pages to be had");
    }
    let target = Target::start("bank", &args);
    let Some(mut tool) = attach(&target) else {
        return;
    };
    let mut taken = 0;
    let mut transfers = 0;
    for round in rounds(COUNT, BANK_TIME) {
        let options = SnapshotOptions {
            verify: round % 4 == 0,
            ..ask(strategy)
        };
        let (report, snapshot) = tool.must(&options);
        let now = audit_bank(&target.ready, &pages_of(&snapshot))
            .unwrap_or_else(|error| panic!("snapshot {round} of {strategy:?}: {error}"));
        assert!(
            now > transfers,
            "snapshot {round} shows nothing newer than the one before"
        );
        transfers = now;
        if let Some(verify) = report.verify {
            assert_eq!(
                verify.differing_pages, 0,
                "snapshot {round} of {strategy:?}"
            );
            assert!(verify.pages > 0);
        }
        taken += 1;
    }
    println!("{strategy:?}: {taken} snapshots");
    assert!(
        taken >= rounds_min(COUNT_MIN),
        "only {taken} snapshots were taken"
    );
    assert_eq!(target.finish(), Ended::Exit(0), "the bank's own audit");
}

fn bank_by(strategy: Strategy) {
    bank(strategy, |target| {
        let tool = Tool::on(target);
        tool.can_test(strategy).then_some(tool)
    });
}

#[test]
fn soft_dirty_bits_show_one_instant() {
    bank(Strategy::Precopy, |target| {
        Tool::by_soft_dirty(target).map_err(|why| skip(&why)).ok()
    });
}

#[test]
fn precopy_shows_one_instant() {
    bank_by(Strategy::Precopy);
}

#[test]
fn fork_shows_one_instant() {
    bank_by(Strategy::Fork);
}

#[test]
fn freeze_shows_one_instant() {
    bank_by(Strategy::Freeze);
}

#[test]
fn mappings_that_come_and_go_show_one_instant() {
    let target = Target::start("storm", &["--mode", "map", "--threads", "2"]);
    for strategy in STRATEGIES {
        let mut tool = Tool::on(&target);
        if !tool.can(strategy) {
            continue;
        }
        let mut good = 0;
        for round in rounds(25, Duration::from_secs(6)) {
            let (_, snapshot) = tool.must(&ask(strategy));
            good += audit_slots(&target.ready, &pages_of(&snapshot))
                .unwrap_or_else(|error| panic!("snapshot {round} of {strategy:?}: {error}"));
        }
        assert!(good > 100, "only {good} pages could be checked");
    }
    assert_eq!(target.finish(), Ended::Exit(0), "the storm's own checks");
}

#[test]
fn mappings_that_grow_together_are_still_seen() {
    for strategy in STRATEGIES {
        let mut target = Target::start("moves", &[]);
        let mut tool = Tool::on(&target);
        if !tool.can(strategy) {
            continue;
        }
        // A page that is written before anybody looks keeps its bit and becomes writable.
        for commands in [
            &["far"][..],
            &["near", "write 6"],
            &["write 7"],
            &["write 8"],
        ] {
            let value = commands
                .iter()
                .map(|command| number(&target.ask(command), "value"))
                .last()
                .unwrap();
            // Twice: what is found to be new is tracked from the second on.
            for _ in 0..2 {
                let (_, snapshot) = tool.must(&ask(strategy));
                let found = pages_of(&snapshot).word(target.number("moved"));
                assert_eq!(found, Ok(value), "{strategy:?}, after {commands:?}");
            }
        }
        assert_eq!(target.finish(), Ended::Exit(0));
    }
}

/// Takes snapshots of memory whose mappings change places, and compares what they hold.
fn layout(strategy: Strategy, target: &mut Target, mut tool: Tool) {
    for round in rounds(60, TIME) {
        let areas = target.ask("step 5");
        let (_, snapshot) = tool.must(&ask(strategy));
        for area in areas["areas"].as_array().unwrap() {
            compare_areas("a slot", area, &pages_of(&snapshot)).unwrap_or_else(|error| {
                panic!("snapshot {round} by {strategy:?}: {error}: {area}")
            });
        }
    }
}

#[test]
fn mappings_that_change_places_are_seen() {
    let mut target = Target::start("layout", &[]);
    for strategy in STRATEGIES {
        let tool = Tool::on(&target);
        if tool.can(strategy) {
            layout(strategy, &mut target, tool);
        }
    }
    match Tool::by_soft_dirty(&target) {
        Ok(tool) => layout(Strategy::Precopy, &mut target, tool),
        Err(why) => skip_part("soft-dirty", &why),
    }
    assert_eq!(target.finish(), Ended::Exit(0));
}

#[test]
fn a_fresh_session_each_time_shows_one_instant() {
    let target = Target::start("bank", &["--mib", "2", "--threads", "3", "--rate", rate()]);
    for strategy in STRATEGIES {
        for _ in rounds(10, Duration::from_secs(4)) {
            let mut tool = Tool::on(&target);
            if !tool.can(strategy) {
                break;
            }
            let options = SnapshotOptions {
                strategy,
                verify: true,
                ..Default::default()
            };
            let (report, snapshot) = tool.must(&options);
            audit_bank(&target.ready, &pages_of(&snapshot)).unwrap();
            assert_eq!(report.verify.map(|verify| verify.differing_pages), Some(0));
        }
    }
    assert_eq!(target.finish(), Ended::Exit(0));
}
