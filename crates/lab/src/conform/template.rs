//! A case's file: a program with expectations, written once for several variants.
//!
//! The first line is `onionskin case 1`, and comments right behind it say what the case shows. Then:
//!
//! * `for NAME in VALUE...` makes a case for each value; several such lines, for each combination.
//!   `{NAME}` means the value. `for mem in ...` takes kinds of memory: `Memory` says what they
//!   define.
//! * `let NAME = TEXT` defines `{NAME}`.
//! * `[NAME=ONE|OTHER] line` is there for these values only, `[NAME!=ONE] line` for all others.
//! * The kind of memory also defines `{P}`, `{R}` and `{M}`, what pagemap shows of a page that was
//!   written, that was only read, and that was write-protected before either; and for guards `unit` (`p` or `h`) and `sharing` (`shared` or `private`).
//! * `memory @0 4u` maps four units of the kind of memory, from a new file `f0` if it needs one;
//!   `memory @0 4u r f1` with another protection and file.
//! * `include NAME` puts the lines of `NAME.inc` of the same family there.
//! * `4u` is four units: base pages, or huge pages where the memory has those; a `see` whose start
//!   is in units counts its entries in units, too.

use crate::conform::features;
use crate::program::{Geometry, Program, TextError};

/// The first line of every case.
const HEADER: &str = "onionskin case 1";

/// Why a file holds no case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The first line is another.
    #[error("line 1 must be '{HEADER}'")]
    Header,
    /// What it includes is not there.
    #[error("line {0}: there is no '{1}.inc' in the family")]
    Include(usize, String),
    /// Nothing says what the case is for.
    #[error("a comment behind the first line must say what the case shows")]
    About,
    /// A line is wrong.
    #[error("line {0}: '{1}' can't be read")]
    Line(usize, String),
    /// A name was not defined.
    #[error("line {0}: nothing defines the name in '{1}'")]
    Name(usize, String),
    /// A variant is no program.
    #[error("{0}: {1}\n{2}")]
    Program(String, TextError, String),
    /// A condition names a feature that there is not.
    #[error("there is no feature '{0}'")]
    Feature(String),
    /// Nothing can go wrong.
    #[error("it expects nothing")]
    Empty,
}

/// One case of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// `.VALUE` for each of its values.
    pub suffix: String,
    /// What it shows.
    pub about: String,
    /// The program.
    pub program: Program,
}

/// A kind of memory: how it is mapped, and what its pages show in pagemap.
struct Memory {
    name: &'static str,
    /// The unit: base pages or huge pages.
    unit: char,
    /// Flags of `memfd_create`, if it has a file.
    file: Option<&'static str>,
    /// Flags of `mmap`.
    flags: &'static str,
    /// `{P}`: a page that was written.
    written: &'static str,
    /// `{R}`: a page that was only read.
    read: &'static str,
}

const MEMORY: [Memory; 7] = [
    Memory {
        name: "anon",
        unit: 'p',
        file: None,
        flags: "private|fixed|anon",
        written: "P",
        read: "P",
    },
    Memory {
        name: "thp",
        unit: 'h',
        file: None,
        flags: "private|fixed|anon",
        written: "P",
        read: "P",
    },
    Memory {
        name: "shmem",
        unit: 'p',
        file: Some("0"),
        flags: "shared|fixed",
        written: "PF",
        read: "PF",
    },
    Memory {
        name: "shmem-private",
        unit: 'p',
        file: Some("0"),
        flags: "private|fixed",
        written: "P",
        read: "PF",
    },
    Memory {
        name: "hugetlb",
        unit: 'h',
        file: Some("hugetlb"),
        flags: "shared|fixed",
        written: "PF",
        read: "PF",
    },
    Memory {
        name: "hugetlb-private",
        unit: 'h',
        file: Some("hugetlb"),
        flags: "private|fixed",
        written: "P",
        read: "PF",
    },
    Memory {
        name: "hugetlb-anon",
        unit: 'h',
        file: None,
        flags: "private|fixed|anon|hugetlb",
        written: "P",
        read: "P",
    },
];

impl Memory {
    fn of(name: &str) -> Option<&'static Self> {
        MEMORY.iter().find(|memory| memory.name == name)
    }

    /// Whether writes are seen by others that map the file.
    fn sharing(&self) -> &'static str {
        if self.flags.starts_with("shared") {
            "shared"
        } else {
            "private"
        }
    }

    /// The steps that map it.
    fn steps(&self, words: &[&str]) -> Option<Vec<String>> {
        let (address, len, prot, file) = match *words {
            [address, len] => (address, len, "r|w", "f0"),
            [address, len, prot] => (address, len, prot, "f0"),
            [address, len, prot, file] => (address, len, prot, file),
            _ => return None,
        };
        let mut steps = Vec::new();
        let slot = match self.file {
            Some(flags) => {
                steps.push(format!("memfd {file} {flags}"));
                steps.push(format!("ftruncate {file} {len}"));
                file
            }
            None => "-",
        };
        let flags = self.flags;
        steps.push(format!(
            "mmap {address} {len} {prot} {flags} {slot} 0 => {address}"
        ));
        if self.name == "thp" {
            steps.push(format!("madvise {address} {len} hugepage"));
        }
        Some(steps)
    }
}

