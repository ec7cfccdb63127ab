//! What to measure, and how long.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

/// The command line.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Small and short: to see that it works, not for figures.
    pub(crate) quick: bool,
    /// The subjects to measure; all if empty.
    only: Vec<String>,
    /// The folder of the document, if it is to be written.
    pub(crate) docs: Option<PathBuf>,
    /// The `onionskin` command.
    tool: Option<PathBuf>,
}

impl Options {
    /// Reads `[--quick] [--docs FOLDER] [--tool PROGRAM] [SUBJECT]...`.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self::default();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .with_context(|| format!("{argument} WHAT?"))
            };
            match argument.as_str() {
                "--quick" => options.quick = true,
                // Cargo passes it to every program that it benches with.
                "--bench" => {}
                "--docs" => options.docs = Some(value()?.into()),
                "--tool" => options.tool = Some(value()?.into()),
                name if name.starts_with('-') => bail!("{name} is not known"),
                name => options.only.push(name.to_owned()),
            }
        }
        if options.quick {
            options.docs = None;
        }
        Ok(options)
    }

    /// Tells whether a subject is asked for.
    pub(crate) fn wants(&self, subject: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == subject)
    }

    /// Returns the first in a real run, the second in a quick one.
    pub(crate) fn pick<T>(&self, real: T, quick: T) -> T {
        if self.quick { quick } else { real }
    }

    /// Returns the `onionskin` command: the one given, or the one beside this program.
    pub(crate) fn tool(&self) -> Result<PathBuf> {
        if let Some(tool) = &self.tool {
            return Ok(tool.clone());
        }
        let own = std::env::current_exe()?;
        let beside = own
            .parent()
            .and_then(|deps| deps.parent())
            .map(|dir| dir.join("onionskin"));
        beside
            .filter(|tool| tool.is_file())
            .context("no onionskin command: cargo build --release -p onionskin-cli, or --tool")
    }
}
