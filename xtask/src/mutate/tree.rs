//! The copy of the workspace that faults are made in, and what is kept beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::examination::{self, Said};
use super::fault::Fault;
use super::page::End;
use crate::workspace::{Workspace, cargo};

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

    /// Builds the examination; tells whether it compiles. The model is built for a short build that
    /// is quick enough: it runs for half a minute and is built anew for each fault.
    pub(super) fn build(&self) -> Result<bool> {
        let mut command = self.cargo();
        for package in ["onionskin-mm", "onionskin-lab"] {
            let setting = format!("profile.dev.package.{package}.opt-level=1");
            command.args(["--config", &setting]);
        }
        command.args(["--config", "profile.dev.debug=false"]);
        command.args(["build", "--quiet", "--package", "onionskin-lab"]);
        command.args(["--example", "examine"]);
        let status = command
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("cargo could not be started")?;
        Ok(status.success())
    }

    /// Runs the examination as long as what is wrong is known.
    pub(super) fn examine(
        &self,
        seconds: u64,
        seed: u64,
        is_known: impl Fn(&str) -> bool,
    ) -> Result<Said> {
        let program = self.folder.join("target/debug/examples/examine");
        let arguments = [seconds, seed].map(|argument| argument.to_string());
        examination::run(Command::new(program).args(arguments), is_known)
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

    /// What the model without a fault showed in an earlier run of this name: how many steps were
    /// compared, and what was wrong.
    pub(super) fn baseline(&self, name: &str) -> Result<Option<Baseline>> {
        let text = read(&self.folder.join(format!("baseline-{name}.txt")))?;
        Ok(text.and_then(|text| Baseline::parse(&text)))
    }

    /// Notes that.
    pub(super) fn note_baseline(&self, name: &str, baseline: &Baseline) -> Result<()> {
        let path = self.folder.join(format!("baseline-{name}.txt"));
        fs::write(path, baseline.to_string()).context("keeping the baseline")
    }
}

/// What the model without a fault shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Baseline {
    /// How many steps were compared.
    pub(super) steps: u64,
    /// What was wrong: it counts for no fault.
    pub(super) wrong: BTreeSet<String>,
}

impl Baseline {
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        Some(Self {
            steps: lines.next()?.parse().ok()?,
            wrong: lines.map(str::to_owned).collect(),
        })
    }
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.steps)?;
        self.wrong.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_baseline_survives_the_file() {
        let baseline = Baseline {
            steps: 7,
            wrong: BTreeSet::from(["oracle pin: scan written".to_owned()]),
        };
        assert_eq!(Baseline::parse(&baseline.to_string()), Some(baseline));
        assert_eq!(Baseline::parse(""), None);
    }
}
