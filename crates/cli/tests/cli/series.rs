//! Snapshots one after the other: `snapshot --every`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::workload::Workload;
use crate::{json, onionskin, works};

fn series(pid: &str, more: &[&str], dir: &Path) -> Output {
    let mut args = vec!["snapshot", pid, "--store", "store", "--every", "10ms"];
    args.extend(more);
    onionskin(&args, dir)
}

fn lines(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The names in the store, the oldest first.
fn names(dir: &Path) -> Vec<String> {
    let list = json(&onionskin(
        &["snapshots", "list", "--store", "store", "--json"],
        dir,
    ));
    let snapshots = list["snapshots"].as_array().unwrap();
    snapshots
        .iter()
        .map(|one| one["name"].as_str().unwrap_or("none").to_owned())
        .collect()
}

/// The names that programs read. One may be added; one that goes or changes breaks them.
const NAMES: [&str; 20] = [
    "bytes_read",
    "bytes_stored",
    "consistency",
    "created",
    "duration_ms",
    "freeze",
    "freeze_ms",
    "name",
    "page_size",
    "pages_copied_frozen",
    "pages_total",
    "parent",
    "pid",
    "program",
    "rounds",
    "snapshot",
    "stops",
    "strategy",
    "verify",
    "warnings",
];
const PARTS: [&str; 4] = ["copy", "registers", "scan", "stop"];

/// The names in an object, sorted.
fn names_in(object: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn each_snapshot_is_a_layer_on_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    if !works("freeze", "a series", dir.path()) {
        return;
    }
    let workload = Workload::start();
    let output = series(
        &workload.pid(),
        &["--count", "3", "--name", "a", "--json"],
        dir.path(),
    );
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let lines = lines(&output);
    assert_eq!(lines.len(), 3);
    if works("precopy", "layers of a series", dir.path()) {
        for pair in lines.windows(2) {
            assert_eq!(pair[1]["parent"], pair[0]["snapshot"]);
        }
        let whole = lines[0]["bytes_stored"].as_u64().unwrap();
        for layer in &lines[1..] {
            // Between two of them the program writes, at most, to what it has of its own.
            let stored = layer["bytes_stored"].as_u64().unwrap();
            assert!(stored < whole, "{stored} of {whole} bytes: {layer}");
        }
    }
    for line in &lines {
        assert_eq!(names_in(line), NAMES);
        assert_eq!(names_in(&line["freeze"]), PARTS);
        for name in ["freeze_ms", "duration_ms"] {
            assert!(line[name].as_f64().is_some(), "{name} in {line}");
        }
    }
    assert_eq!(names(dir.path()), ["a-1", "a-2", "a-3"]);
    workload.finish();
}

#[test]
fn a_series_goes_on_after_a_failed_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    if !works("freeze", "a series that fails", dir.path()) {
        return;
    }
    let workload = Workload::start();
    // Nobody can promise that.
    let more = ["--count", "3", "--max-freeze", "1us", "--json"];
    let output = series(&workload.pid(), &more, dir.path());
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let lines = lines(&output);
    assert_eq!(lines.len(), 4, "three and a summary: {lines:?}");
    for failed in &lines[..3] {
        // Where tasks are stopped for looking, the stop is what takes too long.
        let because = failed["because"][0].as_str().unwrap();
        let reasons = ["at most was not possible", "did not stop within"];
        assert!(
            reasons.iter().any(|reason| because.contains(reason)),
            "{because}"
        );
    }
    let summary = lines[3]["error"].as_str().unwrap();
    assert!(summary.starts_with("3 of 3 snapshots"), "{summary}");
    assert!(names(dir.path()).is_empty());
    // The next one is none the worse.
    let output = series(&workload.pid(), &["--count", "1"], dir.path());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    workload.finish();
}

#[test]
fn a_name_that_is_taken_is_refused_before_the_process_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    if !works("freeze", "names of a series", dir.path()) {
        return;
    }
    let workload = Workload::start();
    let pid = workload.pid();
    let one = ["snapshot", &pid, "--store", "store", "--name", "a-2"];
    assert_eq!(onionskin(&one, dir.path()).status.code(), Some(0));
    // A process that is not there can't be touched: the name is refused first.
    for (args, pid) in [(&one[..], &*pid), (&one[..], "4194305")] {
        let mut args = args.to_vec();
        args[1] = pid;
        let output = onionskin(&args, dir.path());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("\"a-2\" is taken"), "{text}");
    }
    for pid in [&*pid, "4194305"] {
        let output = series(pid, &["--count", "3", "--name", "a"], dir.path());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("\"a-2\" is taken"), "{text}");
    }
    assert_eq!(names(dir.path()), ["a-2"]);
    let output = series(&pid, &["--count", "1", "--name", "a"], dir.path());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    workload.finish();
}

#[test]
fn a_series_ends_with_its_process() {
    let dir = tempfile::tempdir().unwrap();
    if !works("freeze", "a series that ends early", dir.path()) {
        return;
    }
    // Without a number it was to last as long as the process.
    for (count, status) in [(None, 0), (Some("1000000"), 2)] {
        let workload = Workload::start();
        let mut command = Command::new(env!("CARGO_BIN_EXE_onionskin"));
        command.args([
            "snapshot",
            &workload.pid(),
            "--store",
            "store",
            "--every",
            "10ms",
        ]);
        command.args(count.iter().flat_map(|count| ["--count", count]));
        let mut tool = command
            .current_dir(dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the command starts");
        let mut lines = BufReader::new(tool.stdout.take().unwrap()).lines();
        lines.next().expect("one is taken").unwrap();
        workload.kill();
        lines.for_each(drop);
        assert_eq!(tool.wait().unwrap().code(), Some(status), "{count:?}");
    }
}
