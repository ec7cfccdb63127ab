//! Builds every test of the workspace in one go and lists the programs that came out.
//!
//! They are built together so that each dependency is compiled once, and run one by one so that
//! each is timed, limited and counted.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::kernels::Shared;
use crate::process;
use crate::workspace::{Workspace, cargo};

/// The packages whose integration tests watch and stop real processes, or measure what the whole
/// machine shares: their tests run one at a time.
const ONE_AT_A_TIME: [&str; 4] = [
    "onionskin",
    "onionskin-cli",
    "onionskin-lab",
    "onionskin-sys",
];

/// The packages whose tests hold real processes to lengths of time.
const TIMED: [&str; 3] = ["onionskin", "onionskin-cli", "onionskin-sys"];

/// A test program, or the documentation's tests.
pub(crate) struct Suite {
    /// The package and the target: what the summary shows.
    pub(crate) name: String,
    program: Program,
}

enum Program {
    /// An executable with the harness of Rust's tests.
    Executable {
        path: PathBuf,
        folder: PathBuf,
        one_at_a_time: bool,
    },
    /// `cargo test --doc`, run in the workspace's root.
    Documentation {
        root: PathBuf,
        shared: Option<Shared>,
    },
}

/// What may run beside a suite.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Pace {
    /// No other cargo: it waits for that.
    Cargo,
    /// A build: none of its tests takes a time.
    Free,
    /// Nothing.
    Timed,
}

impl Suite {
    /// The test program and its package's folder, unless these are the documentation's tests.
    pub(crate) fn executable(&self) -> Option<(&Path, &Path)> {
        match &self.program {
            Program::Executable { path, folder, .. } => Some((path, folder)),
            Program::Documentation { .. } => None,
        }
    }

    /// The command that runs the tests whose names contain one of the filters, or all.
    pub(super) fn command(&self, filters: &[String]) -> Command {
        let mut command = match &self.program {
            Program::Executable {
                path,
                folder,
                one_at_a_time,
            } => {
                let mut command = Command::new(path);
                command
                    .current_dir(folder)
                    .env("CARGO_MANIFEST_DIR", folder);
                if *one_at_a_time {
                    command.arg("--test-threads=1");
                }
                command
            }
            Program::Documentation { root, shared } => {
                let mut command = cargo_test(*shared);
                command
                    .current_dir(root)
                    .args(["--quiet", "--workspace", "--doc", "--"]);
                command
            }
        };
        // What tests print is where skipped ones say so.
        command
            .arg("--show-output")
            .args(filters)
            .env("RUST_BACKTRACE", "1");
        command
    }

    /// What may run beside it.
    pub(super) fn pace(&self) -> Pace {
        let package = self.name.split(' ').next().unwrap_or_default();
        match &self.program {
            Program::Documentation { .. } => Pace::Cargo,
            Program::Executable { .. } if TIMED.contains(&package) => Pace::Timed,
            Program::Executable { .. } => Pace::Free,
        }
    }
}

/// Builds all tests, `shared` with guests or for this machine alone, and lists them in the order of
/// what may run beside them.
pub(super) fn build(workspace: &Workspace, shared: Option<Shared>) -> Result<Vec<Suite>> {
    let mut command = cargo_test(shared);
    command.current_dir(&workspace.root).arg("--workspace");
    let mut suites = build_with(&mut command)?;
    suites.push(Suite {
        name: "documentation".to_owned(),
        program: Program::Documentation {
            root: workspace.root.clone(),
            shared,
        },
    });
    suites.sort_by(|a, b| (a.pace(), &a.name).cmp(&(b.pace(), &b.name)));
    Ok(suites)
}

fn cargo_test(shared: Option<Shared>) -> Command {
    match shared {
        Some(shared) => shared.test(),
        None => {
            let mut command = cargo();
            command.arg("test");
            command
        }
    }
}

/// Builds the tests that a `cargo test` would run.
pub(crate) fn build_with(command: &mut Command) -> Result<Vec<Suite>> {
    command.args(["--no-run", "--message-format=json-render-diagnostics"]);
    process::announce(command);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cargo could not be started")?;
    if !output.status.success() {
        bail!("the tests could not be built");
    }
    let messages = String::from_utf8(output.stdout).context("cargo's messages are no UTF-8")?;
    suites_of(&messages)
}

/// Reads cargo's messages, one JSON object a line.
fn suites_of(messages: &str) -> Result<Vec<Suite>> {
    let mut suites = Vec::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Value = serde_json::from_str(line)?;
        let is_test = message["profile"]["test"] == Value::Bool(true);
        let (true, Some(executable)) = (is_test, message["executable"].as_str()) else {
            continue;
        };
        let manifest = message["manifest_path"]
            .as_str()
            .context("a test without a manifest")?;
        let folder = Path::new(manifest)
            .parent()
            .context("a manifest without a folder")?;
        let package = package_name(message["package_id"].as_str().unwrap_or_default(), folder);
        let kind = message["target"]["kind"][0].as_str().unwrap_or_default();
        let target = message["target"]["name"].as_str().unwrap_or_default();
        suites.push(Suite {
            name: name(&package, kind, target),
            program: Program::Executable {
                path: PathBuf::from(executable),
                folder: folder.to_owned(),
                one_at_a_time: kind == "test" && ONE_AT_A_TIME.contains(&package.as_str()),
            },
        });
    }
    Ok(suites)
}

/// What a suite is called: by its package, and by the target with its kind.
pub(crate) fn name(package: &str, kind: &str, target: &str) -> String {
    match kind {
        "test" => format!("{package} tests/{target}"),
        "lib" => format!("{package} lib"),
        _ => format!("{package} {kind} {target}"),
    }
}

/// The package's name out of an id such as `path+file:///w/crates/a#name@0.1.0`, where the name is
/// left out if the folder has the same.
fn package_name(id: &str, folder: &Path) -> String {
    let fragment = id.rsplit_once('#').map_or("", |(_, fragment)| fragment);
    let by_folder = || {
        folder
            .file_name()
            .map_or_else(OsString::new, OsString::from)
    };
    match fragment.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => by_folder().to_string_lossy().into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str, kind: &str, name: &str, test: bool) -> String {
        format!(
            r#"{{"reason":"compiler-artifact","package_id":"{id}","executable":"/t/{name}",
            "manifest_path":"/w/crates/a/Cargo.toml","profile":{{"test":{test}}},
            "target":{{"kind":["{kind}"],"name":"{name}"}}}}"#
        )
        .replace('\n', "")
    }

    #[test]
    fn reads_cargo_s_messages() {
        let id = "path+file:///w/crates/a#onionskin-cli@0.1.0";
        let messages = [
            message("path+file:///w/crates/a#0.1.0", "lib", "a", true),
            message(id, "test", "kill", true),
            message(id, "bin", "onionskin", false),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let suites = suites_of(&messages.join("\n")).unwrap();
        let names: Vec<_> = suites.iter().map(|suite| suite.name.as_str()).collect();
        assert_eq!(names, ["a lib", "onionskin-cli tests/kill"]);
        let arguments = |suite: &Suite| {
            let command = suite.command(&["part".to_owned()]);
            command
                .get_args()
                .map(|a| a.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(arguments(&suites[0]), ["--show-output", "part"]);
        assert_eq!(
            arguments(&suites[1]),
            ["--test-threads=1", "--show-output", "part"]
        );
    }
}
