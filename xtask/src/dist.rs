//! `cargo xtask dist`: the man page and the shell completions, written by the program itself from
//! the definition of its arguments.

use anyhow::Result;

use crate::process;
use crate::workspace::{Workspace, cargo};

/// Writes them to `dist/` under the target directory.
pub(crate) fn run(workspace: &Workspace) -> Result<bool> {
    let out = workspace.target.join("dist");
    for kind in ["man", "completions"] {
        let mut command = cargo();
        command.current_dir(&workspace.root);
        command.args([
            "run",
            "--quiet",
            "-p",
            "onionskin-cli",
            "--",
            "generate",
            kind,
            "--out",
        ]);
        process::run(command.arg(out.join(kind)))?;
    }
    println!("written to {}", out.display());
    Ok(true)
}
