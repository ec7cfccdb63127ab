//! A real process's core, opened with gdb.
//!
//! A core of a running process that somebody else wrote, gdb or the kernel, is the source: what
//! it holds becomes a snapshot's pieces, from which our core is written. Then gdb must show the
//! same of both.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use formats::core::Dumped;
use space::{Mapping, Protection, Sharing};
use tempfile::TempDir;

use crate::parser::{Core, Note};
use crate::support::*;
use crate::target::{Pieces, Target};

/// What is asked of both cores.
const QUESTIONS: &[&str] = &[
    "set print frame-arguments all",
    "info threads",
    "thread apply all bt",
    "thread apply all info registers",
    "info auxv",
    "info proc",
    "info proc mappings",
    "info sharedlibrary",
    "p $_siginfo.si_signo",
    "p answer",
    "p text",
    "p pointer_to_constant",
    "p heap[2]",
    "p shared[4097]",
    "x/8i $pc",
];

/// What is asked on machines with the registers for it.
const QUESTIONS_X86: &[&str] = &[
    "thread apply all info float",
    "thread apply all p $mxcsr",
    "thread apply all p/x $ymm0.v4_int64",
    "thread apply all p/x $ymm7.v4_int64",
    "thread apply all p $fs_base",
];

/// What the program is known to hold, and what gdb says of it.
const KNOWN: &[(&str, &str)] = &[
    ("info proc", "target"),
    ("info sharedlibrary", "libc.so"),
    ("p answer", "= 4242"),
    ("p text", "= \"known text\""),
    ("p pointer_to_constant", "\"constant text\""),
    ("p heap[2]", "= {id = 33, balance = 12.25}"),
    ("p shared[4097]", "= 987654321"),
    ("thread apply all bt", "descend_first (depth=3)"),
    ("thread apply all bt", "descend_first (depth=0)"),
    ("thread apply all bt", "descend_second (depth=2)"),
    ("thread apply all bt", "wait_for_the_end ()"),
];

