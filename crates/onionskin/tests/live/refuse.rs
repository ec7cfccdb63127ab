//! Processes that can't be worked on, or not in every way: right behaviour, or a clear error
//! before anything was touched.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use onionskin::{Error, Strategy};
use sys::OpenError;

use crate::common::{
    Ended, STRATEGIES, Target, Tool, ask, build, build_32_bit, chain, number, pages_of, skip,
};

/// An unprivileged user that every system has.
const NOBODY: u32 = 65534;

fn refusal(pid: u32) -> String {
    match Tool::attach(pid) {
        Ok(_) => panic!("process {pid} was opened"),
        Err(error) => chain(&error),
    }
}

#[test]
fn a_process_that_is_not_there() {
    let mut gone = Command::new("true").spawn().unwrap();
    let pid = gone.id();
    gone.wait().unwrap();
    assert!(refusal(pid).contains(&pid.to_string()));
}

#[test]
fn a_kernel_thread() {
    // Number 2 makes kernel threads, unless process ids are our own.
    let is_kernel = std::fs::read_to_string("/proc/2/comm").is_ok_and(|name| name == "kthreadd\n");
    if !is_kernel {
        skip("none is to be seen here");
        return;
    }
    let error = refusal(2);
    assert!(error.contains("kernel"), "{error}");
}

#[test]
fn ourselves() {
    refusal(std::process::id());
}

#[test]
fn a_zombie() {
    let mut target = Target::start("kin", &["--mode", "zombie"]);
    refusal(target.pid());
    assert_eq!(target.ask("report")["state"], "Z");
    assert_eq!(target.finish(), Ended::Exit(0));
}

#[test]
fn somebody_elses_tracee() {
    let mut target = Target::start("kin", &["--mode", "traced"]);
    let error = match Tool::attach(target.pid()) {
        Err(error) => chain(&error),
        // Opening may be fine where it takes no ptrace; the snapshot can't be.
        Ok(mut tool) => match tool.take(Strategy::Auto) {
            Err(error) => chain(&error),
            Ok(_) => panic!("a traced process was stopped"),
        },
    };
    assert!(error.contains("trace"), "{error}");
    target.must_advance("count");
    assert_eq!(target.finish(), Ended::Exit(0));
}

#[test]
fn a_32_bit_process() {
    let binary = match build_32_bit("bits32") {
        Ok(binary) => binary,
        Err(error) => {
            skip(error.lines().next().unwrap_or("cc has no -m32"));
            return;
        }
    };
    let mut target = Target::run(&mut Command::new(binary));
    assert_eq!(number(&target.ask("go"), "count"), 1);
    for strategy in STRATEGIES {
        match Tool::attach(target.pid()).and_then(|mut tool| tool.take(strategy)) {
            Ok((report, _)) => assert!(report.pages_total > 0),
            Err(error) => assert!(chain(&error).contains("32"), "{}", chain(&error)),
        }
    }
    assert_eq!(number(&target.ask("go"), "count"), 2);
    assert_eq!(target.finish(), Ended::Exit(0));
}

#[test]
fn a_vfork_child() {
    let mut target = Target::start("kin", &["--mode", "vfork"]);
    for strategy in STRATEGIES {
        // Its parent waits where nothing stops it, and shares the memory.
        let taken = match Tool::attach(target.pid()) {
            Ok(tool) if !tool.can(strategy) => continue,
            attached => attached.and_then(|mut tool| tool.take(strategy)),
        };
        let error = match taken {
            Err(error @ Error::Open(OpenError::Vfork { .. })) => chain(&error),
            Err(error) => panic!("{strategy:?}: it was touched: {}", chain(&error)),
            Ok(_) => panic!("{strategy:?}: a snapshot while its parent could not be stopped"),
        };
        let names_it = error.contains(&format!("child {}", target.pid()));
        assert!(names_it && error.contains("vfork"), "{strategy:?}: {error}");
        // Let go, it runs for a moment before it waits again.
        let until = Instant::now() + Duration::from_secs(20);
        while target.ask("report")["state"] != "S" {
            assert!(
                Instant::now() < until,
                "it does not wait after {strategy:?}"
            );
        }
    }
}

