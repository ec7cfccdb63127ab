//! Real processes with real rings: cases of a small C program.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use space::{PageRange, Vaddr};

use super::*;
use crate::programs::program;

/// A program that says a line and waits to be killed.
struct Program {
    child: Child,
    line: String,
}

impl Program {
    /// Runs a case of `tests/programs/hazard.c` until it has written a line.
    fn start(case: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(program("hazard", directory.path()))
            .arg(case)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self { child, line }
    }

    fn hazards(&self) -> Hazards {
        inspect(self.child.id()).unwrap()
    }

    fn await_end_of_first_thread(&self) {
        let first = crate::procfs::Process::open(self.child.id()).unwrap();
        while first.stat().unwrap().state != crate::procfs::RunState::Zombie {
            std::thread::yield_now();
        }
    }

    /// The addresses that the program printed.
    fn addresses(&self) -> Vec<u64> {
        self.line
            .split_whitespace()
            .filter_map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok())
            .collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn pages(start: u64, len: u64) -> PageRange {
    let page = crate::procfs::base_page_size();
    PageRange::new(Vaddr(start), Vaddr(start + len).align_up(page).unwrap()).unwrap()
}

fn reasons(hazards: &Hazards) -> Vec<&str> {
    hazards
        .unproven
        .iter()
        .map(|unproven| unproven.reason.as_str())
        .collect()
}

#[test]
fn an_ordinary_program_has_none() {
    let program = Program::start("plain");
    let found = program.hazards();
    assert!(!found.mapped.is_empty());
    let mapped = found.mapped.clone();
    assert_eq!(
        found,
        Hazards {
            mapped,
            ..Hazards::default()
        }
    );
}

#[test]
fn registered_buffers_are_exact_ranges() {
    let program = Program::start("registered");
    assert!(program.line.ends_with(" 0\n"), "{}", program.line);
    let hazards = program.hazards();
    assert_eq!(reasons(&hazards), Vec::<&str>::new());
    let start = program.addresses()[0];
    for wanted in [pages(start, 8192), pages(start + 16384, 5100)] {
        let found = hazards.pinned.iter().find(|(range, _)| *range == wanted);
        assert!(found.unwrap().1.contains("registered"));
    }
    let rings = hazards
        .pinned
        .iter()
        .filter(|(_, reason)| reason.contains("completions"));
    assert_eq!(rings.count(), 2, "one for requests, one for both rings");
}

#[test]
fn registered_memory_that_was_moved_is_reported() {
    for case in ["moved", "moved_part", "moved_and_mapped"] {
        let program = Program::start(case);
        assert_eq!(program.line, "0\n", "{case}");
        let hazards = program.hazards();
        let [unproven] = &hazards.unproven[..] else {
            panic!("{case}: {hazards:?}");
        };
        let reason = &unproven.reason;
        assert!(reason.contains("not where it was"), "{case}: {reason}");
    }
}

#[test]
fn a_ring_that_is_not_mapped_is_reported() {
    let program = Program::start("unmapped_ring");
    let hazards = program.hazards();
    assert_eq!(hazards.unproven.len(), 1);
    assert!(reasons(&hazards)[0].contains("mapped nowhere"));
}

#[test]
fn a_poller_is_reported() {
    let program = Program::start("poller");
    assert_ne!(program.line, "-1\n");
    let hazards = program.hazards();
    assert!(
        reasons(&hazards)
            .iter()
            .any(|reason| reason.contains("SQPOLL"))
    );
    assert_eq!(hazards.workers.len(), 1);
}

#[test]
fn direct_io_and_what_makes_it_go_on_in_a_freeze() {
    let program = Program::start("direct_io");
    if program.line == "-1\n" {
        eprintln!("skipped: the file system of /bin has no direct I/O");
        return;
    }
    let hazards = program.hazards();
    assert_eq!(hazards.unproven.len(), 1);
    assert_eq!(hazards.unproven[0].danger, Danger::WhileTracked);
    let aio = Program::start("direct_aio");
    let hazards = aio.hazards();
    assert_eq!(hazards.unproven[0].danger, Danger::EvenFrozen);
    assert!(
        hazards
            .pinned
            .iter()
            .any(|(_, reason)| reason.contains("AIO"))
    );
}

#[test]
fn a_file_registered_and_closed_is_reported() {
    let program = Program::start("file_closed");
    assert_eq!(program.line, "0\n");
    let hazards = program.hazards();
    assert_eq!(hazards.unproven.len(), 1);
    // Old kernels tell the name only, and no path.
    let name = reasons(&hazards)[0].split(' ').next().unwrap();
    assert!(name == "ls" || name.ends_with("/ls"), "{hazards:?}");
}

#[test]
fn pins_of_a_ring_that_was_closed_elsewhere_are_not_explained() {
    // A child keeps the ring; the parent, whose memory is pinned, closes it.
    let program = Program::start("ring_closed");
    assert_eq!(program.line, "0\n");
    let hazards = program.hazards();
    let pinned = 2 * crate::procfs::base_page_size().bytes() / 1024;
    assert_eq!(
        reasons(&hazards),
        [format!(
            "{pinned} KiB are pinned for an unknown user (VmPin)"
        )]
    );
    assert_eq!(hazards.unproven[0].danger, Danger::EvenFrozen);
}

#[test]
fn sockets_and_devices() {
    let program = Program::start("sockets");
    if program.line == "-1\n" {
        eprintln!("skipped: no socket of AF_XDP to be had");
        return;
    }
    let hazards = program.hazards();
    assert_eq!(hazards.unproven.len(), 1);
    assert!(reasons(&hazards)[0].starts_with("AF_XDP"));
}

#[test]
fn a_thread_with_descriptors_of_its_own() {
    let program = Program::start("own_table");
    let hazards = program.hazards();
    assert!(
        hazards
            .pinned
            .iter()
            .any(|(_, reason)| reason.contains("registered")),
        "{hazards:?}"
    );
}

/// What is said of a program's shared memory by who takes the program itself for another one.
fn sharing(program: &Program) -> Vec<String> {
    let process = crate::procfs::Process::open(program.child.id()).unwrap();
    let mut mappings = Vec::new();
    let task = scan::living_task(&process).unwrap();
    task.maps(
        crate::procfs::base_page_size(),
        &mut Vec::new(),
        &mut mappings,
    )
    .unwrap();
    let mut others = Others::default();
    others.look(&mappings, &[]).unwrap();
    let named = format!("process {} ", program.child.id());
    let doubts = others.doubts(&mappings).into_iter();
    doubts
        .map(|doubt| doubt.reason)
        .filter(|reason| reason.starts_with(&named))
        .collect()
}

#[test]
fn a_writer_whose_first_thread_ended_is_found() {
    let program = Program::start("first_thread_shares");
    program.await_end_of_first_thread();
    let found = sharing(&program);
    assert!(
        found
            .iter()
            .any(|it| it.contains("can write to this shared memory too")),
        "{found:?}"
    );
}

#[test]
fn a_descriptor_in_a_table_of_a_threads_own_is_found() {
    let program = Program::start("own_table_holds");
    let found = sharing(&program);
    assert!(
        found.iter().any(|it| it.contains("by a descriptor")),
        "{found:?}"
    );
}

#[test]
fn a_first_thread_that_ended_hides_nothing() {
    let program = Program::start("first_thread");
    program.await_end_of_first_thread();
    let hazards = program.hazards();
    assert_eq!(reasons(&hazards), Vec::<&str>::new());
    assert_eq!(hazards.pinned.len(), 3, "{hazards:?}");
}
