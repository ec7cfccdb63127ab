//! Real processes with real rings: small C programs, built here, since a process of our own
//! would bring Rust's runtime into the picture.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use space::{PageRange, Vaddr};

use super::*;

/// A program that says a line and waits to be killed.
struct Program {
    child: Child,
    line: String,
}

impl Program {
    /// Builds `body` as the inside of `main`, and runs it until it has written a line.
    fn start(body: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (source, binary) = (directory.path().join("p.c"), directory.path().join("p"));
        std::fs::write(&source, format!("{}{body}{END}", include_str!("tests.c"))).unwrap();
        let built = Command::new("gcc")
            .args(["-w", "-O1", "-pthread", "-o"])
            .args([&binary, &source])
            .status()
            .unwrap();
        assert!(built.success());
        let mut child = Command::new(&binary)
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

    /// The addresses that the program printed.
    fn addresses(&self) -> Vec<u64> {
        self.line
            .split_whitespace()
            .filter_map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok())
            .collect()
    }
}

const END: &str = "\nfflush(stdout); for (;;) pause(); }\n";

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
    let program = Program::start("printf(\"0x%lx\\n\", (long)map(1 << 20));");
    assert_eq!(program.hazards(), Hazards::default());
}

#[test]
fn registered_buffers_are_exact_ranges() {
    let program = Program::start(
        "int ring = setup(0); map_ring(ring); char *a = map(1 << 16);
         struct iovec two[] = {{a, 8192}, {a + 16384 + 100, 5000}};
         printf(\"0x%lx %d\\n\", (long)a, io_register(ring, 0, two, 2));",
    );
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
fn a_ring_that_is_not_mapped_is_reported() {
    let program = Program::start("printf(\"%d\\n\", setup(0));");
    let hazards = program.hazards();
    assert_eq!(hazards.unproven.len(), 1);
    assert!(reasons(&hazards)[0].contains("mapped nowhere"));
}

#[test]
fn a_poller_is_reported() {
    let program = Program::start("int ring = setup(2); map_ring(ring); printf(\"%d\\n\", ring);");
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
    let open = "int f = open(\"/bin/ls\", O_RDONLY | O_DIRECT);";
    let program = Program::start(&format!("{open} printf(\"%d\\n\", f);"));
    if program.line == "-1\n" {
        eprintln!("skipped: the file system of /bin has no direct I/O");
        return;
    }
    let hazards = program.hazards();
    assert_eq!(hazards.unproven.len(), 1);
    assert_eq!(hazards.unproven[0].danger, Danger::WhileTracked);
    let aio = Program::start(&format!(
        "{open} unsigned long c = 0; printf(\"%d\\n\", (int)syscall(SYS_io_setup, 8, &c));"
    ));
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
    let program = Program::start(
        "int ring = setup(0); map_ring(ring); int f = open(\"/bin/ls\", O_RDONLY);
         int g = open(\"/etc/passwd\", O_RDONLY); int both[] = {f, g};
         int r = io_register(ring, 2, both, 2); close(f); printf(\"%d\\n\", r);",
    );
    assert_eq!(program.line, "0\n");
    let hazards = program.hazards();
    assert_eq!(hazards.unproven.len(), 1);
    assert!(
        reasons(&hazards)[0].contains("/ls is registered"),
        "{hazards:?}"
    );
}

#[test]
fn pins_of_a_ring_that_was_closed_elsewhere_are_not_explained() {
    // A child keeps the ring; the parent, whose memory is pinned, closes it.
    let program = Program::start(
        "int ring = setup(0); char *a = map(1 << 16); struct iovec one = {a, 8192};
         int r = io_register(ring, 0, &one, 1);
         if (fork() == 0) { die_with_parent(); for (;;) pause(); }
         close(ring); printf(\"%d\\n\", r);",
    );
    assert_eq!(program.line, "0\n");
    let hazards = program.hazards();
    assert_eq!(
        reasons(&hazards),
        ["8 KiB are pinned for an unknown user (VmPin)"]
    );
    assert_eq!(hazards.unproven[0].danger, Danger::EvenFrozen);
}

#[test]
fn sockets_and_devices() {
    let program = Program::start(
        "printf(\"%d\\n\", socket(AF_XDP, SOCK_RAW, 0)); socket(AF_INET, SOCK_STREAM, 0);",
    );
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
    let program = Program::start(
        "pthread_t t; pthread_create(&t, 0, own_table, 0); while (!ready) usleep(1000);
         printf(\"%d\\n\", ready);",
    );
    let hazards = program.hazards();
    assert!(
        hazards
            .pinned
            .iter()
            .any(|(_, reason)| reason.contains("registered")),
        "{hazards:?}"
    );
}

#[test]
fn a_first_thread_that_ended_hides_nothing() {
    let program = Program::start(
        "int ring = setup(0); map_ring(ring); struct iovec one = {map(1 << 16), 8192};
         io_register(ring, 0, &one, 1); pthread_t t; pthread_create(&t, 0, waits, 0);
         printf(\"x\\n\"); fflush(stdout); syscall(SYS_exit, 0);",
    );
    let first = crate::procfs::Process::open(program.child.id()).unwrap();
    while first.stat().unwrap().state != crate::procfs::RunState::Zombie {
        std::thread::yield_now();
    }
    let hazards = program.hazards();
    assert_eq!(reasons(&hazards), Vec::<&str>::new());
    assert_eq!(hazards.pinned.len(), 3, "{hazards:?}");
}

#[test]
fn processes_with_one_memory_find_each_other() {
    let program = Program::start(
        "static char stack[1 << 16];
         int c = clone(waits_as_child, stack + sizeof stack, CLONE_VM, 0);
         if (fork() == 0) { die_with_parent(); for (;;) pause(); }
         printf(\"%d\\n\", c);",
    );
    let child: u32 = program.line.trim().parse().unwrap();
    let pid = program.child.id();
    let (from_parent, from_child) = (memory_sharers(pid), memory_sharers(child));
    crate::raw::process::kill(child).unwrap();
    assert_eq!(from_parent, Ok(vec![child]));
    assert_eq!(from_child, Ok(vec![pid]));
}
