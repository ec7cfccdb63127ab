//! The probes on this kernel, beside what else tells of the same things.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use super::*;
use crate::procfs::{Process, RunState};

/// Set in the environment of the copy of this test program that runs as nobody.
const AS_NOBODY: &str = "ONIONSKIN_TEST_AS_NOBODY";
const NOBODY: u32 = 65534;

fn status(doctor: &Doctor, name: &str) -> Status {
    doctor.features[name].status
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Tells whether the running kernel was built with an option; `None` where it does not say.
fn config(option: &str) -> Option<bool> {
    let output = Command::new("gzip")
        .args(["-dc", "/proc/config.gz"])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let wanted = format!("{option}=y");
    output
        .status
        .success()
        .then(|| text.lines().any(|line| line == wanted))
}

#[test]
fn probes_agree_with_other_evidence() {
    let doctor = probe(None);
    for (feature, option) in [
        ("soft_dirty", "CONFIG_MEM_SOFT_DIRTY"),
        ("wp_async", "CONFIG_PTE_MARKER_UFFD_WP"),
        ("uffd_minor_hugetlbfs", "CONFIG_HAVE_ARCH_USERFAULTFD_MINOR"),
        ("io_uring", "CONFIG_IO_URING"),
    ] {
        if let Some(built) = config(option) {
            let works = status(&doctor, feature) == Status::Works;
            assert_eq!(works, built, "{feature} {:?}", doctor.features[feature]);
        }
    }
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap();
    assert_eq!(
        status(&doctor, "swap") == Status::Works,
        swaps.lines().count() > 1
    );
    for name in doctor.features.keys() {
        let Some(size) = name.strip_prefix("hugetlb_") else {
            continue;
        };
        let number = |file: &str| -> u64 {
            let path = format!("/sys/kernel/mm/hugepages/hugepages-{size}/{file}");
            let text = std::fs::read_to_string(path).unwrap();
            text.trim().parse().unwrap()
        };
        // What others have reserved is free only until they touch it.
        if number("free_hugepages") > number("resv_hugepages") {
            assert_eq!(status(&doctor, name), Status::Works, "{name}");
        }
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(doctor.kernel, release.trim());
    assert_eq!(doctor.arch, std::env::consts::ARCH);
    assert_eq!(doctor.strategies["freeze"].status, Status::Works);
    for finding in doctor.features.values() {
        assert!(!finding.why.is_empty());
        assert!(
            finding.is_good() || !finding.why.contains("no child"),
            "{finding:?}"
        );
    }
    if is_root() {
        for name in [
            "userfaultfd",
            "userfaultfd_user_mode",
            "seccomp_read",
            "seccomp_suspend",
        ] {
            assert_eq!(
                status(&doctor, name),
                Status::Works,
                "{:?}",
                doctor.features[name]
            );
        }
    }
}

#[test]
fn nothing_is_left_behind() {
    let task = rustix::thread::gettid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs();
    let own = Process::open(std::process::id()).unwrap();
    probe(None);
    assert_eq!(own.children(task).unwrap(), Vec::<u32>::new());
    let masked = own.task(task).unwrap().status().unwrap().signals.blocked;
    assert_eq!(masked, 0, "the signal mask is as before");
}

#[test]
fn the_shape_of_the_json() {
    let json = serde_json::to_value(probe(Some(std::process::id()))).unwrap();
    let keys = |value: &serde_json::Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        keys(&json),
        [
            "arch",
            "features",
            "kernel",
            "page_size",
            "process",
            "strategies"
        ]
    );
    assert_eq!(keys(&json["strategies"]), ["fork", "freeze", "precopy"]);
    assert_eq!(keys(&json["strategies"]["fork"]), ["status", "why"]);
    let wanted = [
        "dev_userfaultfd",
        "io_uring",
        "pagemap_scan",
        "pagemap_scan_wp_matching",
        "pidfd_getfd",
        "process_vm_readv",
        "ptrace",
        "seccomp_read",
        "seccomp_suspend",
        "soft_dirty",
        "swap",
        "thp",
        "uffd_wp_async",
        "unprivileged_userfaultfd",
        "userfaultfd",
        "userfaultfd_user_mode",
        "wp_async",
        "yama_ptrace_scope",
    ];
    let features = keys(&json["features"]);
    for name in wanted {
        assert!(
            features.iter().any(|feature| feature == name),
            "{name} in {features:?}"
        );
    }
    for feature in json["features"].as_object().unwrap().values() {
        assert_eq!(keys(feature), ["fix", "status", "why"]);
        let status = feature["status"].as_str().unwrap();
        assert!(["works", "missing", "denied"].contains(&status), "{status}");
        assert!(status == "works" || feature["fix"].is_string(), "{feature}");
    }
    for row in json["process"].as_array().unwrap() {
        assert_eq!(keys(row), ["fix", "name", "status", "why"]);
        assert!(row["status"] == "works" || row["fix"].is_string(), "{row}");
    }
    let without = serde_json::to_value(probe(None)).unwrap();
    assert!(without.get("process").is_none());
}

#[test]
fn without_privilege_less_is_allowed() {
    if std::env::var_os(AS_NOBODY).is_some() {
        return as_nobody();
    }
    if !is_root() {
        eprintln!("skipped: it takes root to become nobody");
        return;
    }
    // The program itself may lie where nobody may look.
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("tests");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    for path in [directory.path(), &program] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let output = Command::new(&program)
        .args([
            "--exact",
            "doctor::tests::without_privilege_less_is_allowed",
            "--nocapture",
        ])
        .env(AS_NOBODY, "1")
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

fn as_nobody() {
    let doctor = probe(Some(1));
    for name in ["seccomp_read", "seccomp_suspend"] {
        assert_eq!(
            status(&doctor, name),
            Status::Denied,
            "{:?}",
            doctor.features[name]
        );
        assert!(doctor.features[name].fix.is_some());
    }
    for name in [
        "ptrace",
        "process_vm_readv",
        "pidfd_getfd",
        "userfaultfd_user_mode",
    ] {
        assert_eq!(
            status(&doctor, name),
            Status::Works,
            "{:?}",
            doctor.features[name]
        );
    }
    let sysctl = std::fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd").unwrap();
    let all = if sysctl.trim() == "1" {
        Status::Works
    } else {
        Status::Denied
    };
    assert_eq!(status(&doctor, "userfaultfd"), all);
    assert_eq!(status(&doctor, "unprivileged_userfaultfd"), all);
    let rows = doctor.process.unwrap();
    assert_eq!(row(&rows, "user").status, Status::Denied);
    assert!(rows.iter().all(|row| row.name != "pinned"));
}

fn row<'a>(rows: &'a [Row], name: &str) -> &'a Finding {
    let found = rows.iter().find(|row| row.name == name);
    &found
        .unwrap_or_else(|| panic!("{name} in {rows:?}"))
        .finding
}

