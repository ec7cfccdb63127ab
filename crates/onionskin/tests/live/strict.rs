//! What can't be proven: it is written down, and refused where that was asked for, as early as it
//! is known.

use onionskin::report::{Consistency, SnapshotReport};
use onionskin::{Error, Event, Observer, Session, SnapshotOptions, Strategy};

use crate::common::{Ended, STRATEGIES, Target, Tool, ask, chain, skip, skip_part};

/// Counts freezes.
#[derive(Default)]
struct Freezes(u32);

impl Observer for Freezes {
    fn event(&mut self, event: &Event) {
        self.0 += u32::from(*event == Event::Freezing);
    }
}

fn strict(strategy: Strategy) -> SnapshotOptions {
    SnapshotOptions {
        strict: true,
        ..ask(strategy)
    }
}

/// The reasons for which a snapshot is unproven.
fn reasons(report: &SnapshotReport) -> Vec<&str> {
    match &report.consistency {
        Consistency::Proven => Vec::new(),
        Consistency::Unproven { reasons } => {
            reasons.iter().map(|doubt| doubt.reason.as_str()).collect()
        }
    }
}

/// A strict snapshot must be refused before anything stands still.
fn refused(tool: &mut Tool, strategy: Strategy) {
    let (mut freezes, before) = (Freezes::default(), tool.stored());
    let error = tool
        .take_observed(&strict(strategy), &mut freezes)
        .expect_err("it can't be proven");
    assert!(matches!(error, Error::Refused(_)), "{}", chain(&error));
    assert_eq!(freezes.0, 0, "{strategy:?}: {}", chain(&error));
    assert_eq!(tool.stored(), before, "{strategy:?}");
}

#[test]
fn memory_that_devices_write_at_any_time_is_refused_untouched() {
    let mut target = Target::start("doubtful", &["--direct", "--ring"]);
    if let Some(why) = target.skipped() {
        skip(why);
        return;
    }
    for strategy in [
        Strategy::Auto,
        Strategy::Precopy,
        Strategy::Fork,
        Strategy::Freeze,
    ] {
        let foreseen = Session::foresee(target.pid(), &strict(strategy));
        assert!(matches!(foreseen, Err(Error::Refused(_))), "{strategy:?}");
    }
    assert!(Session::foresee(target.pid(), &ask(Strategy::Auto)).is_ok());
    let mut tool = Tool::on(&target);
    for strategy in STRATEGIES {
        if tool.can(strategy) {
            refused(&mut tool, strategy);
        }
    }
    let (report, _) = tool.must(&ask(Strategy::Auto));
    let told = reasons(&report);
    let direct = told.iter().any(|reason| reason.starts_with("direct I/O"));
    assert!(direct, "{report:?}");
    target.must_advance("count");
    assert_eq!(target.finish(), Ended::Exit(0));
}

#[test]
fn what_only_tracking_misses_is_taken_without_it() {
    let target = Target::start("doubtful", &["--direct"]);
    if let Some(why) = target.skipped() {
        skip(why);
        return;
    }
    assert!(Session::foresee(target.pid(), &strict(Strategy::Auto)).is_ok());
    let mut tool = Tool::on(&target);
    if !tool.can_test(Strategy::Precopy) {
        return;
    }
    refused(&mut tool, Strategy::Precopy);
    let (report, _) = tool.must(&strict(Strategy::Auto));
    assert_eq!(reasons(&report), Vec::<&str>::new());
    assert_eq!(report.rounds, 0);
    // A layer rests on tracking.
    refused(&mut tool, Strategy::Auto);
    assert_eq!(target.finish(), Ended::Exit(0));
}

#[test]
fn memory_that_others_write_is_in_doubt_as_long_as_they_do() {
    in_doubt_as_long_as_others_write("--shared", "this shared memory too");
}

#[test]
fn memory_that_others_hold_a_descriptor_of_is_in_doubt_as_long_as_they_do() {
    in_doubt_as_long_as_others_write("--held", "this shared memory by a descriptor");
}

fn in_doubt_as_long_as_others_write(how: &str, reason: &str) {
    let mut target = Target::start("doubtful", &[how]);
    let (start, len) = (target.number("shared"), target.number("len"));
    let mut tool = Tool::on(&target);
    let strategy = Strategy::Freeze;
    refused(&mut tool, strategy);
    let (report, _) = tool.must(&ask(strategy));
    let Consistency::Unproven { reasons: doubts } = &report.consistency else {
        panic!("{report:?}");
    };
    let shared = doubts.iter().find(|doubt| doubt.reason.contains(reason));
    let shared = shared.unwrap_or_else(|| panic!("{doubts:?}"));
    let ranges: Vec<(u64, u64)> = shared
        .ranges
        .iter()
        .map(|range| (range.start().0, range.len().0))
        .collect();
    assert_eq!(ranges, [(start, len)]);
    target.ask("alone");
    let (report, _) = tool.must(&ask(strategy));
    let told = reasons(&report);
    let (stranger, other): (Vec<&str>, Vec<&str>) = told
        .into_iter()
        .partition(|reason| reason.contains("may be able to write to this shared memory"));
    assert_eq!(other, Vec::<&str>::new());
    match stranger.first() {
        None => drop(tool.must(&strict(strategy))),
        // Not even root may look at some, in a container.
        Some(reason) => skip_part("strangers", reason),
    }
    assert_eq!(target.finish(), Ended::Exit(0));
}

#[test]
fn what_soft_dirty_bits_can_miss_is_in_doubt() {
    // Nothing of it is written, so that it is kept: a huge page is written as a whole.
    let quiet = ["--mib", "80", "--period-us", "1000", "--hot-percent", "0"];
    let target = Target::start("heartbeat", &quiet);
    let mut tool = match Tool::by_soft_dirty(&target) {
        Ok(tool) => tool,
        Err(why) => return skip(&why),
    };
    let (report, _) = tool.must(&ask(Strategy::Precopy));
    assert!(
        reasons(&report)
            .iter()
            .any(|reason| reason.contains("mremap")),
        "{report:?}"
    );
    drop(tool);
    let mut tool = Tool::by_soft_dirty(&target).expect("it could be just now");
    for _ in 0..2 {
        let (report, _) = tool.must(&strict(Strategy::Auto));
        assert_eq!((report.rounds, reasons(&report)), (0, Vec::new()));
    }
    assert_eq!(target.finish(), Ended::Exit(0));
}
