//! The copy of the workspace that faults are made in, and what is kept beside it.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
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
    /// The copy, and a target directory of its own.
    folder: PathBuf,
    /// What is kept of these very sources: programs and results.
    state: PathBuf,
}

/// The examination of the model with a fault.
pub(super) struct Built {
    /// The fault's name.
    pub(super) name: String,
    program: PathBuf,
}

impl Tree {
    /// Copies every file of the workspace. What was kept of other sources or of another seed goes.
    pub(super) fn new(workspace: &Workspace, seed: u64) -> Result<Self> {
        let folder = workspace.target.join("mutate");
        workspace.copy_to(&folder.join("tree"), folder.join("target"))?;
        let name = format!("{:016x}-{seed}", stamp(workspace)?);
        let kept = folder.join("kept");
        let state = kept.join(&name);
        if kept.exists() && !state.exists() {
            fs::remove_dir_all(&kept)?;
        }
        fs::create_dir_all(state.join("bin"))?;
        Ok(Self { folder, state })
    }

    fn copy(&self) -> PathBuf {
        self.folder.join("tree")
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

    /// Builds the examination of the model as it is, and of the model with each fault, until `most`
    /// of them compile; tells which do. What an earlier run built is left alone. Nothing is examined
    /// meanwhile, so that each gets the whole machine.
    pub(super) fn build(&self, faults: &[Fault], most: usize) -> Result<Vec<Built>> {
        let base = self.program("base");
        if !base.exists() && !self.compile(&base)? {
            bail!("the workspace does not build without a fault");
        }
        let mut built = Vec::new();
        for (number, fault) in faults.iter().enumerate() {
            if built.len() >= most {
                break;
            }
            let program = self.program(&number.to_string());
            // An empty file is one that did not compile.
            if !program.exists() {
                self.patch(fault, &["apply", "-p1", "-"])?;
                let compiles = self.compile(&program)?;
                self.patch(fault, &["apply", "-p1", "--reverse", "-"])?;
                if !compiles {
                    fs::write(&program, "")?;
                }
            }
            if fs::metadata(&program)?.len() > 0 {
                built.push(Built {
                    name: fault.name.clone(),
                    program,
                });
            }
            println!("{} of {most} built", built.len());
        }
        Ok(built)
    }

    fn program(&self, name: &str) -> PathBuf {
        self.state.join("bin").join(name)
    }

    /// Builds the copy as it is; tells whether it compiles. Optimised, as an `oracle run` is, but in
    /// many parts, of which a fault changes few.
    fn compile(&self, program: &Path) -> Result<bool> {
        let settings = ["debug=false", "incremental=true", "codegen-units=256"];
        let status =
            cargo()
                .current_dir(self.copy())
                .env("CARGO_TARGET_DIR", self.folder.join("target"))
                .args(settings.iter().flat_map(|setting| {
                    ["--config".to_owned(), format!("profile.release.{setting}")]
                }))
                .args([
                    "build",
                    "--release",
                    "--quiet",
                    "--package",
                    "onionskin-lab",
                ])
                .args(["--example", "examine"])
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .context("cargo could not be started")?;
        if !status.success() {
            return Ok(false);
        }
        let from = self.folder.join("target/release/examples/examine");
        fs::copy(&from, program).with_context(|| format!("copying {}", from.display()))?;
        Ok(true)
    }

    /// Runs the examination of the model with a fault until something is wrong.
    pub(super) fn examine(&self, built: &Built, seconds: u64, seed: u64) -> Result<End> {
        let found = self.state.join("found.txt");
        let said = run(&built.program, seconds, seed, &found)?;
        Ok(match (said.wrong, said.broke) {
            (Some(line), _) if line.starts_with("oracle ") && self.parts_anyway(&found)? => {
                End::Survived
            }
            (Some(line), _) => End::Found(line),
            (None, Some(how)) => End::Broke(how),
            (None, None) => End::Survived,
        })
    }

    /// Tells whether a program diverges without a fault, too: then it has found none.
    fn parts_anyway(&self, found: &Path) -> Result<bool> {
        let mut replay = Command::new(self.program("base"));
        let status = replay.arg("replay").arg(found).status()?;
        match status.code() {
            Some(0) => Ok(false),
            Some(1) => {
                println!("{} diverges without a fault, too", found.display());
                Ok(true)
            }
            _ => bail!("{} could not be run without a fault", found.display()),
        }
    }

    /// How many steps the examination of the model without a fault compares.
    ///
    /// # Errors
    ///
    /// Fails if anything but a random program is wrong with it.
    pub(super) fn steps(&self, seconds: u64, seed: u64) -> Result<u64> {
        let said = run(
            &self.program("base"),
            seconds,
            seed,
            &self.state.join("base.txt"),
        )?;
        match said {
            Said {
                wrong: Some(line), ..
            } => bail!("without a fault: {line}"),
            Said {
                broke: Some(how), ..
            } => bail!("the examination without a fault {how}"),
            Said { steps, .. } if steps > 0 => Ok(steps),
            Said { .. } => bail!("no program could be compared: see `onionskin oracle run`"),
        }
    }

    /// What is known of faults from an earlier run of this name.
    pub(super) fn results(&self, name: &str) -> Result<BTreeMap<String, End>> {
        let text = read(&self.state.join(name))?.unwrap_or_default();
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
            .open(self.state.join(name))?;
        writeln!(file, "{fault}\t{end}")?;
        Ok(())
    }
}

fn run(program: &Path, seconds: u64, seed: u64, found: &Path) -> Result<Said> {
    let mut command = Command::new(program);
    command.args([seconds, seed].map(|argument| argument.to_string()));
    examination::run(command.arg(found))
}

/// A number that says which sources these are: of the model, of the oracle, and of what they use.
fn stamp(copy: &Workspace) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    for file in copy.files()? {
        let is_one = ["crates/mm", "crates/lab", "crates/space", "crates/sys"]
            .iter()
            .any(|folder| file.starts_with(folder));
        if is_one || file.ends_with("Cargo.lock") {
            let bytes = fs::read(copy.root.join(&file))?;
            (&file, bytes).hash(&mut hasher);
        }
    }
    Ok(hasher.finish())
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}
