//! The copy of the workspace that faults are made in, and what is kept beside it.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::examination::{self, Said};
use super::fault::Fault;
use super::page::End;
use crate::workspace::{Workspace, cargo};

/// How often other programs are drawn where one diverged that does so without the fault, too.
const TURNS: u64 = 5;

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
        for fault in faults {
            if built.len() >= most {
                break;
            }
            let program = self.program(&format!("{:016x}", hash(fault)));
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
        // Whole or not at all.
        let part = self.program("part");
        fs::copy(&from, &part).with_context(|| format!("copying {}", from.display()))?;
        fs::rename(&part, program)?;
        Ok(true)
    }

    /// Runs the examination of the model with a fault until something is wrong that is not so without
    /// it.
    pub(super) fn examine(&self, built: &Built, seconds: u64, seed: u64) -> Result<End> {
        let found = self.state.join("found.txt");
        for turn in 0..TURNS {
            let said = run(&built.program, seconds, seed + turn, &found)?;
            return Ok(match (said.wrong, said.broke) {
                (Some(line), _) if line.starts_with("oracle ") => {
                    if !self.is_the_fault(built, &found)? {
                        println!("{line}: not by the fault; other programs are drawn");
                        continue;
                    }
                    End::Found(line)
                }
                (Some(line), _) => End::Found(line),
                (None, Some(how)) => End::Broke(how),
                (None, None) => End::Survived,
            });
        }
        Ok(End::Survived)
    }

    /// Tells whether a program diverges again with the fault, and does not without it.
    fn is_the_fault(&self, built: &Built, found: &Path) -> Result<bool> {
        Ok(diverges(&built.program, found)? && !diverges(&self.program("base"), found)?)
    }

    /// How many steps the examination of the model without a fault compares.
    ///
    /// # Errors
    ///
    /// Fails if anything but a random program is wrong with it.
    pub(super) fn steps(&self, seconds: u64, seed: u64) -> Result<u64> {
        let found = self.state.join("base.txt");
        for turn in 0..TURNS {
            match run(&self.program("base"), seconds, seed + turn, &found)? {
                Said {
                    wrong: Some(line), ..
                } if line.starts_with("oracle ") => println!("without a fault: {line}"),
                Said {
                    wrong: Some(line), ..
                } => bail!("without a fault: {line}"),
                Said {
                    broke: Some(how), ..
                } => bail!("the examination without a fault {how}"),
                Said { steps, .. } if steps > 0 => return Ok(steps),
                Said { .. } => bail!("no program could be compared: see `onionskin oracle run`"),
            }
        }
        bail!("random programs diverge without a fault: see `onionskin oracle run`")
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

/// Tells whether a program diverges on this model.
fn diverges(examination: &Path, program: &Path) -> Result<bool> {
    let status = Command::new(examination)
        .arg("replay")
        .arg(program)
        .stderr(Stdio::null())
        .status()?;
    match status.code() {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        // The model does not come back from it, and is ended.
        None => Ok(true),
        Some(_) => bail!("{} could not be compared", program.display()),
    }
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// A number that says which sources these are: of the model, of the oracle, and of what they use.
fn stamp(copy: &Workspace) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    for file in copy.files()? {
        let is_one = ["crates/mm", "crates/lab", "crates/space", "crates/sys"]
            .iter()
            .any(|folder| file.starts_with(folder));
        let is_of_all = ["Cargo.lock", "Cargo.toml"]
            .map(Path::new)
            .contains(&&*file);
        if is_one || is_of_all {
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
