//! The process goes on as if nothing had happened.

use std::process::Command;
use std::time::{Duration, Instant};

use onionskin::{Error, SessionOptions, SnapshotOptions, Strategy, Tracking};

use crate::common::{
    Ended, STRATEGIES, Target, Tool, ask, chain, is_slow, number, rounds, skip, skip_part,
    slack_ms, states,
};

/// Takes snapshots with every strategy, in sessions that last and in fresh ones.
fn disturb(target: &Target, time: Duration) -> u32 {
    let mut taken = 0;
    for strategy in STRATEGIES {
        let until = Instant::now() + time / 3;
        while Instant::now() < until {
            let mut tool = Tool::on(target);
            if !tool.can(strategy) {
                break;
            }
            for _ in rounds(5, time / 3) {
                tool.must(&ask(strategy));
                taken += 1;
                std::thread::sleep(Duration::from_millis(7));
            }
        }
    }
    taken
}

#[test]
fn blocked_calls_signals_and_registers_go_on() {
    let mut target = Target::start("blocked", &["--ms", "150", "--slack-ms", slack_ms()]);
    let before = target.ask("report");
    let taken = disturb(&target, Duration::from_secs(12));
    assert!(taken > 10, "only {taken} snapshots");
    let after = target.ask("report");
    println!("{taken} snapshots: {after}");
    assert_eq!(number(&after, "violations"), 0, "{}", after["first"]);
    assert_eq!(number(&after, "sent"), number(&after, "received"));
    assert!(number(&after, "received") > number(&before, "received"));
    for (name, rounds) in after["rounds"].as_object().unwrap() {
        let earlier = number(&before["rounds"], name);
        assert!(rounds.as_u64() > Some(earlier), "{name} never returned");
        assert_eq!(number(&after["eintr"], name), 0, "{name} was interrupted");
    }
    assert_eq!(target.finish(), Ended::Exit(0));
}

/// Interrupts waits of a second in fresh sessions until each of those asked for has ended.
fn waits_end(more: &[&str], asked_for: fn(&str) -> bool) {
    let args = ["--ms", "1000", "--slack-ms", "100000"];
    let mut target = Target::start("blocked", &[&args, more].concat());
    let before = target.ask("report");
    // A restart in each session would keep them for as long as sessions come.
    let until = Instant::now() + Duration::from_secs(if is_slow() { 600 } else { 60 });
    let mut after = before.clone();
    while Instant::now() < until {
        Tool::on(&target).must(&ask(Strategy::Freeze));
        after = target.ask("report");
        let rounds = after["rounds"].as_object().unwrap();
        let mut waits = rounds.iter().filter(|(name, _)| asked_for(name));
        if waits.all(|(name, rounds)| rounds.as_u64() > Some(number(&before["rounds"], name))) {
            break;
        }
    }
    println!("{after}");
    for (name, rounds) in after["rounds"].as_object().unwrap() {
        let earlier = number(&before["rounds"], name);
        let has_ended = !asked_for(name) || rounds.as_u64() > Some(earlier);
        assert!(has_ended, "{name} never returned");
        assert_eq!(number(&after["eintr"], name), 0, "{name} was interrupted");
    }
    assert_eq!(number(&after, "violations"), 0, "{}", after["first"]);
    assert_eq!(target.finish(), Ended::Exit(0));
}

#[test]
fn waits_end_although_each_session_interrupts_them() {
    // Where a call has no descriptor to carry it, only one session knows since when it waits.
    waits_end(&[], |name| {
        name.starts_with("sock_")
            || ["epoll", "semtimedop"].contains(&name)
            || (name == "sigtimedwait" && cfg!(target_arch = "x86_64"))
    });
}

#[test]
fn waits_end_where_a_filter_forbids_to_go_on_with_them() {
    if cfg!(target_arch = "aarch64") {
        skip("each session begins them anew on arm64");
        return;
    }
    waits_end(&["--filtered"], |name| {
        ["futex", "nanosleep", "poll"].contains(&name)
    });
}

#[test]
fn a_signal_that_is_ignored_ends_no_call() {
    let mut target = Target::start("ignored", &[]);
    let before = target.ask("report");
    for _ in rounds(40, Duration::from_secs(20)) {
        let mut tool = Tool::on(&target);
        for _ in 0..3 {
            tool.must(&ask(Strategy::Freeze));
        }
        // With so many signals, there may be no task that can make a call just now.
        if let Err(error) = tool.take_with(&ask(Strategy::Fork)) {
            assert!(error.may_pass(), "{}", chain(&error));
        }
    }
    let after = target.ask("report");
    println!("{before}, then {after}");
    assert_eq!(number(&after, "ended"), 0, "waits were ended");
    for name in ["children", "sent"] {
        target.must_advance(name);
        assert!(number(&after, name) > number(&before, name));
    }
    assert_eq!(target.finish(), Ended::Exit(0));
}

