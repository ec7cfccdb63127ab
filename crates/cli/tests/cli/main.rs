//! The command as its users see it: exit status, messages, JSON.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../../store/tests/it/moto.rs"]
mod moto;
mod series;
mod stored;
mod watched;
mod workload;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

fn onionskin(args: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_onionskin"))
        .args(args)
        .current_dir(dir)
        .output()
        .expect("the command starts")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)))
}

/// Tells whether `ONIONSKIN_SLOW` says that this machine is slow: emulated, for one.
fn is_slow() -> bool {
    std::env::var_os("ONIONSKIN_SLOW").is_some()
}

/// Says that a test can't be run here, and why.
fn skip(test: &str, why: &str) {
    println!("skipped: {test}: {why}");
    if let Some(path) = std::env::var_os("ONIONSKIN_SKIPS") {
        let mut file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        std::io::Write::write_all(&mut file, format!("{test}: {why}\n").as_bytes()).unwrap();
    }
}

/// Tells whether a strategy works on this machine; says so where not.
fn works(strategy: &str, test: &str, dir: &Path) -> bool {
    static DOCTOR: OnceLock<Value> = OnceLock::new();
    let doctor = DOCTOR.get_or_init(|| json(&onionskin(&["doctor", "--json"], dir)));
    let found = &doctor["strategies"][strategy];
    let works = found["status"] == "works";
    if !works {
        skip(test, &format!("{strategy}: {}", found["why"]));
    }
    works
}

#[test]
fn an_error_is_plain_text_and_exit_status_2() {
    let dir = tempfile::tempdir().unwrap();
    let output = onionskin(&["snapshots", "list", "--store", "nowhere"], dir.path());
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("error: ") && text.contains("nowhere"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "no colours into a pipe");
    assert!(!dir.path().join("nowhere").exists());
}

#[test]
fn with_json_errors_are_json_on_standard_output() {
    let dir = tempfile::tempdir().unwrap();
    for args in [
        &["snapshots", "list", "--store", "nowhere", "--json"][..],
        &["--json", "watch", "no-number"],
        &["--json", "watch", "4194305"],
    ] {
        let output = onionskin(args, dir.path());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stderr.is_empty(), "{args:?}");
        let value = json(&output);
        assert!(
            value["error"].is_string() && value["because"].is_array(),
            "{value}"
        );
    }
}

#[test]
fn no_store_is_made_for_a_process_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let output = onionskin(&["snapshot", "4194305", "--store", "new"], dir.path());
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("4194305"), "{text}");
    assert!(!dir.path().join("new").exists());
}

#[test]
fn a_name_that_can_t_be_given_is_refused_before_anything_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    // There is no such process, and no such store: both would be told of.
    let snapshot = ["snapshot", "4194305", "--store", "s3://nowhere:"];
    let long = "n".repeat(120);
    for name in [
        &["--name", "a b"][..],
        &["--name", "../a"],
        &["--name="],
        // Its first number would fit, and its thousandth not.
        &["--name", &long, "--every", "1s"],
    ] {
        let output = onionskin(&[&snapshot[..], name].concat(), dir.path());
        assert_eq!(output.status.code(), Some(2), "{name:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("can't be a snapshot's name"), "{text}");
    }
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_onionskin"))
        .args(["generate", "completions", "--out", "made"])
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.stderr.is_empty());
}

#[test]
fn doctor_tells_its_strategies_in_json() {
    let dir = tempfile::tempdir().unwrap();
    let output = onionskin(&["doctor", "--json"], dir.path());
    let value = json(&output);
    for key in ["kernel", "arch", "page_size", "features", "strategies"] {
        assert!(!value[key].is_null(), "{key} is missing in {value}");
    }
    let works = value["strategies"]
        .as_object()
        .unwrap()
        .values()
        .any(|s| s["status"] == "works");
    assert_eq!(output.status.code(), Some(i32::from(!works)));
}

#[test]
fn what_is_copied_whole_in_one_freeze_has_no_other_stop() {
    let dir = tempfile::tempdir().unwrap();
    if !works("freeze", "a snapshot without another stop", dir.path()) {
        return;
    }
    let workload = workload::Workload::start();
    let pid = workload.pid();
    let args = ["snapshot", &pid, "--store", "store", "--json"];
    let stops = |strategy| {
        let output = onionskin(&[&args[..], &["--strategy", strategy]].concat(), dir.path());
        assert_eq!(output.status.code(), Some(0), "{strategy}: {output:?}");
        let value = json(&output);
        assert_eq!(value["strategy"], strategy);
        assert_eq!(value["warnings"], Value::Array(Vec::new()), "{value}");
        let stops = value["stops"].as_array().unwrap().clone();
        let why = stops
            .iter()
            .map(|stop| stop["why"].as_str().unwrap_or("").to_owned());
        why.collect::<Vec<_>>()
    };
    assert_eq!(stops("freeze"), Vec::<String>::new());
    if works("fork", "a fork without attaching", dir.path()) {
        assert_eq!(stops("fork"), ["reap"]);
    }
    workload.finish();
}

