//! The copy of the workspace that faults are made in, and what is kept beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::fault::Fault;
use super::page::End;
use crate::process;
use crate::workspace::{Workspace, cargo};

/// How long an examination may take beside its random programs.
const PATIENCE: Duration = Duration::from_secs(120);

/// A copy of the workspace.
pub(super) struct Tree {
    /// What is kept: the copy, results, and a target directory of its own.
    folder: PathBuf,
}

impl Tree {
    /// Copies every file of the workspace.
    pub(super) fn new(workspace: &Workspace) -> Result<Self> {
        let folder = workspace.target.join("mutate");
        let tree = Self { folder };
        workspace.copy_to(&tree.copy(), tree.folder.join("target"))?;
        Ok(tree)
    }

    fn copy(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// Makes a fault.
    pub(super) fn apply(&self, fault: &Fault) -> Result<()> {
        self.patch(fault, &["apply", "-p1", "-"])
    }

    /// Takes a fault back.
    pub(super) fn undo(&self, fault: &Fault) -> Result<()> {
        self.patch(fault, &["apply", "-p1", "--reverse", "-"])
    }

    fn patch(&self, fault: &Fault, arguments: &[&str]) -> Result<()> {
        let mut git = Command::new("git")
            .args(arguments)
            .current_dir(self.copy())
            // The copy lies in a repository that has nothing to do with it.
            .env("GIT_CEILING_DIRECTORIES", &self.folder)
            .stdin(Stdio::piped())
            .spawn()
            .context("git could not be started")?;
        let mut input = git.stdin.take().context("a pipe to git")?;
        input.write_all(fault.patch.as_bytes())?;
        drop(input);
        if !git.wait()?.success() {
            bail!("the patch of '{}' does not apply", fault.name);
        }
        Ok(())
    }

    fn cargo(&self) -> Command {
        let mut command = cargo();
        command
            .current_dir(self.copy())
            .env("CARGO_TARGET_DIR", self.folder.join("target"))
            .env("CARGO_INCREMENTAL", "1");
        command
    }

    /// Builds the examination; tells whether it compiles.
    pub(super) fn build(&self) -> Result<bool> {
        let mut command = self.cargo();
        command.args(["build", "--quiet", "--package", "onionskin-lab"]);
        command.args(["--example", "examine"]);
        let status = command
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("cargo could not be started")?;
        Ok(status.success())
    }

    /// Runs the examination as long as its lines are known. Returns its lines, or nothing if it does
    /// not come to its end.
    pub(super) fn examine(
        &self,
        seconds: u64,
        seed: u64,
        is_known: impl Fn(&str) -> bool,
    ) -> Result<Option<Vec<String>>> {
        let program = self.folder.join("target/debug/examples/examine");
        let mut child = Command::new(program)
            .args([seconds.to_string(), seed.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("the examination could not be started")?;
        let output = child.stdout.take().context("a pipe from the examination")?;
        let (sender, receiver) = mpsc::channel();
        let reader = thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let deadline = Instant::now() + PATIENCE + Duration::from_secs(seconds);
        let mut lines: Vec<String> = Vec::new();
        let ended = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match receiver.recv_timeout(left) {
                Ok(line) => {
                    let goes_on = is_known(&line);
                    lines.push(line);
                    if !goes_on {
                        break true;
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) => break false,
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    break lines.last().is_some_and(|last| last.starts_with("done "));
                }
            }
        };
        process::kill_tree(child.id());
        child.wait()?;
        drop(receiver);
        reader.join().expect("the reader does not panic");
        Ok(ended.then_some(lines))
    }

    /// What is known of faults from an earlier run of this name.
    pub(super) fn results(&self, name: &str) -> Result<BTreeMap<String, End>> {
        let text = read(&self.folder.join(format!("results-{name}.txt")))?.unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once('\t'));
        Ok(lines
            .filter_map(|(fault, end)| Some((fault.to_owned(), End::parse(end)?)))
            .collect())
    }

    /// Notes what became of a fault.
    pub(super) fn note(&self, name: &str, fault: &str, end: &End) -> Result<()> {
        let mut file = fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.join(format!("results-{name}.txt")))?;
        writeln!(file, "{fault}\t{end}")?;
        Ok(())
    }

    /// What the model without a fault showed in an earlier run of this name.
    pub(super) fn baseline(&self, name: &str) -> Result<Option<BTreeSet<String>>> {
        let text = read(&self.folder.join(format!("baseline-{name}.txt")))?;
        Ok(text.map(|text| text.lines().map(str::to_owned).collect()))
    }

    /// Notes that.
    pub(super) fn note_baseline(&self, name: &str, lines: &[String]) -> Result<()> {
        let path = self.folder.join(format!("baseline-{name}.txt"));
        fs::write(path, lines.join("\n")).context("keeping the baseline")
    }
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}
