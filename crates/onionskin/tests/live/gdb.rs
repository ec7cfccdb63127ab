//! gdb reads variables and backtraces out of an exported core.

use std::path::Path;
use std::process::Command;

use onionskin::{SnapshotOptions, export};

use crate::common::{Ended, STRATEGIES, Target, Tool, ask, ask_all, build, hugetlb_pages, skip};

/// Asks gdb about a core, and returns what it says.
fn gdb(program: &Path, core: &Path, commands: &[&str]) -> Option<String> {
    let mut command = Command::new("gdb");
    command.args(["-nx", "-batch", "-iex", "set debuginfod enabled off"]);
    for line in commands {
        command.args(["-ex", line]);
    }
    let output = command.arg(program).arg(core).output();
    let Ok(output) = output else {
        skip("gdb", "gdb is not installed");
        return None;
    };
    Some(format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    ))
}

const THREADS: usize = 5;

#[test]
fn variables_and_backtraces_of_every_thread() {
    let program = build("stacks");
    let threads = THREADS.to_string();
    let target = Target::start("stacks", &["--threads", &threads]);
    for strategy in STRATEGIES {
        let mut tool = Tool::on(&target);
        if !tool.can(strategy, "gdb") {
            continue;
        }
        let (_, snapshot) = tool.must(&ask(strategy));
        let core = tool.directory().join("core");
        export::core(&snapshot, &core, &mut |_| ()).unwrap();
        let commands = [
            "print the_answer",
            "print text",
            "print list->next->next->value",
            "print table[4095]",
            "thread apply all backtrace",
            "thread apply all -s frame function leaf",
            "info auxv",
        ];
        let Some(said) = gdb(&program, &core, &commands) else {
            return;
        };
        for expected in [
            "$1 = 42",
            "\"onion skin\"",
            "$3 = 30",
            "$4 = 16769025",
            "AT_ENTRY",
        ] {
            assert!(
                said.contains(expected),
                "{strategy:?}: no {expected} in:\n{said}"
            );
        }
        for thread in 1..=THREADS {
            for depth in 1..=4 {
                let frame = format!("nest (thread={thread}, depth={depth}");
                assert!(
                    said.contains(&frame),
                    "{strategy:?}: no {frame} in:\n{said}"
                );
            }
            let frame = format!("leaf (thread={thread}");
            assert!(
                said.contains(&frame),
                "{strategy:?}: no {frame} in:\n{said}"
            );
        }
        assert!(
            !said.contains("Cannot access memory"),
            "{strategy:?}:\n{said}"
        );
        secrets(&program, &core);
    }
    assert_eq!(target.finish(), Ended::Exit(0));
}

/// Looks at a local variable in each thread's frames.
fn secrets(program: &Path, core: &Path) {
    let commands = ["thread apply all -s -- frame apply all -s -- print secret"];
    let Some(said) = gdb(program, core, &commands) else {
        return;
    };
    for thread in 1..=THREADS {
        for depth in 0..=4 {
            let value = format!("= {}\n", 1000 * thread + depth);
            assert!(said.contains(&value), "no {value} in:\n{said}");
        }
    }
}

#[test]
fn a_core_of_every_kind_of_memory_opens() {
    let mut args = vec!["--mappings", "3000"];
    if hugetlb_pages(32) {
        args.push("--hugetlb");
    }
    let target = Target::start("special", &args);
    let mut tool = Tool::on(&target);
    for (round, options) in [
        ask(onionskin::Strategy::Freeze),
        ask_all(onionskin::Strategy::Freeze),
    ]
    .iter()
    .enumerate()
    {
        let options = SnapshotOptions {
            more_follow: false,
            ..options.clone()
        };
        let (_, snapshot) = tool.must(&options);
        let core = tool.directory().join(format!("core{round}"));
        export::core(&snapshot, &core, &mut |_| ()).unwrap();
        let start = &target.ready["areas"]["prot_none"]["start"];
        let fill = &target.ready["areas"]["prot_none"]["fill"][0];
        let look = format!("print *(unsigned char *){start}");
        let said = gdb(
            &build("special"),
            &core,
            &["backtrace", &look, "print areas[0].pages"],
        );
        let Some(said) = said else { return };
        assert!(said.contains("main ("), "no backtrace:\n{said}");
        assert!(
            said.contains(&format!("$1 = {fill}")),
            "no {fill} in:\n{said}"
        );
        assert!(said.contains("$2 = 8"), "{said}");
    }
    assert_eq!(target.finish(), Ended::Exit(0));
}