/// Takes snapshots of a storm with each strategy; whatever comes of them, the storm's own checks
/// hold, and it makes progress.
fn storm(mode: &str, may_fail: bool) {
    // Between two programs there must be time to attach and to take two snapshots.
    let every = if is_slow() { "5000" } else { "500" };
    let args = ["--mode", mode, "--threads", "2", "--every-ms", every];
    let mut target = Target::start("storm", &args);
    for strategy in STRATEGIES {
        let untracked = Tool::attach(target.pid()).is_ok_and(|tool| tool.kernel_tracks_nothing());
        if strategy == Strategy::Precopy && untracked {
            skip_part(strategy.name(), "this kernel tracks no writes");
            continue;
        }
        let mut done = 0;
        for _ in rounds(12, Duration::from_secs(4)) {
            let taken = Tool::attach(target.pid()).and_then(|mut tool| {
                tool.take(strategy)?;
                tool.take(strategy)
            });
            match taken {
                Ok((report, _)) => {
                    assert!(report.pages_total > 0);
                    done += 1;
                }
                Err(error) if may_fail => println!("{mode}, {strategy:?}: {}", chain(&error)),
                Err(error) => panic!("{mode}, {strategy:?}: {}", chain(&error)),
            }
        }
        println!("{mode}, {strategy:?}: {done} snapshots");
        assert!(done > 0, "no snapshot of {mode} by {strategy:?} came about");
        target.must_advance("operations");
    }
    assert_eq!(target.finish(), Ended::Exit(0));
}

#[test]
fn threads_come_and_go() {
    storm("threads", false);
}

#[test]
fn children_are_forked() {
    storm("fork", false);
}

#[test]
fn children_are_vforked() {
    storm("vfork", true);
}

#[test]
fn mappings_come_and_go() {
    storm("map", false);
}

#[test]
fn programs_are_executed() {
    storm("exec", true);
}

#[test]
fn a_death_half_way_is_an_error_and_not_ours() {
    for (how, expected) in [
        ("exit", Ended::Exit(0)),
        ("segv", Ended::Signal(11)),
        ("kill", Ended::Signal(9)),
    ] {
        for strategy in STRATEGIES {
            let args = ["--mode", "die", "--how", how, "--after-ms", "150"];
            let mut target = Target::start("storm", &args);
            let until = Instant::now() + Duration::from_secs(30);
            let failed = Tool::attach(target.pid()).and_then(|mut tool| {
                while Instant::now() < until {
                    tool.take(strategy)?;
                }
                panic!("{how}, {strategy:?}: snapshots of a dead process");
            });
            let error = failed.map(|_: Tool| ()).unwrap_err();
            println!("{how}, {strategy:?}: {}", chain(&error));
            assert_eq!(target.wait(), expected, "{how}, {strategy:?}");
        }
    }
}

#[test]
fn a_process_whose_first_thread_ended_is_taken() {
    let target = Target::start("storm", &["--mode", "die", "--how", "thread"]);
    // It ends after it has said that it is ready.
    let until = Instant::now() + Duration::from_secs(60);
    while !states(target.pid()).contains(&'Z') {
        assert!(Instant::now() < until, "the first thread does not end");
        std::thread::sleep(Duration::from_millis(1));
    }
    for strategy in STRATEGIES {
        let mut tool = Tool::on(&target);
        if tool.can(strategy) {
            let (report, _) = tool.must(&ask(strategy));
            assert!(
                report.pages_total > 100,
                "{strategy:?}: {}",
                report.pages_total
            );
        }
    }
}

#[test]
fn job_control_keeps_its_stop() {
    let mut target = Target::start("kin", &["--mode", "stopped"]);
    for strategy in STRATEGIES {
        let mut tool = Tool::on(&target);
        if !tool.can(strategy) {
            continue;
        }
        tool.must(&ask(strategy));
        drop(tool);
        assert_eq!(target.ask("report")["state"], "T", "after {strategy:?}");
    }
    assert_eq!(
        number(&target.ask("report"), "count"),
        0,
        "it ran meanwhile"
    );
    assert!(
        number(&target.ask("continue"), "count") > 0,
        "it does not go on"
    );
}

