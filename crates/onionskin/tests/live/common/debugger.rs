//! gdb, asked about cores.

use std::path::Path;
use std::process::Command;

/// A debugger that knows other architectures, and the usual one.
const DEBUGGERS: [&str; 2] = ["gdb-multiarch", "gdb"];

/// Why a test that asks gdb is skipped.
pub(crate) const NO_GDB: &str = "gdb is not installed";

/// Asks gdb about a core, and returns what it says; `None` where none is installed.
pub(crate) fn gdb(program: &Path, core: &Path, commands: &[&str]) -> Option<String> {
    let output = DEBUGGERS.iter().find_map(|debugger| {
        let mut command = Command::new(debugger);
        command.args(["-nx", "-batch", "-iex", "set debuginfod enabled off"]);
        for line in commands {
            command.args(["-ex", line]);
        }
        command.arg(program).arg(core).output().ok()
    });
    let output = output?;
    Some(format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    ))
}

/// Asks for variables and backtraces of a core of `stacks`; tells whether there was a gdb to ask.
pub(crate) fn expect_stacks(program: &Path, core: &Path, threads: u64) -> bool {
    let commands = [
        "print the_answer",
        "print text",
        "print list->next->next->value",
        "print table[4095]",
        "thread apply all backtrace",
        "thread apply all -s frame function leaf",
        "info auxv",
    ];
    let Some(said) = gdb(program, core, &commands) else {
        return false;
    };
    for expected in [
        "$1 = 42",
        "\"onion skin\"",
        "$3 = 30",
        "$4 = 16769025",
        "AT_ENTRY",
    ] {
        assert!(said.contains(expected), "no {expected} in:\n{said}");
    }
    for thread in 1..=threads {
        for depth in 1..=4 {
            let frame = format!("nest (thread={thread}, depth={depth}");
            assert!(said.contains(&frame), "no {frame} in:\n{said}");
        }
        let frame = format!("leaf (thread={thread}");
        assert!(said.contains(&frame), "no {frame} in:\n{said}");
    }
    assert!(!said.contains("Cannot access memory"), "{said}");
    expect_secrets(program, core, threads);
    true
}

/// Looks at a local variable in each thread's frames.
fn expect_secrets(program: &Path, core: &Path, threads: u64) {
    let commands = ["thread apply all -s -- frame apply all -s -- print secret"];
    let Some(said) = gdb(program, core, &commands) else {
        return;
    };
    for thread in 1..=threads {
        for depth in 0..=4 {
            let value = format!("= {}\n", 1000 * thread + depth);
            assert!(said.contains(&value), "no {value} in:\n{said}");
        }
    }
}
