//! Rust for a guest's architecture: static binaries, which need nothing inside.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::archive::{Archive, once};
use super::catalog::Architecture;
use super::tools::Tools;
use crate::process;
use crate::workspace::cargo;

/// The suite whose newer Rust is packaged with its sources.
const SOURCES: &str = "trixie-backports";

/// A way to build for an architecture.
pub(super) struct Rust {
    architecture: Architecture,
    way: Way,
    /// A `PATH` with the C compiler for other architectures.
    path: OsString,
}

enum Way {
    /// The toolchain has the standard library for it.
    Installed,
    /// The standard library is built, by the toolchain in this folder, which has its sources.
    FromSource { toolchain: PathBuf },
}

impl Rust {
    /// Finds a way: what is installed, what rustup can add, what can be built from sources.
    pub(super) fn prepare(
        architecture: Architecture,
        archive: &Archive,
        tools: &Tools,
        folder: &Path,
    ) -> Result<Self> {
        let way = if has_library(architecture) || add_by_rustup(architecture) {
            Way::Installed
        } else {
            let toolchain = with_sources(archive, folder).context("no Rust for arm64")?;
            Way::FromSource { toolchain }
        };
        if architecture == Architecture::Arm64 {
            tools.get_cross_compiler(archive)?;
        }
        Ok(Self {
            architecture,
            way,
            path: tools.path(),
        })
    }

    /// A way for this machine, if what is built so runs in guests, too.
    pub(super) fn here() -> Option<Self> {
        let architecture = Architecture::Amd64;
        let same = std::env::consts::ARCH == "x86_64";
        (same && has_library(architecture) && has_static_libc(architecture)).then(|| Self {
            architecture,
            way: Way::Installed,
            path: std::env::var_os("PATH").unwrap_or_default(),
        })
    }

    /// Cargo, told how to build for the architecture with `--target`.
    pub(super) fn cargo(&self) -> Command {
        let target = self.architecture.target();
        let mut command = match &self.way {
            Way::Installed => cargo(),
            Way::FromSource { toolchain } => {
                let bin = toolchain.join("bin");
                let mut command = Command::new(bin.join("cargo"));
                command.env("RUSTC", bin.join("rustc"));
                // Building the standard library is no stable feature, yet.
                command.env("RUSTC_BOOTSTRAP", "1");
                command.env("CARGO_UNSTABLE_BUILD_STD", "std,panic_unwind");
                command.env_remove("RUSTUP_TOOLCHAIN");
                command
            }
        };
        command.env("PATH", &self.path);
        // Most of what a guest would keep in memory, and nobody there could read it.
        command.env("CARGO_PROFILE_DEV_DEBUG", "false");
        let name = target.replace('-', "_");
        let upper = name.to_uppercase();
        command.env(
            format!("CARGO_TARGET_{upper}_RUSTFLAGS"),
            "-Ctarget-feature=+crt-static",
        );
        if self.architecture == Architecture::Arm64 {
            let compiler = self.architecture.c_compiler();
            command.env(format!("CARGO_TARGET_{upper}_LINKER"), compiler);
            command.env(format!("CC_{name}"), compiler);
            command.env(format!("AR_{name}"), "aarch64-linux-gnu-ar");
        }
        command
    }
}

fn has_library(architecture: Architecture) -> bool {
    let mut rustc = Command::new("rustc");
    rustc.args([
        "--print",
        "target-libdir",
        "--target",
        architecture.target(),
    ]);
    process::output_of(&mut rustc).is_some_and(|folder| Path::new(folder.trim()).is_dir())
}

/// Tells whether static programs can be linked: not every system has the library installed.
fn has_static_libc(architecture: Architecture) -> bool {
    let mut compiler = Command::new(architecture.c_compiler());
    let found = process::output_of(compiler.arg("-print-file-name=libc.a"));
    // A file that is not there is named as it was asked for.
    found.is_some_and(|path| Path::new(path.trim()).is_absolute())
}

fn add_by_rustup(architecture: Architecture) -> bool {
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", architecture.target()]);
    process::output_of(&mut rustup).is_some() && has_library(architecture)
}

/// A copy of the toolchain that has the sources of its standard library beside it.
fn with_sources(archive: &Archive, folder: &Path) -> Result<PathBuf> {
    let sysroot = process::output_of(Command::new("rustc").args(["--print", "sysroot"]))
        .context("rustc does not run")?;
    let sysroot = PathBuf::from(sysroot.trim());
    let inside = "lib/rustlib/src/rust/library";
    if sysroot.join(inside).join("Cargo.lock").exists() {
        return Ok(sysroot);
    }
    let version = rustc_version()?;
    let sources = folder.join("rust-src");
    once(&sources, &version, || {
        let versions = archive.versions("rust-src")?;
        let found = versions
            .into_iter()
            .find(|(known, suite)| known.starts_with(&format!("{version}+")) && suite == SOURCES);
        let (version, _) = found.with_context(|| {
            format!("rustup can't add it, and {SOURCES} has no rust-src {version}")
        })?;
        let name = "rust-src".to_owned();
        archive.unpack(&[super::archive::Package { name, version }], &sources)
    })?;
    let toolchain = folder.join("rust");
    once(
        &toolchain,
        &format!("{version} of {}", sysroot.display()),
        || {
            for part in ["bin", "lib", "libexec"] {
                let from = sysroot.join(part);
                if from.exists() {
                    copy(&from, &toolchain)?;
                }
            }
            let library = sources
                .join("usr/src")
                .join(format!("rustc-{version}/library"));
            ensure!(library.exists(), "{} is missing", library.display());
            let link = toolchain.join(inside);
            fs::create_dir_all(link.parent().unwrap_or(&toolchain))?;
            symlink(&library, &link).with_context(|| format!("linking {}", link.display()))
        },
    )?;
    Ok(toolchain)
}

/// Links the files of a folder where that is possible, or copies them.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let with = |flags: &str| {
        let mut command = Command::new("cp");
        process::output_of(command.arg(flags).arg(from).arg(to))
    };
    with("-al")
        .or_else(|| with("-a"))
        .with_context(|| format!("{} could not be copied", from.display()))?;
    Ok(())
}

fn rustc_version() -> Result<String> {
    let text = process::output_of(Command::new("rustc").arg("--version"));
    let text = text.context("rustc does not run")?;
    let version = text.split_whitespace().nth(1);
    Ok(version.context("rustc tells no version")?.to_owned())
}
