//! What the tests need from the machine: looked for, and installed where that is allowed.
//!
//! From the system's packages by apt-get, as root or by a `sudo` that asks for no password; from
//! PyPI into a virtual environment under the target directory. Nothing that would start a service
//! is installed: Debian's `redis-server` package only adds a service and a link to a program that
//! `redis-tools` has, so the link is made here, in a folder of our own.
//!
//! What can't be had is listed, and the tests that need it say that they are skipped.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process;
use crate::workspace::Workspace;

/// The S3 server that the store's tests talk to, on loopback.
const S3_SERVER: &str = "moto[server,s3]==5.2.5";

/// What was found or installed.
pub(super) struct Tools {
    /// What is still missing, and what for.
    pub(super) missing: Vec<String>,
    /// A folder for the front of `PATH`.
    folder: PathBuf,
    s3_server: Option<PathBuf>,
}

/// Something that tests need and a package that has it.
struct Need {
    package: &'static str,
    what_for: &'static str,
    present: fn() -> bool,
}

const NEEDS: &[Need] = &[
    Need {
        package: "gcc",
        what_for: "test programs in C",
        present: || has("gcc"),
    },
    Need {
        package: "libc6-dev",
        what_for: "test programs in C",
        present: has_c_library,
    },
    Need {
        package: "gdb",
        what_for: "reading cores, and gcore",
        present: || has("gdb"),
    },
    Need {
        package: "binutils",
        what_for: "reading cores (readelf)",
        present: || has("readelf"),
    },
    Need {
        package: "redis-tools",
        what_for: "redis-server as a target",
        present: || has("redis-benchmark") && has("redis-cli") && redis_program().is_some(),
    },
    Need {
        package: "python3",
        what_for: "targets and an S3 server",
        present: || has("python3"),
    },
    Need {
        package: "python3-venv",
        what_for: "an S3 server",
        present: has_venv,
    },
];

impl Tools {
    /// Tells a test program where the tools are.
    pub(super) fn provide(&self, command: &mut Command) {
        let mut path: OsString = self.folder.clone().into();
        if let Some(rest) = std::env::var_os("PATH") {
            path.push(":");
            path.push(rest);
        }
        command.env("PATH", path);
        match &self.s3_server {
            Some(program) => command.env("ONIONSKIN_MOTO", program),
            None => command.env_remove("ONIONSKIN_MOTO"),
        };
    }
}

/// Looks for everything, and installs what is missing unless that is not wanted.
pub(super) fn prepare(workspace: &Workspace, may_install: bool) -> Tools {
    let absent: Vec<&Need> = NEEDS.iter().filter(|need| !(need.present)()).collect();
    let mut missing = Vec::new();
    if may_install && !absent.is_empty() {
        let packages: Vec<_> = absent.iter().map(|need| need.package).collect();
        if let Err(error) = install_packages(&packages) {
            missing.push(format!("system packages: {error:#}"));
        }
    }
    for need in absent.iter().filter(|need| !(need.present)()) {
        missing.push(format!("{}, for {}", need.package, need.what_for));
    }
    let folder = workspace.target.join("test-tools");
    if let Err(error) = link_redis(&folder) {
        missing.push(format!("redis-server: {error:#}"));
    }
    let s3_server = match s3_server(&workspace.target.join("venv"), may_install) {
        Ok(program) => Some(program),
        Err(error) => {
            missing.push(format!("moto_server, for the store's S3 tests: {error:#}"));
            None
        }
    };
    Tools {
        missing,
        folder,
        s3_server,
    }
}

/// Installs packages one by one, so that one that this system does not have stops no other.
fn install_packages(packages: &[&str]) -> Result<()> {
    const SCRIPT: &str = r#"
        export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
        apt-get update || echo 'apt-get update failed: trying with the lists that are there' >&2
        for package; do
            apt-get install --yes --no-install-recommends -o DPkg::Lock::Timeout=120 "$package" \
                || echo "$package could not be installed" >&2
        done
    "#;
    if process::find("apt-get").is_none() {
        anyhow::bail!("no apt-get here: install {} by hand", packages.join(", "));
    }
    let mut command = if process::is_root() {
        Command::new("sh")
    } else if process::output_of(Command::new("sudo").args(["-n", "true"])).is_some() {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "sh"]);
        sudo
    } else {
        anyhow::bail!("neither root nor sudo without a password: not installed");
    };
    println!("installing {}", packages.join(", "));
    process::run_quietly(command.args(["-c", SCRIPT, "install"]).args(packages))
}

/// Makes `redis-server` available under its own name, if only `redis-tools` is installed.
fn link_redis(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let link = folder.join("redis-server");
    if link.symlink_metadata().is_ok() {
        fs::remove_file(&link).with_context(|| format!("removing {}", link.display()))?;
    }
    match redis_program() {
        Some(program) if program.ends_with("redis-check-rdb") => {
            symlink(&program, &link).with_context(|| format!("linking {}", link.display()))
        }
        // Installed under its own name, or absent, which the list of needs has said.
        _ => Ok(()),
    }
}

/// The server, or the checker, which is the same program and behaves as it is called.
fn redis_program() -> Option<PathBuf> {
    process::find("redis-server").or_else(|| process::find("redis-check-rdb"))
}

/// The S3 server in the virtual environment, which is made if need be.
fn s3_server(venv: &Path, may_install: bool) -> Result<PathBuf> {
    let program = venv.join("bin/moto_server");
    // A stamp, because an install that was cut short leaves programs that don't run.
    let stamp = venv.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|text| text == S3_SERVER) {
        return Ok(program);
    }
    anyhow::ensure!(may_install, "not installed");
    println!("installing {S3_SERVER} into {}", venv.display());
    process::run_quietly(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(venv),
    )?;
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        S3_SERVER,
    ]);
    process::run_quietly(&mut pip)?;
    anyhow::ensure!(
        process::is_executable(&program),
        "{S3_SERVER} has no moto_server"
    );
    fs::write(&stamp, S3_SERVER).with_context(|| format!("writing {}", stamp.display()))?;
    Ok(program)
}

fn has(program: &str) -> bool {
    process::find(program).is_some()
}

fn has_venv() -> bool {
    process::output_of(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_some()
}

fn has_c_library() -> bool {
    let mut command = Command::new("gcc");
    command.args(["-E", "-include", "stdio.h", "-x", "c", "/dev/null"]);
    process::output_of(&mut command).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_told_where_the_tools_are() {
        let mut tools = Tools {
            missing: Vec::new(),
            folder: PathBuf::from("/tools"),
            s3_server: Some(PathBuf::from("/venv/bin/moto_server")),
        };
        let variable = |tools: &Tools, name: &str| {
            let mut command = Command::new("true");
            tools.provide(&mut command);
            let value = command.get_envs().find(|(key, _)| *key == name).unwrap().1;
            value.map(|value| value.to_string_lossy().into_owned())
        };
        assert!(variable(&tools, "PATH").unwrap().starts_with("/tools:"));
        assert_eq!(
            variable(&tools, "ONIONSKIN_MOTO").unwrap(),
            "/venv/bin/moto_server"
        );
        tools.s3_server = None;
        assert_eq!(variable(&tools, "ONIONSKIN_MOTO"), None);
    }

    #[test]
    fn without_leave_nothing_is_installed() {
        let nowhere = std::env::temp_dir().join(format!("xtask-venv-{}", std::process::id()));
        assert!(s3_server(&nowhere, false).is_err());
        assert!(!nowhere.exists());
    }
}
