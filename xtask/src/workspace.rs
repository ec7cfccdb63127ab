//! The workspace: its members as `cargo metadata` tells them, and its files as git does.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::process;

/// The members of the workspace and where it lies.
pub(crate) struct Workspace {
    /// The folder of the workspace's Cargo.toml.
    pub(crate) root: PathBuf,
    /// Cargo's target directory.
    pub(crate) target: PathBuf,
    /// Every member.
    pub(crate) members: Vec<Member>,
}

/// One package of the workspace.
pub(crate) struct Member {
    /// The package's name.
    pub(crate) name: String,
    /// The folder of its Cargo.toml.
    pub(crate) folder: PathBuf,
    /// What it builds: libraries, programs, tests.
    pub(crate) targets: Vec<Target>,
    /// The names of the packages that it depends on by path, in any kind of dependency.
    pub(crate) path_dependencies: Vec<String>,
}

/// One thing that a package builds.
pub(crate) struct Target {
    /// Cargo's kind: `lib`, `bin`, `test`, `example`, `custom-build`.
    pub(crate) kind: String,
    /// What it is called.
    pub(crate) name: String,
    /// The file of its crate root.
    pub(crate) root: PathBuf,
}

impl Workspace {
    /// Asks cargo for the workspace that this program was built from.
    pub(crate) fn load() -> Result<Self> {
        Self::of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"))
    }

    /// Copies every file of the workspace into a folder, takes away what is there besides, and
    /// leaves files alone that are the same: what was built from them needs no building then.
    pub(crate) fn copy_to(&self, folder: &Path, target: PathBuf) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        let files = self.files()?;
        for file in &files {
            let (from, to) = (self.root.join(file), folder.join(file));
            let bytes = fs::read(&from).with_context(|| format!("reading {}", from.display()))?;
            if fs::read(&to).is_ok_and(|known| known == bytes) {
                continue;
            }
            let parent = to.parent().context("a file is in a folder")?;
            fs::create_dir_all(parent).with_context(|| format!("{}", parent.display()))?;
            fs::copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
        }
        let known: BTreeSet<PathBuf> = files.iter().map(|file| folder.join(file)).collect();
        remove_others(folder, &known)?;
        let copy = Self::of(&folder.join("Cargo.toml"))?;
        Ok(Self { target, ..copy })
    }

    /// Asks cargo for the workspace of a manifest.
    fn of(manifest: &Path) -> Result<Self> {
        let mut command = cargo();
        command.args([
            "metadata",
            "--format-version=1",
            "--no-deps",
            "--manifest-path",
        ]);
        command.arg(manifest);
        let text = process::output_of(&mut command)
            .with_context(|| format!("cargo metadata failed for {}", manifest.display()))?;
        Self::from_metadata(&text)
    }

    /// Reads the output of `cargo metadata`.
    pub(crate) fn from_metadata(text: &str) -> Result<Self> {
        let metadata: Value = serde_json::from_str(text)?;
        let packages = metadata["packages"]
            .as_array()
            .context("metadata without packages")?;
        Ok(Self {
            root: PathBuf::from(string(&metadata["workspace_root"])?),
            target: PathBuf::from(string(&metadata["target_directory"])?),
            members: packages
                .iter()
                .map(Member::from_metadata)
                .collect::<Result<_>>()?,
        })
    }

    /// Lists the files of the workspace that git knows or would add, relative to its root.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>> {
        let mut command = Command::new("git");
        command.current_dir(&self.root);
        command.args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]);
        let list = process::output_of(&mut command)
            .context("git ls-files failed: is this a git checkout?")?;
        let mut files: Vec<PathBuf> = list
            .split('\0')
            .filter(|name| !name.is_empty())
            .map(PathBuf::from)
            .filter(|file| self.root.join(file).is_file())
            .collect();
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// A file's path from the workspace's root, for messages.
    pub(crate) fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }
}

impl Member {
    fn from_metadata(package: &Value) -> Result<Self> {
        let manifest = PathBuf::from(string(&package["manifest_path"])?);
        let targets = package["targets"]
            .as_array()
            .context("a package without targets")?;
        let dependencies = package["dependencies"]
            .as_array()
            .context("a package without dependencies")?;
        Ok(Self {
            name: string(&package["name"])?.to_owned(),
            folder: manifest
                .parent()
                .context("a manifest without a folder")?
                .to_owned(),
            targets: targets
                .iter()
                .map(Target::from_metadata)
                .collect::<Result<_>>()?,
            path_dependencies: dependencies
                .iter()
                .filter(|dependency| dependency["path"].is_string())
                .map(|dependency| Ok(string(&dependency["name"])?.to_owned()))
                .collect::<Result<_>>()?,
        })
    }
}

impl Target {
    fn from_metadata(target: &Value) -> Result<Self> {
        Ok(Self {
            kind: string(&target["kind"][0])?.to_owned(),
            name: string(&target["name"])?.to_owned(),
            root: PathBuf::from(string(&target["src_path"])?),
        })
    }

    /// Tells whether the target holds tests only.
    pub(crate) fn is_test(&self) -> bool {
        matches!(self.kind.as_str(), "test" | "bench")
    }

    /// Tells whether the target is what a package ships: its library or a program.
    pub(crate) fn is_shipped(&self) -> bool {
        matches!(self.kind.as_str(), "lib" | "bin" | "proc-macro")
    }
}

/// Removes files from a folder that are not `known`.
fn remove_others(folder: &Path, known: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(&path, known)?;
        } else if !known.contains(&path) {
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

/// The cargo that runs this program, ready for arguments.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn string(value: &Value) -> Result<&str> {
    value
        .as_str()
        .with_context(|| format!("cargo gave {value} where a string belongs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_metadata() {
        let text = r#"{"workspace_root": "/w", "target_directory": "/w/target", "packages": [{
            "name": "a", "manifest_path": "/w/crates/a/Cargo.toml",
            "dependencies": [{"name": "b", "path": "/w/crates/b"}, {"name": "serde"}],
            "targets": [{"kind": ["lib"], "name": "a", "src_path": "/w/crates/a/src/lib.rs"}]}]}"#;
        let workspace = Workspace::from_metadata(text).unwrap();
        let member = &workspace.members[0];
        assert_eq!(member.path_dependencies, ["b"]);
        assert_eq!(member.folder, Path::new("/w/crates/a"));
        assert!(member.targets[0].is_shipped() && !member.targets[0].is_test());
        assert_eq!(
            workspace.relative(&member.targets[0].root),
            Path::new("crates/a/src/lib.rs")
        );
        assert!(Workspace::from_metadata(r#"{"packages": [{}]}"#).is_err());
    }

    #[test]
    fn loads_its_own_workspace() {
        let workspace = Workspace::load().unwrap();
        assert!(
            workspace
                .members
                .iter()
                .any(|member| member.name == "xtask")
        );
        assert!(
            workspace
                .files()
                .unwrap()
                .contains(&PathBuf::from("xtask/Cargo.toml"))
        );
    }
}
