//! The allowed edges between the workspace's crates, of every kind of dependency.
//!
//! The table is the one of ARCHITECTURE.md: who changes one changes the other and says why there.

use anyhow::Result;

use super::Outcome;
use crate::workspace::{Member, Workspace};

/// A crate and those of the workspace that it may depend on.
const ALLOWED: &[(&str, &[&str])] = &[
    ("onionskin-space", &[]),
    ("onionskin-sys", &["onionskin-space"]),
    ("onionskin-mm", &["onionskin-space"]),
    ("onionskin-engine", &["onionskin-space"]),
    ("onionskin-store", &["onionskin-space"]),
    ("onionskin-formats", &["onionskin-space"]),
    (
        "onionskin",
        &[
            "onionskin-space",
            "onionskin-sys",
            "onionskin-engine",
            "onionskin-store",
            "onionskin-formats",
        ],
    ),
    (
        "onionskin-lab",
        &[
            "onionskin-space",
            "onionskin-sys",
            "onionskin-mm",
            "onionskin-engine",
            "onionskin-store",
            "onionskin-formats",
            "onionskin",
        ],
    ),
    (
        "onionskin-cli",
        &["onionskin-space", "onionskin", "onionskin-lab"],
    ),
    ("xtask", &[]),
];

/// Fails on an edge that the table does not allow, and on a crate that it does not name.
pub(super) fn check(workspace: &Workspace) -> Result<Outcome> {
    Ok(Outcome::of(problems(&workspace.members)))
}

fn problems(members: &[Member]) -> Vec<String> {
    let mut problems = Vec::new();
    for member in members {
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == member.name) else {
            problems.push(format!(
                "{} is not in the table of allowed edges: add it to ARCHITECTURE.md and to \
                 xtask/src/check/edges.rs",
                member.name
            ));
            continue;
        };
        for dependency in &member.path_dependencies {
            if !allowed.contains(&dependency.as_str()) {
                problems.push(format!(
                    "{} may not depend on {dependency}: see the allowed edges in ARCHITECTURE.md",
                    member.name
                ));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn member(name: &str, path_dependencies: &[&str]) -> Member {
        Member {
            name: name.to_owned(),
            folder: PathBuf::new(),
            targets: Vec::new(),
            path_dependencies: path_dependencies
                .iter()
                .map(|&name| name.to_owned())
                .collect(),
        }
    }

    #[test]
    fn the_design_s_edges_are_allowed() {
        let members = [
            member("onionskin-space", &[]),
            member("onionskin-sys", &["onionskin-space"]),
            member(
                "onionskin",
                &["onionskin-space", "onionskin-sys", "onionskin-engine"],
            ),
            member("onionskin-cli", &["onionskin"]),
        ];
        assert_eq!(problems(&members), Vec::<String>::new());
    }

    #[test]
    fn other_edges_are_refused() {
        for (from, to) in [
            ("onionskin-space", "onionskin-sys"),
            ("onionskin-engine", "onionskin-sys"),
            ("onionskin-store", "onionskin-formats"),
            ("onionskin-cli", "onionskin-sys"),
            ("onionskin", "onionskin-lab"),
        ] {
            let found = problems(&[member(from, &[to])]);
            assert!(matches!(&found[..], [one] if one.contains(from) && one.contains(to)));
        }
    }

    #[test]
    fn an_unknown_crate_is_refused() {
        assert!(problems(&[member("onionskin-new", &[])])[0].contains("onionskin-new"));
    }
}