#[test]
fn a_sibling_that_shares_the_memory_stands_still_too() {
    let mut target = Target::start("kin", &["--mode", "clonevm"]);
    for strategy in STRATEGIES {
        for _ in 0..5 {
            let mut tool = Tool::on(&target);
            if !tool.can(strategy) {
                break;
            }
            let (_, snapshot) = tool.must(&ask(strategy));
            let pages = pages_of(&snapshot);
            let x = pages.word(target.number("x")).unwrap();
            let y = pages.word(target.number("y")).unwrap();
            assert!(x == y || x == y + 1, "{strategy:?}: {x} and {y}");
        }
        target.must_advance("x");
    }
    assert_eq!(target.finish(), Ended::Exit(0));
}

/// What a test that runs without privilege is started with: the process to try.
const TRY: &str = "ONIONSKIN_TEST_TRY";

/// Not a test: the body of a process that runs as another user, told so by its environment.
#[test]
fn body_of_the_unprivileged() {
    let Ok(pid) = std::env::var(TRY) else { return };
    let taken = Tool::attach(pid.parse().unwrap()).and_then(|mut tool| {
        tool.take(Strategy::Auto)?;
        tool.take(Strategy::Auto)
    });
    match taken {
        Ok((report, _)) => println!("taken: {}", report.strategy.name()),
        Err(error) => println!("refused: {}", chain(&error)),
    }
}

/// A directory that everyone can enter, with a copy of a program.
struct Open(tempfile::TempDir);

impl Open {
    fn with(program: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        std::fs::copy(program, directory.path().join("program")).unwrap();
        Self(directory)
    }

    /// Returns a command that runs the program as nobody.
    fn command(&self) -> Command {
        let mut command = Command::new(self.0.path().join("program"));
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
        command
    }
}

/// Runs the body above as nobody, and returns what it printed.
fn as_nobody(pid: u32) -> String {
    let ourselves = Open::with(&std::env::current_exe().unwrap());
    let output = ourselves
        .command()
        .args(["--exact", "refuse::body_of_the_unprivileged", "--nocapture"])
        .env(TRY, pid.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let answer = text.lines().find_map(|line| {
        let at = line.find("taken: ").or_else(|| line.find("refused: "))?;
        Some(line[at..].to_owned())
    });
    answer.unwrap_or_else(|| panic!("{text} {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn another_users_process() {
    if !rustix::process::geteuid().is_root() {
        skip("it takes root to be somebody else");
        return;
    }
    let mut ours = Target::start("bank", &["--mib", "1", "--rate", "1000"]);
    let answer = as_nobody(ours.pid());
    assert!(answer.starts_with("refused: "), "{answer}");
    let clear = "runs as user 0: run as that user, or as root";
    assert!(answer.contains(clear), "{answer}");
    number(&ours.ask("check"), "transfers");
    assert_eq!(ours.finish(), Ended::Exit(0));
}

#[test]
fn ones_own_process_without_privilege() {
    if !rustix::process::geteuid().is_root() {
        skip("it takes root to be somebody else");
        return;
    }
    let yama = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    if yama.is_ok_and(|scope| scope.trim() != "0") {
        skip("kernel.yama.ptrace_scope is not 0");
        return;
    }
    let bank = Open::with(&build("bank"));
    let mut theirs = Target::run(bank.command().args(["--mib", "1", "--rate", "1000"]));
    let answer = as_nobody(theirs.pid());
    println!("as nobody: {answer}");
    assert!(answer.starts_with("taken: "), "{answer}");
    number(&theirs.ask("check"), "transfers");
    assert_eq!(theirs.finish(), Ended::Exit(0));
}