/// A process with a thread that nothing stops for a minute.
fn stuck_in_the_kernel() -> Target {
    let target = Target::start("kin", &["--mode", "dstate", "--hold-ms", "60000"]);
    let until = Instant::now() + Duration::from_secs(60);
    while !states(target.pid()).contains(&'D') {
        assert!(Instant::now() < until, "no thread waits in the kernel");
        std::thread::sleep(Duration::from_millis(1));
    }
    target
}

/// Asks for a snapshot that can't be, and returns the error and the longest that the process stood
/// still.
fn in_vain(
    target: &mut Target,
    session: SessionOptions,
    options: &SnapshotOptions,
) -> (Error, Duration) {
    target.ask("reset");
    let taken =
        Tool::attach_with(target.pid(), session).and_then(|mut tool| tool.take_with(options));
    let error = taken.map(drop).expect_err("a task can't be stopped");
    let gap = number(&target.ask("report"), "largest_gap_ns");
    target.must_advance("count");
    assert!(
        !states(target.pid()).contains(&'t'),
        "a task is still traced"
    );
    (error, Duration::from_nanos(gap))
}

/// How long a thread that was let go may wait for the processor on a busy machine.
fn patience() -> Duration {
    Duration::from_millis(if is_slow() { 5000 } else { 500 })
}

#[test]
fn a_task_that_cannot_be_stopped_meets_the_limit() {
    let mut target = stuck_in_the_kernel();
    let default = SessionOptions::default();
    for tracking in [Tracking::Best, Tracking::Off] {
        for strategy in [Strategy::Auto, Strategy::Fork, Strategy::Freeze] {
            let session = SessionOptions {
                tracking,
                ..default
            };
            let (error, gap) = in_vain(&mut target, session, &ask(strategy));
            let said = chain(&error);
            println!("{tracking:?}, {strategy:?}: {gap:?}: {said}");
            for part in ["did not stop within 250.0ms", "state D", "try again"] {
                assert!(said.contains(part), "{said}");
            }
            assert!(error.may_pass() && !error.is_over(), "{said}");
            assert!(gap < default.stop_limit + patience(), "{gap:?}: {said}");
        }
    }
    assert!(target.is_alive());
}

#[test]
fn a_task_that_cannot_be_stopped_breaks_no_promise() {
    let promise = Duration::from_millis(10);
    let mut target = stuck_in_the_kernel();
    for tracking in [Tracking::Best, Tracking::Off] {
        for strategy in [Strategy::Auto, Strategy::Fork, Strategy::Freeze] {
            let session = SessionOptions {
                tracking,
                stop_limit: promise,
            };
            let options = SnapshotOptions {
                max_freeze: Some(promise),
                ..ask(strategy)
            };
            let (error, gap) = in_vain(&mut target, session, &options);
            let said = chain(&error);
            println!("{tracking:?}, {strategy:?}: {gap:?}: {said}");
            assert!(error.may_pass(), "{said}");
            assert!(gap < promise + patience(), "{gap:?}: {said}");
        }
    }
    assert!(target.is_alive());
}

#[test]
fn a_wait_that_an_injected_call_puts_at_risk_is_told() {
    let mut sleeper = Command::new("sleep")
        .arg("600")
        .spawn()
        .expect("sleep starts");
    let pid = sleeper.id();
    while !states(pid).contains(&'S') {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(50));
    let warned = |strategy| {
        let mut tool = Tool::attach_with(
            pid,
            SessionOptions {
                tracking: Tracking::Off,
                ..Default::default()
            },
        )
        .unwrap_or_else(|error| panic!("attach: {}", chain(&error)));
        let (report, _) = tool.must(&ask(strategy));
        let told = report.warnings.iter().any(|it| it.contains("EINTR"));
        println!("{strategy:?}: {:?}", report.warnings);
        told
    };
    assert!(!warned(Strategy::Freeze), "it was made to call nothing");
    let told = warned(Strategy::Fork);
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    assert!(told, "its only thread made the call");
}

#[test]
fn many_forked_snapshots_leave_no_zombie() {
    let target = Target::start("bank", &["--mib", "1", "--threads", "1", "--rate", "1000"]);
    let mut tool = Tool::on(&target);
    let count = std::env::var("ONIONSKIN_FORKS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1000);
    for _ in 0..count {
        tool.must(&ask(Strategy::Fork));
    }
    let tasks = std::fs::read_dir(format!("/proc/{}/task", target.pid())).unwrap();
    for task in tasks {
        let children = std::fs::read_to_string(task.unwrap().path().join("children"));
        assert_eq!(children.unwrap_or_default().trim(), "", "a child was left");
    }
    assert_eq!(target.finish(), Ended::Exit(0));
}
