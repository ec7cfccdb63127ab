//! Writes that page tables don't show: the snapshot holds what a frozen reader would have seen.

use onionskin::{SnapshotOptions, Strategy};

use crate::common::{Ended, STRATEGIES, Target, Tool, ask, compare_areas, pages_of};

fn compare_all(told: &serde_json::Value, snapshot: &onionskin::Snapshot, what: &str) {
    let pages = pages_of(snapshot);
    for (name, area) in told["areas"].as_object().unwrap() {
        compare_areas(name, area, &pages).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

fn by(strategy: Strategy) {
    let mut target = Target::start("hidden", &[]);
    let mut tool = Tool::on(&target);
    if !tool.can_test(strategy) {
        return;
    }
    let options = SnapshotOptions {
        verify: true,
        ..ask(strategy)
    };
    let (report, first) = tool.must(&options);
    println!("{:?}", report.consistency);
    compare_all(&target.ready, &first, "at first");
    let names: Vec<String> = target.ready["areas"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    for (value, name) in (50..).zip(&names) {
        let told = target.ask(&format!("{name} {value}"));
        let (report, snapshot) = tool.must(&options);
        compare_all(&told, &snapshot, &format!("after {name}"));
        let differing = report.verify.as_ref().map(|verify| verify.differing_pages);
        assert_eq!(differing, Some(0), "{name}: {report:?}");
    }
    for value in [100, 150] {
        let told = target.ask(&format!("all {value}"));
        let (_, snapshot) = tool.must(&options);
        compare_all(&told, &snapshot, "after all");
    }
    // An earlier layer still shows its own instant.
    compare_all(&target.ready, &first, "at first, read late");
    assert_eq!(target.finish(), Ended::Exit(0));
}

#[test]
fn precopy_sees_hidden_writes() {
    by(Strategy::Precopy);
}

#[test]
fn fork_sees_hidden_writes() {
    by(Strategy::Fork);
}

#[test]
fn freeze_sees_hidden_writes() {
    by(Strategy::Freeze);
}

#[test]
fn strategies_may_alternate() {
    let mut target = Target::start("hidden", &[]);
    let mut tool = Tool::on(&target);
    for (round, strategy) in (0..9).zip(STRATEGIES.iter().cycle()) {
        if tool.can(*strategy) {
            let told = target.ask(&format!("all {}", 10 * round));
            let (_, snapshot) = tool.must(&ask(*strategy));
            compare_all(&told, &snapshot, &format!("round {round}, {strategy:?}"));
        }
    }
    assert_eq!(target.finish(), Ended::Exit(0));
}