/// A name and what it means.
type Binding = (String, String);

/// Reads a file; `included` finds what it includes.
///
/// # Errors
///
/// Fails where it holds no case.
pub fn expand(
    text: &str,
    included: &dyn Fn(&str) -> Option<String>,
    geometry: Geometry,
) -> Result<Vec<Variant>, TemplateError> {
    if text.lines().next().map(str::trim) != Some(HEADER) {
        return Err(TemplateError::Header);
    }
    let about = about(text).ok_or(TemplateError::About)?;
    let lines = with_included(text, included)?;
    let mut loops: Vec<(String, Vec<String>)> = Vec::new();
    let mut body = Vec::new();
    for (number, line) in &lines {
        let line = line
            .split_once('#')
            .map_or(line.as_str(), |(code, _)| code)
            .trim();
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            ["for", name, "in", values @ ..] => {
                let values = values.iter().map(|&value| value.to_owned()).collect();
                loops.push(((*name).to_owned(), values));
            }
            _ => body.push((*number, line)),
        }
    }
    let mut combinations: Vec<Vec<Binding>> = vec![Vec::new()];
    for (name, values) in &loops {
        let with = |value: &String| {
            let binding = (name.clone(), value.clone());
            combinations
                .iter()
                .map(move |before| [before.as_slice(), std::slice::from_ref(&binding)].concat())
        };
        combinations = values.iter().flat_map(with).collect();
    }
    let variants = combinations
        .into_iter()
        .map(|bindings| variant(&about, &body, bindings, geometry));
    variants.collect()
}

/// The lines behind the first with their numbers; those that are included have the number of the
/// line that includes them.
fn with_included(
    text: &str,
    included: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<(usize, String)>, TemplateError> {
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate().skip(1) {
        let number = index + 1;
        match line.trim().strip_prefix("include ") {
            Some(name) => {
                let text = included(name.trim());
                let text = text.ok_or_else(|| TemplateError::Include(number, name.to_owned()))?;
                lines.extend(text.lines().map(|line| (number, line.to_owned())));
            }
            None => lines.push((number, line.to_owned())),
        }
    }
    Ok(lines)
}

/// The first comment.
fn about(text: &str) -> Option<String> {
    let comment = text
        .lines()
        .skip(1)
        .map_while(|line| line.trim().strip_prefix('#'));
    let about = comment.map(str::trim).collect::<Vec<_>>().join(" ");
    (!about.is_empty()).then_some(about)
}

fn variant(
    about: &str,
    body: &[(usize, &str)],
    mut bindings: Vec<Binding>,
    geometry: Geometry,
) -> Result<Variant, TemplateError> {
    let suffix: String = bindings
        .iter()
        .map(|(_, value)| format!(".{value}"))
        .collect();
    let kind = bindings.iter().find(|(name, _)| name == "mem");
    let memory = kind.and_then(|(_, value)| Memory::of(value));
    let unit = memory.map_or('p', |memory| memory.unit);
    let mut head = String::from("onionskin program 1\n");
    let mut text = String::new();
    if let Some(memory) = memory {
        bindings.push(("P".to_owned(), memory.written.to_owned()));
        bindings.push(("R".to_owned(), memory.read.to_owned()));
        let marker = if unit == 'h' { "W" } else { "SW" };
        bindings.push(("M".to_owned(), marker.to_owned()));
        bindings.push(("unit".to_owned(), unit.to_string()));
        bindings.push(("sharing".to_owned(), memory.sharing().to_owned()));
        if memory.name == "thp" {
            head.push_str("huge on\nneeds thp\n");
        } else if unit == 'h' {
            head.push_str("needs hugetlb\n");
        }
    }
    for &(number, line) in body {
        let wrong = || TemplateError::Line(number, line.to_owned());
        let Some(line) = guarded(line, &bindings).ok_or_else(wrong)? else {
            continue;
        };
        let line = substitute(line, &bindings);
        let line =
            line.ok_or_else(|| TemplateError::Name(number, (*line_text(body, number)).to_owned()))?;
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["let", name, "=", value @ ..] => {
                bindings.insert(0, ((*name).to_owned(), value.join(" ")));
            }
            ["memory", arguments @ ..] => {
                let steps = memory
                    .and_then(|memory| memory.steps(arguments))
                    .ok_or_else(wrong)?;
                for step in steps {
                    push(&mut text, &in_units(&step, unit));
                }
            }
            ["see", start, entries @ ..] if start.ends_with('u') => {
                let times = if unit == 'h' {
                    geometry.huge / geometry.page
                } else {
                    1
                };
                let entries = entries.iter().map(|entry| repeat(entry, times));
                let entries: Vec<String> = entries.collect::<Option<_>>().ok_or_else(wrong)?;
                let start = in_units(start, unit);
                push(&mut text, &format!("see {start} {}", entries.join(" ")));
            }
            ["window" | "needs" | "huge", ..] => push(&mut head, &in_units(&line, unit)),
            _ => push(&mut text, &in_units(&line, unit)),
        }
    }
    let text = head + &text;
    let program = text.parse::<Program>();
    let program = program.map_err(|why| TemplateError::Program(suffix.clone(), why, text))?;
    examine(&program)?;
    Ok(Variant {
        suffix,
        about: about.to_owned(),
        program,
    })
}

