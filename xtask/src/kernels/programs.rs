//! What runs inside: the tests of every package that touches the kernel, and the C programs that
//! they look at, as static binaries.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::Shared;
use super::catalog::Architecture;
use super::choice::Wanted;
use super::rust::Rust;
use super::tools::Tools;
use crate::process;
use crate::test::suites::{self, Suite};
use crate::workspace::{Member, Workspace};

/// The package that talks to the kernel: whoever depends on it is tested on all of them. The others
/// are pure, or only know files, and would find nothing new.
const KERNEL: &str = "onionskin-sys";

/// The package of the command.
const COMMAND: &str = "onionskin-cli";

/// Suites that only look at the model.
const PURE: [&str; 2] = [
    "onionskin-lab tests/profiles",
    "onionskin-lab tests/simulation",
];

/// Programs of 32 bits, without a C library.
const SMALL: [&str; 1] = ["bits32"];

/// Everything for one architecture.
pub(super) struct Programs {
    pub(super) suites: Vec<Packed>,
    /// The folder of C programs, in a folder for each package.
    pub(super) targets: PathBuf,
    /// The command itself, if its package was built.
    pub(super) command: Option<PathBuf>,
}

/// A suite, made small.
pub(super) struct Packed {
    pub(super) name: String,
    pub(super) package: String,
    /// Where the guest has it: where it lies on this machine.
    pub(super) path: PathBuf,
    /// What to pack.
    pub(super) stripped: PathBuf,
    /// The folder of its package.
    pub(super) folder: PathBuf,
}

/// How programs are made for an architecture.
pub(super) struct Making<'a> {
    pub(super) workspace: &'a Workspace,
    /// The packages whose tests they are.
    pub(super) members: &'a [&'a Member],
    pub(super) wanted: &'a Wanted,
    pub(super) architecture: Architecture,
    pub(super) tools: &'a Tools,
    /// Where they are put, in a folder of the architecture.
    pub(super) folder: &'a Path,
}

impl Making<'_> {
    /// Builds the tests of the suites that are wanted, and gathers them.
    pub(super) fn build(&self, rust: &Rust) -> Result<Programs> {
        let mut cargo = rust.cargo();
        cargo.current_dir(&self.workspace.root).arg("test");
        cargo.env("CARGO_TARGET_DIR", &self.workspace.target);
        for member in self.members {
            cargo.args(["-p", &member.name]);
        }
        cargo.args(targets(self.members, self.wanted)?);
        // Object stores are no matter of the kernel, and take longest to build.
        cargo.args(["--no-default-features", "--target"]);
        cargo.arg(self.architecture.target());
        self.gather(&suites::build_with(&mut cargo)?)
    }

    /// Builds the tests of the suites that are wanted as `cargo xtask test` does, and gathers them.
    pub(super) fn build_shared(&self, shared: Shared) -> Result<Programs> {
        let mut cargo = shared.test();
        cargo.current_dir(&self.workspace.root).arg("--workspace");
        cargo.args(targets(self.members, self.wanted)?);
        self.gather(&suites::build_with(&mut cargo)?)
    }

    /// The package that a suite belongs to; `None` for one that no guest is for: the machine's own
    /// tests are built with those of the guests.
    fn member_of(&self, suite: &Suite) -> Option<&Member> {
        let (_, folder) = suite.executable()?;
        let mut members = self.members.iter();
        members.find(|member| member.folder == folder).copied()
    }

    /// Gathers the suites that are wanted of those that are built, with the C programs that they
    /// look at.
    pub(super) fn gather(&self, built: &[Suite]) -> Result<Programs> {
        let architecture = self.architecture;
        let folder = self.folder.join(architecture.debian());
        super::archive::recreate(&folder)?;
        let strip = |file: &Path| strip(file, architecture, self.tools, &folder);
        let targets = folder.join("targets");
        for member in self.members {
            let to = targets.join(&member.name);
            compile(member, architecture, self.tools, &to)?;
        }
        let suites: Vec<_> = built
            .iter()
            .filter(|suite| touches_kernel(&suite.name) && self.wanted.has_suite(&suite.name))
            .filter_map(|suite| Some((suite, self.member_of(suite)?)))
            .map(|(suite, member)| pack(suite, member, &strip))
            .collect::<Result<_>>()?;
        // Cargo builds a package's programs with its tests.
        let has_command = suites.iter().any(|suite| suite.package == COMMAND);
        let out = self.workspace.target.join(architecture.target());
        Ok(Programs {
            suites,
            command: has_command
                .then(|| strip(&out.join("debug/onionskin")))
                .transpose()?,
            targets,
        })
    }
}

fn pack(
    suite: &Suite,
    member: &Member,
    strip: &dyn Fn(&Path) -> Result<PathBuf>,
) -> Result<Packed> {
    let (path, folder) = suite.executable().context("these suites are programs")?;
    Ok(Packed {
        name: suite.name.clone(),
        package: member.name.clone(),
        path: path.to_owned(),
        stripped: strip(path)?,
        folder: folder.to_owned(),
    })
}

