//! Faults: what cargo-mutants would change.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::process;
use crate::workspace::{Workspace, cargo};

/// Files of the model that say nothing about what Linux does, or of machines that no oracle run
/// sees: checks of the model itself, the engine's view of it, another architecture, a later kernel,
/// memory that breaks, a design that is in no kernel (high-granularity mapping).
const LEFT_OUT: &[&str] = &[
    "crates/mm/src/invariant/*",
    "crates/mm/src/space.rs",
    "crates/mm/src/space/*",
    "crates/mm/src/entry/arm64.rs",
    "crates/mm/src/failure.rs",
    "crates/mm/src/call/madvise/hwpoison.rs",
    "crates/mm/src/uffd/rwprotect.rs",
    "crates/mm/src/file/hugetlb/hgm*.rs",
    "crates/mm/src/*tests.rs",
    "crates/mm/src/**/tests.rs",
];

/// One change of the model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fault {
    /// Where it is and what changes, in words.
    pub(super) name: String,
    /// The change as a patch.
    pub(super) patch: String,
}

/// Lists every fault.
pub(super) fn list(workspace: &Workspace) -> Result<Vec<Fault>> {
    let mut command = cargo();
    command
        .current_dir(&workspace.root)
        .args(["mutants", "--list", "--json", "--diff"])
        .args(["--package", "onionskin-mm"]);
    for left_out in LEFT_OUT {
        command.args(["--exclude", left_out]);
    }
    let text = process::output_of(&mut command).context("cargo mutants --list failed")?;
    parse(&text)
}

fn parse(text: &str) -> Result<Vec<Fault>> {
    let list: Vec<Value> = serde_json::from_str(text)?;
    list.iter()
        .map(|fault| {
            let file = string(&fault["file"])?;
            Ok(Fault {
                name: string(&fault["name"])?.to_owned(),
                patch: patch(file, string(&fault["diff"])?)?,
            })
        })
        .collect()
}

fn string(value: &Value) -> Result<&str> {
    value.as_str().context("a fault without a text")
}

/// A patch that git takes: the header of cargo-mutants' has the fault's name in it.
fn patch(file: &str, diff: &str) -> Result<String> {
    let begin = diff.find("\n@@").context("a fault that changes nothing")? + 1;
    let end = if diff.ends_with('\n') { "" } else { "\n" };
    Ok(format!(
        "--- a/{file}\n+++ b/{file}\n{}{end}",
        &diff[begin..]
    ))
}

/// Puts faults into an order that the seed determines (splitmix64, Fisher and Yates).
pub(super) fn draw(mut faults: Vec<Fault>, seed: u64) -> Vec<Fault> {
    faults.sort_by(|one, other| one.name.cmp(&other.name));
    let mut state = seed;
    let mut word = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    };
    for last in (1..faults.len()).rev() {
        let bound = u64::try_from(last).unwrap_or(u64::MAX).saturating_add(1);
        let other = usize::try_from(word() % bound).unwrap_or(0);
        faults.swap(last, other);
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_mutants_lists_is_read() {
        let text = r#"[{"name": "a.rs:1: replace", "file": "a.rs",
            "diff": "--- a.rs\n+++ replace x with y\n@@ -1 +1 @@\n-x\n+y\n"}]"#;
        let faults = parse(text).unwrap();
        assert_eq!(faults[0].name, "a.rs:1: replace");
        let patch = "--- a/a.rs\n+++ b/a.rs\n@@ -1 +1 @@\n-x\n+y\n";
        assert_eq!(faults[0].patch, patch);
        assert!(parse("[{}]").is_err());
    }

    #[test]
    fn a_seed_is_an_order() {
        let fault = |number: u32| Fault {
            name: format!("{number:03}"),
            patch: String::new(),
        };
        let faults: Vec<Fault> = (0..50).map(fault).collect();
        let mut turned = faults.clone();
        turned.reverse();
        let drawn = draw(faults.clone(), 7);
        assert_eq!(draw(turned, 7), drawn);
        assert_ne!(drawn, faults);
        assert_ne!(draw(faults.clone(), 8), drawn);
        assert_eq!(draw(drawn, 7).len(), 50);
    }
}
