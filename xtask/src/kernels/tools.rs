//! The programs that guests need outside: an emulator, compilers, a debugger.
//!
//! Taken from the machine where it has them, and otherwise unpacked, with the libraries that the
//! machine lacks, into `target/kernels/tools`, where they harm nothing: Debian's
//! `gcc-aarch64-linux-gnu` and `gcc-multilib` would remove each other, and its QEMU of another
//! version would remove `qemu-utils`.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::archive::{Archive, once};
use super::catalog::Architecture;
use crate::process;

/// The oldest QEMU that emulates the guests' processors without mistakes.
const QEMU_AT_LEAST: u32 = 9;
/// Where its binaries look for the machine's libraries.
const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];

/// Where unpacked tools lie.
pub(super) struct Tools {
    root: PathBuf,
    /// Scripts that start the unpacked programs under their own names.
    scripts: PathBuf,
}

/// A group of packages that are unpacked together.
struct Group {
    name: &'static str,
    suite: &'static str,
    packages: &'static [&'static str],
    programs: &'static [&'static str],
}

const QEMU: Group = Group {
    name: "qemu",
    suite: "bookworm-backports",
    packages: &["qemu-system-x86", "qemu-system-arm"],
    programs: &["qemu-system-x86_64", "qemu-system-aarch64"],
};
const CROSS: Group = Group {
    name: "cross",
    suite: "bookworm",
    packages: &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
    programs: &[
        "aarch64-linux-gnu-gcc",
        "aarch64-linux-gnu-ar",
        "aarch64-linux-gnu-ranlib",
        "aarch64-linux-gnu-objcopy",
    ],
};
const DEBUGGER: Group = Group {
    name: "gdb",
    suite: "bookworm",
    packages: &["gdb-multiarch"],
    programs: &["gdb-multiarch"],
};

impl Tools {
    /// The tools below `folder`.
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            root: folder.join("tools"),
            scripts: folder.join("bin"),
        }
    }

    /// Finds or unpacks the emulators.
    pub(super) fn get_qemu(&self, archive: &Archive) -> Result<()> {
        if Architecture::ALL.iter().all(|it| new_enough(it.qemu())) {
            return Ok(());
        }
        let firmware = "-L \"$root/usr/share/qemu\" -L \"$root/usr/share/seabios\"";
        self.unpack(archive, &QEMU, &|_| firmware.to_owned())
    }

    /// Finds or unpacks the C compiler for arm64.
    pub(super) fn get_cross_compiler(&self, archive: &Archive) -> Result<()> {
        if process::find(Architecture::Arm64.c_compiler()).is_some() {
            return Ok(());
        }
        let library = "$root/usr/aarch64-linux-gnu";
        let compiler = format!(
            "--sysroot=\"$root\" -idirafter \"{library}/include\" -B\"{library}/lib/\" \
             -L\"{library}/lib\""
        );
        self.unpack(archive, &CROSS, &|program| match program {
            "aarch64-linux-gnu-gcc" => compiler.clone(),
            _ => String::new(),
        })
    }

    /// Finds or unpacks a debugger that knows every architecture.
    pub(super) fn get_debugger(&self, archive: &Archive) -> Result<()> {
        if process::find("gdb-multiarch").is_some() {
            return Ok(());
        }
        self.unpack(archive, &DEBUGGER, &|_| String::new())
    }

    /// A program by its name: the unpacked one, or else the machine's.
    pub(super) fn program(&self, name: &str) -> Result<PathBuf> {
        let script = self.scripts.join(name);
        if process::is_executable(&script) {
            return Ok(script);
        }
        process::find(name).with_context(|| format!("{name} is missing"))
    }

    /// A `PATH` that begins with the unpacked programs.
    pub(super) fn path(&self) -> OsString {
        let mut path: OsString = self.scripts.clone().into();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        path
    }

    fn unpack(
        &self,
        archive: &Archive,
        group: &Group,
        arguments: &dyn Fn(&str) -> String,
    ) -> Result<()> {
        if std::env::consts::ARCH != "x86_64" {
            bail!(
                "{} has to be installed by hand here",
                group.packages.join(", ")
            );
        }
        let root = self.root.join(group.name);
        once(&root, &group.packages.join(" "), || {
            let packages = archive.missing(group.suite, group.packages)?;
            archive.unpack(&packages, &root)
        })?;
        fs::create_dir_all(&self.scripts)?;
        for program in group.programs {
            let path = self.scripts.join(program);
            let text = script(&root, program, &arguments(program));
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    }
}

/// A script that runs an unpacked program with the libraries that came along.
fn script(root: &Path, program: &str, arguments: &str) -> String {
    let libraries = LIBRARIES.map(|folder| format!("$root/{folder}")).join(":");
    format!(
        "#!/bin/sh\nroot='{}'\nexport LD_LIBRARY_PATH=\"{libraries}\"\n\
         exec \"$root/usr/bin/{program}\" {arguments} \"$@\"\n",
        root.display()
    )
}

fn new_enough(qemu: &str) -> bool {
    let version = process::output_of(Command::new(qemu).arg("--version"));
    version.and_then(|text| major(&text)) >= Some(QEMU_AT_LEAST)
}

/// Reads "QEMU emulator version 10.0.2 (Debian ...)".
fn major(text: &str) -> Option<u32> {
    let (_, version) = text.split_once("version ")?;
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_qemu_s_version() {
        assert_eq!(
            major("QEMU emulator version 10.0.2 (Debian 1:10.0.2)\n"),
            Some(10)
        );
        assert_eq!(major("something else"), None);
        assert!(major("QEMU emulator version 7.2.0") < Some(QEMU_AT_LEAST));
    }
}