/// What tells cargo to build only the suites that are wanted. The packages stay the same, and so do
/// the features that their dependencies are built with.
fn targets(members: &[&Member], wanted: &Wanted) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut known = Vec::new();
    for member in members {
        for target in &member.targets {
            let name = suites::name(&member.name, &target.kind, &target.name);
            if !touches_kernel(&name) || !matches!(target.kind.as_str(), "lib" | "test") {
                continue;
            }
            if wanted.has_suite(&name) {
                found.insert(match target.kind.as_str() {
                    "lib" => "--lib".to_owned(),
                    _ => format!("--test={}", target.name),
                });
            }
            known.push(name);
        }
    }
    ensure!(
        !found.is_empty(),
        "there is no suite {}: there are {}",
        wanted.suites.join(", "),
        known.join(", ")
    );
    Ok(found)
}

/// Unit tests of the other packages are pure.
fn touches_kernel(suite: &str) -> bool {
    suite.starts_with(KERNEL) || (suite.contains(" tests/") && !PURE.contains(&suite))
}

/// The packages that depend on the kernel, through others or not.
pub(super) fn tested(members: &[Member]) -> Vec<&Member> {
    let mut names = vec![KERNEL.to_owned()];
    loop {
        let more = members.iter().find(|member| {
            !names.contains(&member.name)
                && member
                    .path_dependencies
                    .iter()
                    .any(|name| names.contains(name))
        });
        match more {
            Some(member) => names.push(member.name.clone()),
            None => break,
        }
    }
    let is_tested = |member: &&Member| names.contains(&member.name);
    members.iter().filter(is_tested).collect()
}

/// Drops what only a debugger wants: most of a program's size, which a guest keeps in memory.
fn strip(file: &Path, architecture: Architecture, tools: &Tools, folder: &Path) -> Result<PathBuf> {
    let name = match architecture {
        Architecture::Amd64 => "objcopy",
        Architecture::Arm64 => "aarch64-linux-gnu-objcopy",
    };
    let stripped = folder.join(file.file_name().context("a program has a name")?);
    let mut command = Command::new(tools.program(name)?);
    process::run_quietly(command.arg("--strip-debug").arg(file).arg(&stripped))?;
    Ok(stripped)
}

/// Compiles the C programs of a package's tests. One that an architecture can't have is left out,
/// and the tests that want it say so.
fn compile(member: &Member, architecture: Architecture, tools: &Tools, to: &Path) -> Result<()> {
    let compiler = tools.program(architecture.c_compiler())?;
    fs::create_dir_all(to).with_context(|| format!("creating {}", to.display()))?;
    for source in sources(&member.folder.join("tests"))? {
        let name = source.file_stem().context("a source has a name")?;
        let mut command = Command::new(&compiler);
        if SMALL.iter().any(|small| *small == name) {
            if architecture != Architecture::Amd64 {
                continue;
            }
            command.args(["-m32", "-nostdlib", "-fno-stack-protector"]);
        }
        command.args(["-w", "-O2", "-g", "-pthread", "-static", "-o"]);
        process::run_quietly(command.arg(to.join(name)).arg(&source))?;
    }
    Ok(())
}

fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if folder.is_dir() {
        for entry in fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                found.extend(sources(&path)?);
            } else if path.extension().is_some_and(|end| end == "c") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::choice::Extent;
    use super::*;

    #[test]
    fn only_what_is_wanted_is_built() {
        let workspace = Workspace::load().unwrap();
        let built = |parts: &[&str]| {
            let wanted = Wanted {
                extent: Extent::Whole,
                suites: parts.iter().map(|&part| part.to_owned()).collect(),
                filters: Vec::new(),
            };
            targets(&tested(&workspace.members), &wanted)
        };
        let list = |names: &[&str]| names.iter().map(|&it| it.to_owned()).collect();
        let all = built(&[]).unwrap();
        assert!(all.contains("--test=live") && all.contains("--lib"));
        assert!(!all.contains("--test=simulation"), "it is pure");
        assert_eq!(
            built(&["lab tests/oracle"]).unwrap(),
            list(&["--test=oracle"])
        );
        assert_eq!(built(&["sys"]).unwrap(), list(&["--lib", "--test=live"]));
        assert!(built(&["lab tests/simulation"]).is_err(), "it is pure");
    }

    #[test]
    fn whoever_depends_on_the_kernel_is_tested() {
        let workspace = Workspace::load().unwrap();
        let names: Vec<_> = tested(&workspace.members)
            .iter()
            .map(|member| member.name.clone())
            .collect();
        for (name, wanted) in [
            ("onionskin-sys", true),
            ("onionskin-cli", true),
            ("onionskin-engine", false),
            ("xtask", false),
        ] {
            assert_eq!(names.iter().any(|it| it == name), wanted, "{name}");
        }
    }
}
