//! Watching a process: what it is told to have stood still for, and the freeze that is forecast.

use std::time::Duration;

use onionskin::report::{self, TrackingMode, WatchInterval};
use onionskin::{Error, Session, SessionOptions, Strategy, Watch};

use crate::common::{Ended, Target, Tool, ask, chain, skip, skip_part};

/// Begins to watch; where this kernel tracks no writes, that is said clearly, and the test is skipped.
fn attach(target: &Target) -> Option<Watch> {
    match Watch::attach(target.pid()) {
        Ok(watch) => Some(watch),
        Err(error) => {
            let said = chain(&error);
            let session = Session::attach(target.pid(), SessionOptions::default()).unwrap();
            assert!(session.untracked().is_some(), "{said}");
            assert!(matches!(error, Error::Track { .. }), "{said}");
            skip(&said);
            None
        }
    }
}

fn intervals(watch: &mut Watch, count: usize, each: Duration) -> Vec<WatchInterval> {
    let mut seen = Vec::new();
    for _ in 0..count {
        std::thread::sleep(each);
        seen.push(
            watch
                .interval()
                .unwrap_or_else(|error| panic!("{}", chain(&error))),
        );
    }
    seen
}

#[test]
fn stops_to_register_new_mappings_are_told() {
    let mut target = Target::start("storm", &["--mode", "map", "--threads", "2"]);
    let Some(mut watch) = attach(&target) else {
        return;
    };
    let first = watch.interval().unwrap();
    assert!(first.stopped_ms > 0.0, "attaching took a stop: {first:?}");
    let seen = intervals(&mut watch, 10, Duration::from_millis(50));
    let stopped: Vec<f64> = seen.iter().map(|interval| interval.stopped_ms).collect();
    println!("stopped for {stopped:?} ms");
    assert!(
        stopped.iter().any(|&ms| ms > 0.0),
        "new mappings came: {stopped:?}"
    );
    target.must_advance("operations");
    assert_eq!(target.finish(), Ended::Exit(0));
}

#[test]
fn a_process_without_new_mappings_is_not_stopped() {
    let target = Target::start("heartbeat", &["--mib", "16"]);
    let Some(mut watch) = attach(&target) else {
        return;
    };
    let first = watch.interval().unwrap();
    for interval in intervals(&mut watch, 5, Duration::from_millis(50)) {
        match first.tracking {
            TrackingMode::WriteProtect => assert!(interval.stopped_ms == 0.0, "{interval:?}"),
            TrackingMode::SoftDirty => assert!(interval.stopped_ms > 0.0, "{interval:?}"),
        }
    }
    assert_eq!(target.finish(), Ended::Exit(0));
}

/// The shortest of a few freezes that copy all of a process's memory, in milliseconds.
fn freeze(target: &Target) -> f64 {
    let freezes = (0..3).map(|_| {
        // A second one of the same session copies only what was written.
        let mut tool = Tool::on(target);
        tool.must(&ask(Strategy::Freeze)).0.freeze_ms
    });
    freezes.fold(f64::INFINITY, f64::min)
}

/// How many times a forecast may be off, either way: this is a busy machine, and a virtual one.
const FACTOR: f64 = 5.0;

fn forecast_is_near(program: &str, args: &[&str]) {
    let target = Target::start(program, args);
    let Some(mut watch) = attach(&target) else {
        return;
    };
    watch.interval().unwrap();
    let seen = intervals(&mut watch, 4, Duration::from_millis(100));
    drop(watch);
    let told = seen.last().unwrap().forecast.freeze_ms;
    let forecast = told.freeze.expect("it can always be frozen");
    let measured = freeze(&target);
    println!("{args:?}: forecast {forecast:.2} ms, measured {measured:.2} ms; {told:?}");
    let near = forecast < measured * FACTOR && measured < forecast * FACTOR;
    assert!(
        near,
        "{args:?}: forecast {forecast} ms, measured {measured} ms"
    );
    assert!(told.precopy.is_some() && told.fork.is_some(), "{told:?}");
    assert_eq!(target.finish(), Ended::Exit(0));
}

#[test]
fn the_forecast_of_private_memory_is_near_the_freeze() {
    forecast_is_near("heartbeat", &["--mib", "192", "--period-us", "500"]);
}

#[test]
fn the_forecast_of_shared_memory_is_near_the_freeze() {
    // As much private memory as shared.
    forecast_is_near("bank", &["--mib", "96", "--threads", "1", "--rate", "100"]);
}

#[test]
fn no_fork_is_forecast_where_a_filter_forbids_it() {
    #[cfg(target_arch = "x86_64")]
    const CLONE: &str = "56";
    #[cfg(not(target_arch = "x86_64"))]
    const CLONE: &str = "220";
    let mut target = Target::start("seccomp", &["--mode", "kill", "--call", CLONE]);
    if let Some(reason) = target.skipped() {
        skip_part("kill", reason);
        return;
    }
    let Some(mut watch) = attach(&target) else {
        return;
    };
    watch.interval().unwrap();
    for interval in intervals(&mut watch, 2, Duration::from_millis(50)) {
        assert_eq!(interval.forecast.freeze_ms.fork, None);
        assert_ne!(interval.forecast.strategy, report::Strategy::Fork);
    }
    target.must_advance("rounds");
    assert_eq!(target.finish(), Ended::Exit(0));
}
