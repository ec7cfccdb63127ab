//! A promised freeze: kept, or there is no snapshot and a reason.

use std::time::Duration;

use onionskin::report::SnapshotReport;
use onionskin::{Event, Observer, SnapshotOptions, Strategy};

use crate::common::{Ended, Target, Tool, ask, chain, is_slow, number};

/// Takes note of what happened.
#[derive(Default)]
struct Notes {
    freezes: u32,
    retries: Vec<String>,
}

impl Observer for Notes {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Freezing => self.freezes += 1,
            Event::Retrying { reason } => self.retries.push(reason.clone()),
            _ => {}
        }
    }
}

/// A process that writes all of its memory, again and again: enough for a copy to take a while. A
/// machine with one slow processor would have none of it left for what gives way to the process.
fn busy() -> Target {
    let slow = ["--mib", "6", "--threads", "1", "--period-us", "20000"];
    let size = if is_slow() {
        &slow[..]
    } else {
        &["--mib", "48"]
    };
    let writes = ["--hot-percent", "100", "--writes", "1000"];
    Target::start("heartbeat", &[size, &writes].concat())
}

/// What must hold of every freeze, however fast the machine is.
fn agrees(report: &SnapshotReport) {
    let parts = report.freeze;
    // Registers are read beside the copying.
    let sum = parts.stop + parts.scan + parts.copy;
    assert!(sum <= report.freeze_ms + 1e-6, "{report:?}");
    assert!(parts.registers <= report.freeze_ms, "{report:?}");
}

#[test]
fn a_promise_is_kept_or_there_is_no_snapshot() {
    let mut target = busy();
    let mut tool = Tool::on(&target);
    let (mut kept, mut failed) = (0, 0);
    let limits = [50, 500, 3000, 20_000, 60_000_000].map(Duration::from_micros);
    let all = [
        Strategy::Auto,
        Strategy::Precopy,
        Strategy::Fork,
        Strategy::Freeze,
    ];
    for strategy in all {
        if strategy == Strategy::Precopy && !tool.can(strategy) {
            continue;
        }
        for limit in limits {
            let options = SnapshotOptions {
                max_freeze: Some(limit),
                ..ask(strategy)
            };
            let (mut notes, before) = (Notes::default(), tool.stored());
            match tool.take_observed(&options, &mut notes) {
                Ok((report, _)) => {
                    kept += 1;
                    let most = limit.as_secs_f64() * 1e3;
                    assert!(report.freeze_ms <= most, "{strategy:?}: {report:?}");
                    agrees(&report);
                    assert_eq!(tool.stored(), before + 1);
                }
                Err(error) => {
                    failed += 1;
                    let said = chain(&error);
                    assert!(said.contains("at most was not possible"), "{said}");
                    assert!(error.may_pass(), "{said}");
                    assert_eq!(notes.retries.len(), 1, "it is tried twice: {said}");
                    assert_eq!(tool.stored(), before, "{said}");
                }
            }
            assert!(notes.freezes <= 2, "{strategy:?}, {limit:?}");
            target.must_advance("beats");
        }
    }
    // Nothing is so fast, and nothing takes a minute.
    println!("{kept} kept, {failed} failed");
    assert!(failed >= 3 && kept >= 3, "{kept} kept, {failed} failed");
    assert_eq!(target.finish(), Ended::Exit(0));
}

#[test]
fn what_can_only_fail_stops_nobody() {
    let target = busy();
    let mut tool = Tool::on(&target);
    let options = SnapshotOptions {
        max_freeze: Some(Duration::from_nanos(1)),
        ..ask(Strategy::Fork)
    };
    let mut notes = Notes::default();
    let error = tool
        .take_observed(&options, &mut notes)
        .expect_err("no fork is so fast");
    let said = chain(&error);
    assert!(
        said.contains("forking the target is forecast to come to"),
        "{said}"
    );
    assert_eq!((notes.freezes, notes.retries.len()), (0, 1), "{said}");
    assert_eq!(target.finish(), Ended::Exit(0));
}

#[test]
fn the_parts_of_a_freeze_are_no_more_than_the_whole() {
    let mut target = busy();
    let mut tool = Tool::on(&target);
    target.ask("reset");
    for strategy in [Strategy::Auto, Strategy::Fork, Strategy::Freeze] {
        let (report, _) = tool.must(&ask(strategy));
        agrees(&report);
        // For people: what the threads saw of it.
        let gap = number(&target.ask("report"), "largest_gap_ns");
        println!("{strategy:?}: {} ms, gap {gap} ns", report.freeze_ms);
        target.ask("reset");
    }
    assert_eq!(target.finish(), Ended::Exit(0));
}
