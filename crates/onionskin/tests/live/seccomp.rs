//! Processes under seccomp: what their filters forbid is never injected.

use onionskin::report;
use onionskin::{Session, SessionOptions, Strategy, Tracking};

use crate::common::{Ended, STRATEGIES, Target, Tool, chain, number, skip_part};

/// Takes snapshots of a filtered process; `auto` must find a way that works.
fn under(mode: &str, call: Option<i32>, may_inject: bool) {
    let number_of_call = call.map(|call| call.to_string());
    let mut args = vec!["--mode", mode];
    args.extend(
        number_of_call
            .as_ref()
            .map(|call| ["--call", call])
            .into_iter()
            .flatten(),
    );
    let mut target = Target::start("seccomp", &args);
    if let Some(reason) = target.skipped() {
        skip_part(mode, reason);
        return;
    }
    for _ in 0..3 {
        let taken = Tool::attach(target.pid()).and_then(|mut tool| tool.take(Strategy::Auto));
        let (report, _) = taken.unwrap_or_else(|error| panic!("{mode}: {}", chain(&error)));
        assert!(report.pages_total > 0);
        if !may_inject && report.strategy != report::Strategy::Freeze {
            assert!(
                tracked_from_outside(&target, report.strategy),
                "{mode} forbids injection, and yet: {:?}",
                report.strategy
            );
        }
    }
    // Asked for by name, each works or says why not.
    for strategy in STRATEGIES {
        let mut lacks_way = false;
        let taken = Tool::attach(target.pid()).and_then(|mut tool| {
            lacks_way = strategy == Strategy::Precopy && tool.kernel_tracks_nothing();
            tool.take(strategy)
        });
        match taken {
            Err(error) if lacks_way => {
                skip_part(&format!("{mode} {}", strategy.name()), &chain(&error));
            }
            Ok((report, _)) => assert!(report.pages_total > 0),
            Err(error) => {
                println!("{mode}, {strategy:?}: {}", chain(&error));
                assert!(
                    !may_inject && strategy != Strategy::Freeze,
                    "{}",
                    chain(&error)
                );
            }
        }
        let now = target.ask("report");
        assert_eq!(
            number(&now, "sigsys"),
            0,
            "{mode}, {strategy:?}: a signal was sent"
        );
    }
    target.must_advance("rounds");
    assert_eq!(target.finish(), Ended::Exit(0), "{mode}");
}

/// Tells whether a strategy is one that soft-dirty bits make possible here: they are read and
/// cleared from outside, and nothing is injected.
fn tracked_from_outside(target: &Target, strategy: report::Strategy) -> bool {
    let options = SessionOptions {
        tracking: Tracking::SoftDirty,
        ..Default::default()
    };
    strategy == report::Strategy::Precopy
        && Session::attach(target.pid(), options).is_ok_and(|session| session.untracked().is_none())
}

/// The number of `userfaultfd`, the call that most profiles forbid.
const USERFAULTFD: Option<i32> = None;

#[test]
fn allowed_calls_are_injected() {
    under("none", USERFAULTFD, true);
    under("log", USERFAULTFD, true);
}

#[test]
fn an_error_is_got_round() {
    under("errno", USERFAULTFD, true);
}

#[test]
fn a_filter_of_one_thread_is_no_hindrance() {
    under("one-thread", USERFAULTFD, true);
}

#[test]
fn what_kills_is_not_injected() {
    // Tracking needs userfaultfd; the duplicate does not.
    for mode in ["kill", "kill-thread", "trap", "notify", "trace"] {
        under_partly(mode);
    }
}

/// A filter against one of our calls: tracking is out of the question, a duplicate may be made.
fn under_partly(mode: &str) {
    let mut target = Target::start("seccomp", &["--mode", mode]);
    if let Some(reason) = target.skipped() {
        skip_part(mode, reason);
        return;
    }
    for strategy in [
        Strategy::Auto,
        Strategy::Fork,
        Strategy::Freeze,
        Strategy::Precopy,
    ] {
        match Tool::attach(target.pid()).and_then(|mut tool| tool.take(strategy)) {
            Ok((report, _)) => {
                assert!(
                    report.strategy != report::Strategy::Precopy
                        || tracked_from_outside(&target, report.strategy),
                    "{mode} forbids tracking"
                );
                assert!(report.pages_total > 0);
            }
            Err(error) => {
                println!("{mode}, {strategy:?}: {}", chain(&error));
                assert!(
                    matches!(strategy, Strategy::Precopy | Strategy::Fork),
                    "{mode}, {strategy:?}: {}",
                    chain(&error)
                );
            }
        }
        assert_eq!(
            number(&target.ask("report"), "sigsys"),
            0,
            "{mode}, {strategy:?}"
        );
    }
    assert_eq!(target.finish(), Ended::Exit(0), "{mode}");
}

#[test]
fn a_strict_list_leaves_only_the_freeze() {
    under("allowlist", USERFAULTFD, false);
}

#[test]
fn strict_mode_leaves_only_the_freeze() {
    under("strict", USERFAULTFD, false);
}
