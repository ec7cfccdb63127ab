//! What is in a store: `snapshots show` and `snapshots export`, of a directory and of an object store.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::moto::{BUCKET, Moto};
use crate::workload::Workload;
use crate::{json, skip, works};

/// The command in a directory, with variables of its environment.
struct Tool<'a> {
    dir: &'a Path,
    variables: Vec<(&'static str, String)>,
    store: &'a str,
}

impl Tool<'_> {
    fn run(&self, args: &[&str]) -> Output {
        let output = Command::new(env!("CARGO_BIN_EXE_onionskin"))
            .args(args)
            .args(["--store", self.store])
            .current_dir(self.dir)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .env_remove("HTTP_PROXY")
            .env_remove("http_proxy")
            .output()
            .expect("the command starts");
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        output
    }

    fn text(&self, args: &[&str]) -> String {
        String::from_utf8(self.run(args).stdout).unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        json(&self.run(&[args, &["--json"]].concat()))
    }

    /// Takes a snapshot of a program, and compares what all commands say of it.
    fn goes_round(&self) {
        let workload = Workload::start();
        let taken = self.json(&["snapshot", &workload.pid(), "--name", "a"]);
        let pid: u64 = workload.pid().parse().unwrap();
        workload.finish();
        let id = taken["snapshot"].as_str().unwrap();
        let shown = self.json(&["snapshots", "show", "a"]);
        assert_eq!(shown["snapshot"], id);
        assert_eq!(shown["pid"], pid);
        assert_eq!(shown["tasks"][0]["tid"], pid);
        assert_eq!(shown["report"]["pages_total"], taken["pages_total"]);
        let mappings = shown["mappings"].as_array().unwrap();
        let captured: u64 = mappings
            .iter()
            .map(|mapping| mapping["captured_bytes"].as_u64().unwrap())
            .sum();
        assert_eq!(shown["memory_bytes"], captured);
        assert!(captured > 2 << 20, "its memory is in it: {captured}");
        let text = self.text(&["snapshots", "show", "a"]);
        for part in [id, "\"a\"", "frozen for", "consistency", "[heap]"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        self.exports(&shown);
        self.text(&["snapshots", "verify", "a"]);
        self.text(&["snapshots", "remove", "a"]);
        self.text(&["snapshots", "gc", "--grace", "0s"]);
        let list = self.json(&["snapshots", "list"]);
        assert_eq!(
            list["snapshots"].as_array().map(Vec::len),
            Some(0),
            "{list}"
        );
    }

    fn exports(&self, shown: &Value) {
        self.text(&["snapshots", "export", "a", "--output", "core"]);
        let core = std::fs::read(self.dir.join("core")).unwrap();
        assert_eq!(core[..4], *b"\x7fELF");
        // The type of a core.
        assert_eq!(core[16..18], 4_u16.to_ne_bytes());
        let raw = ["snapshots", "export", "a", "--format", "raw"];
        self.text(&[&raw[..], &["--output", "raw"]].concat());
        let raw = self.dir.join("raw");
        let index = std::fs::read(raw.join("index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        assert!(!index.is_null());
        let heap = shown["mappings"].as_array().unwrap().iter();
        let heap = heap.clone().find(|mapping| mapping["name"] == "[heap]");
        let heap = heap.expect("it has a heap")["range"].as_str().unwrap();
        let (from, to) = heap.split_once('-').unwrap();
        let at = |text| u64::from_str_radix(text, 16).unwrap();
        let file = std::fs::metadata(raw.join(format!("{heap}-rw-p.bin"))).unwrap();
        assert!(file.len() > 0 && file.len() <= at(to) - at(from));
    }
}

#[test]
fn a_snapshot_is_shown_and_exported() {
    let dir = tempfile::tempdir().unwrap();
    if !works("freeze", "show and export", dir.path()) {
        return;
    }
    let tool = Tool {
        dir: dir.path(),
        variables: Vec::new(),
        store: "store",
    };
    tool.goes_round();
}

#[test]
fn a_snapshot_in_an_object_store_is_shown_and_exported() {
    let dir = tempfile::tempdir().unwrap();
    let name = "a snapshot in an object store";
    if !works("freeze", name, dir.path()) {
        return;
    }
    let Some(moto) = Moto::start() else {
        return skip(name, "ONIONSKIN_MOTO does not name the moto_server program");
    };
    let store = format!("s3://{BUCKET}/some/prefix");
    let tool = Tool {
        dir: dir.path(),
        variables: moto.variables(),
        store: &store,
    };
    tool.goes_round();
}
