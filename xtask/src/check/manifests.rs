//! Every member takes the workspace's lints, and every crate root but that of `sys` forbids unsafe
//! code.

use std::fs;

use anyhow::{Context as _, Result};

use super::Outcome;
use crate::source::Source;
use crate::workspace::{Member, Workspace};

/// The only crate in which unsafe code may live.
const UNSAFE_CRATE: &str = "onionskin-sys";

/// Reads each member's manifest and the roots of its library and programs.
pub(super) fn check(workspace: &Workspace) -> Result<Outcome> {
    let mut problems = Vec::new();
    for member in &workspace.members {
        let manifest = member.folder.join("Cargo.toml");
        let text = fs::read_to_string(&manifest)
            .with_context(|| format!("reading {}", manifest.display()))?;
        if !takes_workspace_lints(&text) {
            let shown = workspace.relative(&manifest).display();
            problems.push(format!("{shown}: add `workspace = true` under [lints]"));
        }
        if member.name != UNSAFE_CRATE {
            problems.extend(roots_without_forbid(workspace, member)?);
        }
    }
    Ok(Outcome::of(problems))
}

fn roots_without_forbid(workspace: &Workspace, member: &Member) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for target in member.targets.iter().filter(|target| target.is_shipped()) {
        let text = fs::read_to_string(&target.root)
            .with_context(|| format!("reading {}", target.root.display()))?;
        if !Source::new(text).code.contains("#![forbid(unsafe_code)]") {
            let shown = workspace.relative(&target.root).display();
            problems.push(format!("{shown}: add #![forbid(unsafe_code)]"));
        }
    }
    Ok(problems)
}

fn takes_workspace_lints(manifest: &str) -> bool {
    let mut section = "";
    manifest.lines().map(str::trim).any(|line| {
        if line.starts_with('[') {
            section = line;
        }
        let line: String = line.split_whitespace().collect();
        (section == "[lints]" && line == "workspace=true") || line == "lints.workspace=true"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lints_are_taken_in_their_own_section() {
        assert!(takes_workspace_lints(
            "[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n"
        ));
        assert!(takes_workspace_lints("lints.workspace = true\n[package]"));
        assert!(!takes_workspace_lints(
            "[package]\n[lints]\n[dependencies]\nworkspace = true\n"
        ));
        assert!(!takes_workspace_lints("[lints.clippy]\nall = \"warn\"\n"));
        assert!(!takes_workspace_lints("[lints]\n# workspace = true\n"));
    }
}
