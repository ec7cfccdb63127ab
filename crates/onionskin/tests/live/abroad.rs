//! What one kernel takes, another reads: stores and cores, whatever the sizes of pages and the
//! architectures.
//!
//! `ONIONSKIN_KEEP` names a folder in which a run leaves what it took, `ONIONSKIN_KEPT` one with
//! what others left: `cargo xtask kernels` carries them from kernel to kernel.

use std::fs;
use std::path::Path;

use onionskin::{Access, Snapshot, Store, export};
use serde_json::{Value, json};

use crate::common::{
    Ended, NO_GDB, STRATEGIES, Target, Tool, ask, build, compare_areas, expect_stacks, pages_of,
    skip, skip_part, temporary_directory,
};

const THREADS: u64 = 3;

/// Takes a snapshot and a core of a program into a new folder, with what is known of them.
fn leave(name: &str, args: &[&str], command: &str, strategy: onionskin::Strategy, to: &Path) {
    let mut target = Target::start(name, args);
    let mut tool = Tool::on(&target);
    if !tool.can(strategy) {
        return;
    }
    fs::create_dir_all(to).unwrap();
    let facts = target.ask(command);
    let (report, snapshot) = tool.must(&ask(strategy));
    export::core(&snapshot, &to.join("core"), &mut |_| ()).unwrap();
    fs::copy(build(name), to.join("program")).unwrap();
    copy_all(&tool.directory().join("store"), &to.join("store"));
    let facts = json!({"program": name, "snapshot": report.snapshot, "answer": facts,
        "page_size": report.page_size});
    fs::write(to.join("facts.json"), facts.to_string()).unwrap();
    assert_eq!(target.finish(), Ended::Exit(0));
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let inside = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_all(&path, &inside);
        } else {
            fs::copy(&path, &inside).unwrap();
        }
    }
}

/// Reads what [`leave`] left.
fn read(from: &Path) {
    let facts = fs::read_to_string(from.join("facts.json")).unwrap();
    let facts: Value = serde_json::from_str(&facts).unwrap();
    let store = from.join("store");
    let store = Store::open(store.to_str().unwrap(), Access::Existing).unwrap();
    let snapshot: Snapshot = store.load(facts["snapshot"].as_str().unwrap()).unwrap();
    assert_eq!(
        Some(snapshot.page_size().bytes()),
        facts["page_size"].as_u64()
    );
    if facts["program"] == "stacks" {
        if !expect_stacks(&from.join("program"), &from.join("core"), THREADS) {
            skip_part("gdb", NO_GDB);
        }
        // A core made here is the one that was made there.
        let again = temporary_directory();
        let core = again.path().join("core");
        export::core(&snapshot, &core, &mut |_| ()).unwrap();
        let same = fs::read(&core).unwrap() == fs::read(from.join("core")).unwrap();
        assert!(same, "the cores of {} differ", from.display());
        return;
    }
    let areas = facts["answer"]["areas"].as_array().unwrap();
    assert!(!areas.is_empty());
    for area in areas {
        compare_areas("a slot", area, &pages_of(&snapshot))
            .unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
}

#[test]
fn what_is_taken_here_can_be_read() {
    let own = temporary_directory();
    let keep = std::env::var_os("ONIONSKIN_KEEP").map_or(own.path().to_owned(), Into::into);
    let threads = THREADS.to_string();
    for strategy in STRATEGIES {
        let stacks = keep.join(format!("stacks-{}", strategy.name()));
        leave(
            "stacks",
            &["--threads", &threads],
            "report",
            strategy,
            &stacks,
        );
        let layout = keep.join(format!("layout-{}", strategy.name()));
        leave("layout", &[], "step 20", strategy, &layout);
    }
    read_all(&keep);
}

#[test]
fn what_was_taken_elsewhere_can_be_read() {
    let Some(kept) = std::env::var_os("ONIONSKIN_KEPT") else {
        skip("ONIONSKIN_KEPT names nothing that others left");
        return;
    };
    let count = read_all(Path::new(&kept));
    assert!(count >= 2, "{count} snapshots were kept");
}

fn read_all(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| read(&entry.unwrap().path())).count()
}
