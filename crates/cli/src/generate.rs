//! Man pages and shell completions, from the command's definition.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::{Cli, Generate, Generated};
use crate::out::Out;
use crate::outcome::Outcome;

/// Writes what was asked for into a directory, which is made if it is missing.
///
/// # Errors
///
/// Those of writing files.
pub(crate) fn run(args: &Generate, out: &mut Out) -> Result<Outcome> {
    let dir = &args.out;
    fs::create_dir_all(dir).with_context(|| format!("can't make {}", dir.display()))?;
    let written = match args.what {
        Generated::Man => man(dir),
        Generated::Completions => completions(dir),
    };
    let written = written.with_context(|| format!("can't write into {}", dir.display()))?;
    if out.json {
        out.json_line(&written)?;
    } else {
        for path in written {
            writeln!(out, "{path}")?;
        }
    }
    Ok(Outcome::Fine)
}

fn man(dir: &Path) -> Result<Vec<String>> {
    let mut command = Cli::command();
    command.build();
    clap_mangen::generate_to(command, dir)?;
    let mut written: Vec<String> = fs::read_dir(dir)?
        .map(|entry| Ok(entry?.path().display().to_string()))
        .collect::<Result<_>>()?;
    written.retain(|path| path.ends_with(".1"));
    written.sort();
    Ok(written)
}

fn completions(dir: &Path) -> Result<Vec<String>> {
    let shells = [
        Shell::Bash,
        Shell::Zsh,
        Shell::Fish,
        Shell::Elvish,
        Shell::PowerShell,
    ];
    shells
        .into_iter()
        .map(|shell| {
            let path = clap_complete::generate_to(shell, &mut Cli::command(), "onionskin", dir)?;
            Ok(path.display().to_string())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_public_command_has_its_page() {
        let dir = tempfile::tempdir().unwrap();
        let pages = man(dir.path()).unwrap().join(" ");
        for name in [
            "onionskin.1",
            "onionskin-watch.1",
            "onionskin-snapshots-export.1",
        ] {
            assert!(pages.contains(name), "{name} in {pages}");
        }
        assert!(!pages.contains("workload"), "{pages}");
    }

    #[test]
    fn five_shells_are_served() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(completions(dir.path()).unwrap().len(), 5);
    }
}
