//! Man pages and shell completions, from the command's definition.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

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

/// What the main page has beyond what follows from the definition.
const MAIN: &str = include_str!("man.roff");
/// What the other pages end with.
const OTHER: &str = ".SH \"SEE ALSO\"\n.BR onionskin (1)\n";

fn man(dir: &Path) -> Result<Vec<String>> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut written = Vec::new();
    pages(&command, MAIN, dir, &mut written)?;
    written.sort();
    Ok(written)
}

fn pages(command: &Command, more: &str, dir: &Path, written: &mut Vec<String>) -> Result<()> {
    for inner in shown(command) {
        pages(&inner, OTHER, dir, written)?;
    }
    let page = Man::new(command.clone()).manual("Onionskin Manual");
    let mut text = Vec::new();
    page.render(&mut text)?;
    text.extend(more.as_bytes());
    let path = dir.join(page.get_filename());
    fs::write(&path, text)?;
    written.push(path.display().to_string());
    Ok(())
}

/// The commands within one that are for users.
fn shown(command: &Command) -> impl Iterator<Item = Command> {
    let shown = command
        .get_subcommands()
        .filter(|inner| !inner.is_hide_set());
    shown.cloned()
}

/// The command without what is not for users, which completions would offer all the same.
fn public() -> Command {
    let all = Cli::command();
    Command::new("onionskin")
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true)
        .subcommand_required(true)
        .args(all.get_arguments().cloned())
        .subcommands(shown(&all))
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
            let path = clap_complete::generate_to(shell, &mut public(), "onionskin", dir)?;
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
        let main = fs::read_to_string(dir.path().join("onionskin.1")).unwrap();
        let at = |section: &str| {
            main.find(section)
                .unwrap_or_else(|| panic!("{section}: {main}"))
        };
        assert!(at(".SH OPTIONS") < at(".SH \"EXIT STATUS\""));
        assert!(at(".SH ENVIRONMENT") < at(".SH EXAMPLES"));
        assert!(main.contains("Onionskin Manual"));
    }

    #[test]
    fn five_shells_are_served() {
        let dir = tempfile::tempdir().unwrap();
        let files = completions(dir.path()).unwrap();
        assert_eq!(files.len(), 5);
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            assert!(
                !text.contains("workload"),
                "{file} offers what is not for users"
            );
            for word in ["snapshot", "max-freeze", "json", "export"] {
                assert!(text.contains(word), "{word} in {file}");
            }
        }
    }
}
