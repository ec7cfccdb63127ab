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
        under_partly(&["--mode", mode], Strategy::Precopy, "userfaultfd");
    }
}

/// Numbers of calls of which an argument is known only when they are made.
const CLOSE: &str = if cfg!(target_arch = "aarch64") {
    "57"
} else {
    "3"
};
const WAIT4: &str = if cfg!(target_arch = "aarch64") {
    "260"
} else {
    "61"
};

#[test]
fn what_kills_for_an_argument_is_not_injected() {
    for mode in ["kill", "trap"] {
        let args = |call| ["--mode", mode, "--nonzero", "--call", call];
        // The descriptor that is closed is not 0, nor is the id of the child that is waited for.
        under_partly(&args(CLOSE), Strategy::Precopy, "close");
        under_partly(&args(WAIT4), Strategy::Fork, "wait4");
    }
}

/// Takes snapshots under a filter against one of our calls, which only `forbidden` needs.
fn under_partly(args: &[&str], forbidden: Strategy, call: &str) {
    let mut target = Target::start("seccomp", args);
    if let Some(reason) = target.skipped() {
        skip_part(&args.join(" "), reason);
        return;
    }
    // Others may not read the filters.
    let reads_filters = rustix::process::geteuid().is_root();
    for strategy in [
        Strategy::Auto,
        Strategy::Fork,
        Strategy::Freeze,
        Strategy::Precopy,
    ] {
        let what = format!("{args:?}, {strategy:?}");
        let mut tracked = true;
        let taken = Tool::attach(target.pid()).and_then(|mut tool| {
            tracked = tool.tracks();
            tool.take(strategy)
        });
        match taken {
            Ok((report, _)) => {
                let ways = match forbidden {
                    Strategy::Precopy => [report::Strategy::Fork, report::Strategy::Freeze],
                    _ => [report::Strategy::Precopy, report::Strategy::Freeze],
                };
                assert!(
                    ways.contains(&report.strategy)
                        || tracked_from_outside(&target, report.strategy),
                    "{what}: by {:?}",
                    report.strategy
                );
                assert!(report.pages_total > 0);
            }
            Err(error) => {
                let said = chain(&error);
                println!("{what}: {said}");
                let lacks_way = strategy == Strategy::Precopy && !tracked;
                assert!(
                    strategy == forbidden || lacks_way || !reads_filters,
                    "{what}: {said}"
                );
                assert!(
                    !matches!(strategy, Strategy::Auto | Strategy::Freeze),
                    "{what}: {said}"
                );
                if strategy == Strategy::Fork && reads_filters {
                    assert!(said.contains(call), "{said}");
                }
            }
        }
        assert_eq!(number(&target.ask("report"), "sigsys"), 0, "{what}");
    }
    told(&target, forbidden, call, reads_filters);
    target.must_advance("rounds");
    assert_eq!(target.finish(), Ended::Exit(0), "{args:?}");
}

/// What `doctor` says must be what happened.
fn told(target: &Target, forbidden: Strategy, call: &str, reads_filters: bool) {
    let rows = sys::doctor::probe(Some(target.pid())).process;
    let rows = rows.expect("a process was asked about");
    for (name, hinders) in [
        ("seccomp_track", forbidden == Strategy::Precopy),
        ("seccomp_fork", forbidden == Strategy::Fork),
    ] {
        let row = rows.iter().find(|row| row.name == name);
        let finding = &row.expect("it has filters").finding;
        let works = finding.status == sys::doctor::Status::Works;
        assert_eq!(works, !hinders && reads_filters, "{name}: {finding:?}");
        if hinders && reads_filters {
            assert!(finding.why.contains(call), "{name}: {finding:?}");
        }
    }
}

#[test]
fn a_strict_list_leaves_only_the_freeze() {
    under("allowlist", USERFAULTFD, false);
}

#[test]
fn strict_mode_leaves_only_the_freeze() {
    under("strict", USERFAULTFD, false);
}
