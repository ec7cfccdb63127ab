//! The document, a section a subject.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::machine;

/// What came out of one subject.
#[derive(Debug, Default)]
pub(crate) struct Section {
    text: String,
    /// What was asked for, what came out, and whether that is enough.
    verdicts: Vec<Vec<String>>,
    /// What bounds what is measured, in words.
    bounds: Vec<String>,
    /// Pictures: file name and content.
    pictures: Vec<(&'static str, String)>,
}

impl Section {
    /// Begins a section with its title.
    pub(crate) fn new(title: &str) -> Self {
        Self {
            text: format!("## {title}\n\n"),
            ..Self::default()
        }
    }

    /// Adds that `what` is asked to be `limit` at most, and what it is.
    pub(crate) fn at_most(&mut self, what: &str, limit: f64, measured: f64) {
        self.judge(what, "at most", limit, measured, measured <= limit);
    }

    /// Adds that `what` is asked to be `limit` at least, and what it is.
    pub(crate) fn at_least(&mut self, what: &str, limit: f64, measured: f64) {
        self.judge(what, "at least", limit, measured, measured >= limit);
    }

    fn judge(&mut self, what: &str, how: &str, limit: f64, measured: f64, kept: bool) {
        self.verdicts.push(vec![
            what.to_owned(),
            format!("{how} {limit}"),
            round(measured),
            if kept { "kept" } else { "**missed**" }.to_owned(),
        ]);
    }

    /// Adds what bounds a figure, which is told below the verdicts.
    pub(crate) fn bounded_by(&mut self, reason: impl Into<String>) {
        self.bounds.push(reason.into());
    }

    /// Adds a paragraph.
    pub(crate) fn say(&mut self, paragraph: &str) {
        let _ = writeln!(self.text, "{paragraph}\n");
    }

    /// Adds a table.
    pub(crate) fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        let rule = vec!["---"; head.len()].join(" | ");
        let _ = writeln!(self.text, "| {} |\n| {rule} |", head.join(" | "));
        for row in rows {
            let _ = writeln!(self.text, "| {} |", row.join(" | "));
        }
        self.text.push('\n');
    }

    /// Adds a picture that lies beside the document.
    pub(crate) fn picture(&mut self, file: &'static str, alt: &str, svg: String) {
        let _ = writeln!(self.text, "![{alt}](performance/{file})\n");
        self.pictures.push((file, svg));
    }

    /// Returns the text.
    pub(crate) fn markdown(&self) -> String {
        let mut whole = Self {
            text: self.text.clone(),
            ..Self::default()
        };
        if !self.verdicts.is_empty() {
            let head = ["figure", "asked for", "measured", ""];
            whole.table(&head, &self.verdicts);
        }
        for reason in &self.bounds {
            whole.say(&format!("What bounds it: {reason}"));
        }
        whole.text
    }
}

/// Three figures are enough to judge by.
fn round(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// `performance.md`: sections that are replaced one by one, in the order of their marks.
pub(crate) struct Document {
    folder: Option<PathBuf>,
    sections: BTreeMap<String, String>,
    pictures: Vec<(&'static str, String)>,
}

impl Document {
    /// Opens the document in `folder`, if it is to be written at all.
    pub(crate) fn open(folder: Option<&Path>) -> Result<Self> {
        let mut sections = BTreeMap::new();
        if let Some(folder) = folder {
            let text = fs::read_to_string(folder.join("performance.md")).unwrap_or_default();
            for part in text.split("<!-- bench ").skip(1) {
                let (name, rest) = part
                    .split_once(" -->\n")
                    .context("a mark without its end")?;
                sections.insert(name.to_owned(), rest.trim_end().to_owned());
            }
        }
        Ok(Self {
            folder: folder.map(Path::to_owned),
            sections,
            pictures: Vec::new(),
        })
    }

    /// Replaces a section.
    pub(crate) fn put(&mut self, name: &str, section: Section) {
        let mut text = section.markdown().trim_end().to_owned();
        let _ = write!(
            text,
            "\n\nMade by `cargo xtask bench snapshot {name}` on {}; load average at the end {}.",
            machine::describe(),
            machine::load()
        );
        self.sections.insert(name.to_owned(), text);
        self.pictures.extend(section.pictures);
    }

    /// Writes what there is.
    pub(crate) fn write(&self) -> Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let mut text = PREFACE.to_owned();
        for (name, _) in super::SUBJECTS {
            if let Some(section) = self.sections.get(*name) {
                let _ = write!(text, "\n<!-- bench {name} -->\n{section}\n");
            }
        }
        fs::create_dir_all(folder.join("performance"))?;
        fs::write(folder.join("performance.md"), text)?;
        for (file, svg) in &self.pictures {
            fs::write(folder.join("performance").join(file), svg)?;
        }
        Ok(())
    }
}

const PREFACE: &str = "\
# How fast it is

Every figure here is made by `cargo xtask bench snapshot`, which writes this file; one section with
`cargo xtask bench snapshot SECTION`, whose command stands at its end. Read the ratios, not the
milliseconds: both sides of each were measured in one run on the same process, in turns; `fork()` in
blocks between them, gcore after them.

* The target is `tests/targets/heartbeat.c` unless another is named: its threads do some
  arithmetic, write to a random one of the hot pages, look at the clock and remember their largest
  gap; without pauses, one thread a core. Half of each of its pages does not compress. The hot pages
  lie evenly spread, which is the hardest for a scan and for a copy.
* Values are medians, with the smallest and the largest behind them in parentheses.
* Memory was touched before it was timed, on both sides. Bare loops are C, in
  `benches/snapshot/bare.c`.
* A heartbeat's gap holds more than the stop: the scheduler may take a thread off its core before
  or after it, for the tool's own threads or for those of other programs.
";