#[test]
fn an_export_of_damaged_pages_says_what_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    if !works("freeze", "an export of damaged pages", dir.path()) {
        return;
    }
    let workload = workload::Workload::start();
    let pid = workload.pid();
    let args = ["snapshot", &pid, "--store", "store", "--name", "a"];
    assert_eq!(onionskin(&args, dir.path()).status.code(), Some(0));
    workload.finish();
    for pack in std::fs::read_dir(dir.path().join("store/packs")).unwrap() {
        let path = pack.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        // All but its ends, which say where what is.
        let len = bytes.len();
        bytes[len / 8..len / 2].fill(0x5a);
        std::fs::write(&path, bytes).unwrap();
    }
    for format in ["core", "raw"] {
        let args = [
            "snapshots",
            "export",
            "a",
            "--store",
            "store",
            "--format",
            format,
        ];
        let output = onionskin(&[&args[..], &["--output", format]].concat(), dir.path());
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("because pack "), "{text}");
    }
}

#[test]
fn without_a_grace_period_all_that_is_not_needed_is_deleted_at_once() {
    let dir = tempfile::tempdir().unwrap();
    if !works("freeze", "gc without a grace period", dir.path()) {
        return;
    }
    let workload = workload::Workload::start();
    let pid = workload.pid();
    for name in ["a", "b"] {
        let args = ["snapshot", &pid, "--store", "store", "--name", name];
        assert_eq!(onionskin(&args, dir.path()).status.code(), Some(0));
    }
    workload.finish();
    let store = |more: &[&str]| {
        let args = [&["snapshots"], more, &["--store", "store", "--json"]].concat();
        let output = onionskin(&args, dir.path());
        assert_eq!(output.status.code(), Some(0), "{args:?} {output:?}");
        json(&output)
    };
    let packs = || {
        std::fs::read_dir(dir.path().join("store/packs"))
            .unwrap()
            .count()
    };
    let before = packs();
    store(&["remove", "b"]);
    // What the other needs stays, whatever the grace period is.
    store(&["gc", "--grace", "0s"]);
    store(&["verify", "a"]);
    store(&["remove", "a"]);
    let waits = store(&["gc"]);
    assert_eq!(waits["bytes_freed"], 0, "{waits}");
    let dry = store(&["gc", "--grace", "0s", "--dry-run"]);
    assert!(before > 0 && packs() > 0, "{dry}");
    let words = [
        "snapshots",
        "gc",
        "--store",
        "store",
        "--grace",
        "0s",
        "--dry-run",
    ];
    let words = String::from_utf8(onionskin(&words, dir.path()).stdout).unwrap();
    assert!(
        words.starts_with("would free") && !words.contains("later"),
        "{words}"
    );
    let gone = store(&["gc", "--grace", "0s"]);
    assert!(gone["bytes_freed"].as_u64() > Some(0), "{gone}");
    assert_eq!(packs(), 0, "{gone}");
}

#[test]
fn the_demo_goes_through_and_its_checks_hold() {
    let dir = tempfile::tempdir().unwrap();
    if !works("precopy", "the demo", dir.path()) {
        return;
    }
    let memory = if is_slow() { "2MiB" } else { "16MiB" };
    let output = onionskin(&["demo", "--memory", memory, "--json"], dir.path());
    let value = json(&output);
    assert_eq!(output.status.code(), Some(0), "{value}");
    assert_eq!(value["sum_holds"], true);
    assert_eq!(value["verified"], true);
    assert_eq!(
        value["snapshots"][1]["parent"],
        value["snapshots"][0]["snapshot"]
    );
    let store = ["--store", "onionskin-demo/store"];
    let diff = onionskin(
        &["snapshots", "diff", "first", "second", store[0], store[1]],
        dir.path(),
    );
    assert_eq!(
        diff.status.code(),
        Some(1),
        "a running program changes its memory"
    );
    let same = onionskin(
        &["snapshots", "diff", "first", "first", store[0], store[1]],
        dir.path(),
    );
    assert_eq!(same.status.code(), Some(0));
    // A second demo takes the place of the first.
    assert!(dir.path().join("onionskin-demo/core").exists());
}