fn line_text<'a>(body: &[(usize, &'a str)], number: usize) -> &'a str {
    body.iter()
        .find(|(known, _)| *known == number)
        .map_or("", |(_, line)| line)
}

fn push(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// A program that expects nothing, or under a condition that nobody knows, is no case.
fn examine(program: &Program) -> Result<(), TemplateError> {
    let outcomes = program.steps.iter().flat_map(|step| &step.expect.outcomes);
    let conditions = outcomes.filter_map(|outcome| outcome.condition.as_ref());
    if let Some(unknown) = conditions
        .chain(&program.needs)
        .find(|name| !features::is_known(name))
    {
        return Err(TemplateError::Feature(unknown.clone()));
    }
    if program.steps.iter().all(|step| step.expect.is_empty()) {
        return Err(TemplateError::Empty);
    }
    Ok(())
}

/// The line behind its guards; `None` inside where it is not for these values; `None` outside where
/// the guard can't be read.
fn guarded<'a>(mut line: &'a str, bindings: &[Binding]) -> Option<Option<&'a str>> {
    while let Some(rest) = line.strip_prefix('[') {
        let (guard, behind) = rest.split_once(']')?;
        let (name, values) = guard.split_once('=')?;
        let (name, wanted) = name
            .strip_suffix('!')
            .map_or((name, true), |name| (name, false));
        let (_, value) = bindings.iter().find(|(known, _)| known == name)?;
        if values.split('|').any(|one| one == value) != wanted {
            return Some(None);
        }
        line = behind.trim_start();
    }
    Some(Some(line))
}

/// Puts values in the place of names.
fn substitute(line: &str, bindings: &[Binding]) -> Option<String> {
    let mut out = String::new();
    let mut rest = line;
    while let Some((before, behind)) = rest.split_once('{') {
        let (name, after) = behind.split_once('}')?;
        let (_, value) = bindings.iter().find(|(known, _)| known == name)?;
        out.push_str(before);
        out.push_str(value);
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

/// Turns `4u` into pages or huge pages.
fn in_units(line: &str, unit: char) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    let mut after_digit = false;
    while let Some(letter) = chars.next() {
        let ends = chars
            .peek()
            .is_none_or(|next| !next.is_ascii_alphanumeric());
        let is_unit = letter == 'u' && after_digit && ends;
        out.push(if is_unit { unit } else { letter });
        after_digit = letter.is_ascii_digit();
    }
    out
}

/// Repeats an entry of `see`.
fn repeat(entry: &str, times: u64) -> Option<String> {
    let (letters, before) = entry.split_once('*').unwrap_or((entry, "1"));
    let before: u64 = before.parse().ok()?;
    Some(format!("{letters}*{}", before * times))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(body: &str) -> Result<Vec<Variant>, TemplateError> {
        let included = |name: &str| (name == "map").then(|| "memory @0u 2u".to_owned());
        expand(
            &format!("{HEADER}\n# What it shows.\n{body}"),
            &included,
            Geometry::X86_64,
        )
    }

    #[test]
    fn a_file_is_a_case_for_each_combination() {
        let variants = expanded(
            "for mem in anon hugetlb\nfor way in load store\ninclude map\n\
             [way=load] load @1u => 0\n[way!=load] store @1u 1\n  see @0u - {P}\n",
        );
        let variants = variants.unwrap();
        let suffixes: Vec<&str> = variants.iter().map(|one| one.suffix.as_str()).collect();
        assert_eq!(
            suffixes,
            [
                ".anon.load",
                ".hugetlb.load",
                ".anon.store",
                ".hugetlb.store"
            ]
        );
        assert_eq!(variants[0].about, "What it shows.");
        assert_eq!(
            variants[3].program.to_string(),
            "onionskin program 1\nneeds hugetlb\nmemfd f0 hugetlb\nftruncate f0 2h\n\
             mmap @0 2h r|w shared|fixed f0 0 => @0\nstore @1h 0x01\n  see @0 -*512 PF*512\n"
        );
    }

    #[test]
    fn what_is_no_case_is_refused() {
        let error = |body: &str| expanded(body).unwrap_err().to_string();
        assert_eq!(error("look\n"), "it expects nothing");
        assert_eq!(
            error("load @0 => {x}\n"),
            "line 3: nothing defines the name in 'load @0 => {x}'"
        );
        assert_eq!(error("[x=1] look\n"), "line 3: '[x=1] look' can't be read");
        assert_eq!(
            error("needs luck\nload @0 => 0\n"),
            "there is no feature 'luck'"
        );
        assert_eq!(
            error("include it\n"),
            "line 3: there is no 'it.inc' in the family"
        );
        assert!(expand("onionskin case 1\nlook\n", &|_| None, Geometry::X86_64).is_err());
    }
}
