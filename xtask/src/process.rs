//! Other programs: finding them, running them, ending what a run left behind.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Prints a command as a person would type it, runs it without standard input, and fails if it
/// does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    announce(command);
    let program = command.get_program().display().to_string();
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("{program} could not be started"))?;
    if !status.success() {
        bail!("{program} ended with {status}");
    }
    Ok(())
}

/// Runs a command without standard input; what it prints is shown only if it fails.
pub(crate) fn run_quietly(command: &mut Command) -> Result<()> {
    let program = command.get_program().display().to_string();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{program} could not be started"))?;
    if !output.status.success() {
        eprint!("{}", String::from_utf8_lossy(&output.stdout));
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        bail!("{program} ended with {}", output.status);
    }
    Ok(())
}

/// Runs a command quietly and returns its standard output, or nothing if it could not be started
/// or failed.
pub(crate) fn output_of(command: &mut Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Prints the command on standard error, the way a shell traces one.
pub(crate) fn announce(command: &Command) {
    let mut line = command.get_program().display().to_string();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    eprintln!("+ {line}");
}

/// Finds a program in `PATH`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    find_in(program, &std::env::var_os("PATH")?)
}

/// Finds a program in a list of folders written as `PATH` is.
pub(crate) fn find_in(program: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path)
        .map(|folder| folder.join(program))
        .find(|candidate| is_executable(candidate))
}

/// Tells whether the file exists and may be executed by somebody.
pub(crate) fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// Tells whether this process runs as root.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|data| data.uid() == 0)
}

/// Kills a process and all its descendants, by their ids. They are stopped from the top down
/// first, so that none can start another while the tree is read.
pub(crate) fn kill_tree(root: u32) {
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(&pid) = tree.get(next) {
        signal("-STOP", pid);
        tree.extend(children_of(pid));
        next += 1;
    }
    for pid in tree {
        signal("-KILL", pid);
    }
}

fn signal(name: &str, pid: u32) {
    // A process that has ended meanwhile is no error.
    let _ = Command::new("kill")
        .args([name, &pid.to_string()])
        .stderr(Stdio::null())
        .status();
}

fn children_of(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|id| id.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_program_that_every_machine_has() {
        let shell = find_in("sh", OsStr::new("/nowhere:/usr/bin:/bin")).unwrap();
        assert!(shell.ends_with("bin/sh"));
        assert_eq!(find_in("sh", OsStr::new("/nowhere")), None);
        assert_eq!(
            find_in("passwd", OsStr::new("/etc")),
            None,
            "not executable"
        );
    }

    #[test]
    fn output_of_a_failing_command_is_nothing() {
        assert_eq!(
            output_of(Command::new("echo").arg("a")).as_deref(),
            Some("a\n")
        );
        assert_eq!(output_of(&mut Command::new("false")), None);
        assert_eq!(
            output_of(&mut Command::new("no-such-program-anywhere")),
            None
        );
    }

    #[test]
    fn kills_children_too() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 600 & wait"])
            .spawn()
            .unwrap();
        let mut kids = Vec::new();
        while kids.is_empty() {
            kids = children_of(shell.id());
        }
        kill_tree(shell.id());
        assert!(!shell.wait().unwrap().success());
        // The orphan takes a moment to die, and longer to be reaped.
        let stat = format!("/proc/{}/stat", kids[0]);
        let is_alive = || {
            fs::read_to_string(&stat).is_ok_and(|text| {
                text.contains("(sleep)") && !text.contains(") Z") && !text.contains(") X")
            })
        };
        while is_alive() {
            std::thread::yield_now();
        }
    }
}