/// Runs gdb; `None` without one.
fn gdb(arguments: &[&str]) -> Option<Output> {
    Command::new("gdb")
        .args(["-nx", "-batch", "-iex", "set debuginfod enabled off"])
        .args(["-iex", "set width 0", "-iex", "set height 0"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .ok()
}

/// Asks gdb about a core and returns each question with its answer; `None` without gdb.
fn answers(program: &Path, core: &Path) -> Option<Vec<(&'static str, String)>> {
    let x86 = if cfg!(target_arch = "x86_64") {
        QUESTIONS_X86
    } else {
        &[]
    };
    let questions: Vec<_> = QUESTIONS.iter().chain(x86).copied().collect();
    let mut arguments = Vec::new();
    for question in &questions {
        arguments.extend(["-ex", "echo \\n=====\\n", "-ex", question]);
    }
    arguments.extend([program.to_str().unwrap(), core.to_str().unwrap()]);
    let output = gdb(&arguments)?;
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    let answers: Vec<_> = text.split("\n=====\n").skip(1).map(str::to_owned).collect();
    assert_eq!(answers.len(), questions.len(), "{output:?}");
    Some(questions.into_iter().zip(answers).collect())
}

/// Compares what gdb shows of two cores, and with what the program is known to hold: both cores
/// might be wrong together.
fn compare(program: &Path, ours: &Path, theirs: &Path) {
    let Some(ours) = answers(program, ours) else {
        println!("skipped: gdb is missing");
        return;
    };
    let theirs = answers(program, theirs).unwrap();
    for ((question, our), (_, their)) in ours.iter().zip(&theirs) {
        // Of some processors' registers gdb finds less in the kernel's core than in ours.
        if !their.contains("<unavailable>") {
            assert_eq!(our, their, "{question}");
        }
    }
    let answer_to = |question: &str| {
        let found = ours.iter().find(|(asked, _)| *asked == question);
        found.unwrap().1.as_str()
    };
    for (question, part) in KNOWN {
        let answer = answer_to(question);
        assert!(answer.contains(part), "{question}: {answer}");
    }
    if cfg!(target_arch = "x86_64") {
        let flags = fs::read_to_string("/proc/cpuinfo").unwrap();
        if flags.contains(" avx ") {
            let answer = answer_to("thread apply all p/x $ymm0.v4_int64");
            for part in [
                "{0x1111, 0x2222, 0x3333, 0x4444}",
                "{0xaaaa, 0xbbbb, 0xcccc, 0xdddd}",
            ] {
                assert!(answer.contains(part), "{answer}");
            }
        }
    }
}

fn start() -> Option<(TempDir, Target)> {
    let directory = tempfile::tempdir().unwrap();
    let target = Target::start(directory.path());
    if target.is_none() {
        println!("skipped: gcc is missing");
    }
    Some((directory, target?))
}

/// As a snapshot has it: of files that can't be written only the first page, all of the rest.
fn as_a_snapshot(mapping: &Mapping, held: u64) -> Dumped {
    match (held, mapping.has_file()) {
        (0, _) => Dumped::Nothing,
        (_, true) if !mapping.protection.contains(Protection::WRITE) => Dumped::FirstPage,
        (_, true) if mapping.sharing == Sharing::Private => Dumped::Captured,
        (_, _) => Dumped::Whole,
    }
}

#[test]
fn gdb_shows_of_our_core_what_it_shows_of_its_own() {
    let Some((directory, target)) = start() else {
        return;
    };
    let (theirs, ours) = (
        directory.path().join("theirs"),
        directory.path().join("ours"),
    );
    let dump = format!("generate-core-file {}", theirs.display());
    let Some(output) = gdb(&["-p", &target.pid().to_string(), "-ex", &dump]) else {
        println!("skipped: gdb is missing");
        return;
    };
    if String::from_utf8_lossy(&output.stderr).contains("ptrace: Operation not permitted") {
        println!("skipped: gdb may not trace a process here");
        return;
    }
    assert!(theirs.exists(), "{output:?}");
    let core = Core::parse(fs::read(&theirs).unwrap());
    let pieces = Pieces::of(&core, target.mappings(), as_a_snapshot);
    assert_eq!(pieces.tasks.len(), 3);
    pieces.write(&ours);
    compare(&target.program, &ours, &theirs);
}

/// Returns the core that the kernel wrote, if it writes cores to where the process ran.
fn core_of_kernel(directory: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(directory).unwrap();
    let mut paths = files.map(|file| file.unwrap().path());
    paths.find(|path| {
        path.file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("core")
    })
}

#[test]
fn our_core_is_the_one_that_the_kernel_writes() {
    let Some((directory, target)) = start() else {
        return;
    };
    let (mappings, program) = (target.mappings(), target.program.clone());
    target.abort();
    let Some(theirs) = core_of_kernel(directory.path()) else {
        println!("skipped: core_pattern has the kernel write cores elsewhere");
        return;
    };
    let core = Core::parse(fs::read(&theirs).unwrap());
    let pieces = Pieces::of(&core, mappings, |mapping, held| match held {
        0 => Dumped::Nothing,
        PAGE if mapping.range.len().0 > PAGE => Dumped::FirstPage,
        _ => Dumped::Whole,
    });
    let path = directory.path().join("ours");
    pieces.write(&path);
    let ours = Core::parse(fs::read(&path).unwrap());

    let segments = |core: &Core| -> Vec<_> {
        let loads = core.loads.iter();
        loads
            .map(|l| (l.address, l.memory_len, l.file_len, l.flags, l.align))
            .collect()
    };
    assert_eq!(segments(&ours), segments(&core));
    for load in &ours.loads {
        let (our, their) = (
            ours.memory(load.address, load.file_len),
            core.memory(load.address, load.file_len),
        );
        assert!(our == their, "{:#x}", load.address);
    }
    let known = |note: &&Note| note.kind != 0x205;
    for (our, their) in ours.notes.iter().zip(core.notes.iter().filter(known)) {
        assert_eq!((&our.owner, our.kind), (&their.owner, their.kind));
        // Of some processors the extended state is laid out anew.
        if our.kind != 0x202 || our.bytes.len() == their.bytes.len() {
            assert_eq!(our.bytes, their.bytes);
        }
    }
    assert_eq!(ours.notes.len(), core.notes.iter().filter(known).count());
    compare(&program, &path, &theirs);
}