fn rows(pid: u32) -> Vec<Row> {
    process::examine(pid)
}

/// A child that is ended with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn sleeper() -> Killed {
    let child = Killed(Command::new("sleep").arg("1000").spawn().unwrap());
    let process = Process::open(child.0.id()).unwrap();
    while process.stat().unwrap().name != "sleep" {
        std::thread::yield_now();
    }
    child
}

/// Runs a case of `tests/programs/doctor.c`, which prints a line and goes on.
fn program(case: &str) -> Killed {
    let directory = tempfile::tempdir().unwrap();
    let mut child = Killed(
        Command::new(crate::programs::program("doctor", directory.path()))
            .arg(case)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    child
}

#[test]
fn a_plain_process_has_nothing_in_the_way() {
    let child = sleeper();
    let rows = rows(child.0.id());
    for name in [
        "tracer",
        "seccomp_track",
        "program",
        "pinned",
        "vfork",
        "shared_memory",
    ] {
        let finding = row(&rows, name);
        // Whoever runs the tests may have filtered them.
        assert!(
            finding.is_good() || name == "seccomp_track",
            "{name}: {finding:?}"
        );
    }
}

#[test]
fn what_has_no_memory() {
    let mut child = Command::new("true").stdout(Stdio::piped()).spawn().unwrap();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_end(&mut Vec::new())
        .unwrap();
    let process = Process::open(child.id()).unwrap();
    while process.stat().unwrap().state != RunState::Zombie {
        std::thread::yield_now();
    }
    assert_eq!(row(&rows(child.id()), "zombie").status, Status::Missing);
    child.wait().unwrap();
    assert_eq!(row(&rows(child.id()), "process").status, Status::Missing);
    let thread = rustix::thread::gettid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs();
    assert_ne!(thread, std::process::id(), "tests run in threads");
    assert!(row(&rows(thread), "process").why.contains("is a thread of"));
    let kernel = Process::open(2).and_then(|process| process.stat());
    if kernel.is_ok_and(|stat| stat.is_kernel_thread()) {
        assert_eq!(row(&rows(2), "kernel_thread").status, Status::Missing);
    } else {
        eprintln!("skipped: doctor::tests::what_has_no_memory/kernel_thread: none is to be seen");
    }
}

#[test]
fn a_tracer_is_named() {
    let child = sleeper();
    crate::raw::ptrace::seize(child.0.id()).unwrap();
    let rows = rows(child.0.id());
    let tracer = row(&rows, "tracer");
    assert_eq!(tracer.status, Status::Denied);
    let own = rustix::thread::gettid().as_raw_nonzero();
    assert!(
        tracer.why.contains(&format!("process {own} ")),
        "{tracer:?}"
    );
}

#[test]
fn a_vfork_in_flight_is_seen_from_both_sides() {
    let parent = program("vfork");
    let pid = parent.0.id();
    let process = Process::open(pid).unwrap();
    while process.stat().unwrap().state != RunState::Uninterruptible {
        std::thread::yield_now();
    }
    let [child] = process.children(pid).unwrap()[..] else {
        panic!("one child");
    };
    let (parents, children) = (rows(pid), rows(child));
    assert!(
        row(&parents, "vfork")
            .why
            .contains(&format!("vfork child {child}"))
    );
    assert!(
        row(&parents, "shared_memory")
            .why
            .contains(&child.to_string())
    );
    assert_eq!(row(&parents, "uninterruptible").status, Status::Denied);
    assert!(row(&children, "vfork").why.contains("is a vfork child"));
}

#[test]
fn filters_and_userfaultfds_of_its_own_are_seen() {
    let child = program("filter");
    let rows = rows(child.0.id());
    for name in ["seccomp_track", "seccomp_fork", "seccomp_reap"] {
        assert!(row(&rows, name).why.contains("filters"), "{rows:?}");
        assert_eq!(row(&rows, name).is_good(), is_root(), "{rows:?}");
    }
    assert_eq!(row(&rows, "userfaultfd").status, Status::Denied);
}

#[test]
fn a_filter_that_kills_one_call_leaves_the_others() {
    if !is_root() {
        println!("skipped: it takes root to read filters");
        return;
    }
    let child = program("kills_userfaultfd");
    let doctor = probe(Some(child.0.id()));
    let rows = doctor.process.unwrap();
    let track = row(&rows, "seccomp_track");
    assert_eq!(track.status, Status::Denied);
    assert!(track.why.contains("userfaultfd"), "{track:?}");
    for name in ["seccomp_fork", "seccomp_reap"] {
        assert!(row(&rows, name).is_good(), "{rows:?}");
    }
    let strategies = doctor.strategies;
    assert_eq!(strategies["fork"].status, Status::Works, "{strategies:?}");
    let precopy = &strategies["precopy"];
    let by_bits = doctor.features["soft_dirty"].is_good();
    assert_eq!(precopy.status == Status::Works, by_bits, "{precopy:?}");
}

/// A 32-bit program that only waits: `pause` by `int 0x80`, for ever.
#[cfg(target_arch = "x86_64")]
fn thirty_two_bit() -> Vec<u8> {
    let mut file = b"\x7fELF\x01\x01\x01".to_vec();
    file.resize(16, 0);
    let mut words = |words: &[u32]| file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    let base = 0x0804_8000;
    words(&[0x0003_0002, 1, base + 84, 52, 0, 0]);
    words(&[0x0020_0034, 0x0028_0001, 0]);
    words(&[1, 0, base, base, 96, 96, 5, 0x1000]);
    file.extend([0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7, 0x90, 0x90, 0x90]);
    file
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_32_bit_program_is_seen() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("small");
    std::fs::write(&path, thirty_two_bit()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let child = match Command::new(&path).spawn() {
        Ok(child) => Killed(child),
        Err(error) => {
            eprintln!("skipped: this kernel runs no 32-bit programs: {error}");
            return;
        }
    };
    assert!(row(&rows(child.0.id()), "program").why.contains("32-bit"));
}
