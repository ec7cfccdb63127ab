//! Tidiness: lengths, words that should not stay, base page sizes written as numbers, and paths
//! of one machine.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::Outcome;
use super::modules::ModuleMap;
use crate::source::{Source, Token, tokens};
use crate::workspace::Workspace;

/// A file longer than this, tests apart, fails.
const FILE_LINES_MAX: usize = 800;
/// A function longer than this is mentioned.
const FUNCTION_LINES_MAX: usize = 70;

/// What is read of each file, put so that these lines are not found themselves.
const MACROS: [&str; 2] = ["todo", "unimplemented"];
const NOTES: [&str; 2] = [concat!("FIX", "ME"), concat!("XX", "X")];
const WORKPLACES: [&str; 4] = [
    concat!("/wo", "rk/"),
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
];

/// Reads every file that git knows or would add.
pub(super) fn check(workspace: &Workspace) -> Result<Outcome> {
    let modules = ModuleMap::of(workspace)?;
    let mut problems = Vec::new();
    for file in workspace.files()? {
        let path = workspace.root.join(&file);
        let bytes = fs::read(&path).with_context(|| format!("reading {}", file.display()))?;
        let Ok(text) = String::from_utf8(bytes) else {
            continue;
        };
        problems.extend(workplace_paths(&file, &text));
        if file.extension().is_some_and(|extension| extension == "rs") {
            let rust = RustFile::new(&file, text, modules.is_test_only(&path));
            problems.extend(rust.problems());
            for warning in rust.long_functions() {
                println!("  warning: {warning}");
            }
        }
    }
    Ok(Outcome::of(problems))
}

struct RustFile<'a> {
    file: &'a Path,
    source: Source,
    test_only: bool,
}

impl<'a> RustFile<'a> {
    fn new(file: &'a Path, text: String, test_only: bool) -> Self {
        Self {
            file,
            source: Source::new(text),
            test_only,
        }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = self.unfinished();
        if !self.test_only && self.source.shipped_lines() > FILE_LINES_MAX {
            let lines = self.source.shipped_lines();
            let file = self.file.display();
            problems.push(format!(
                "{file}: {lines} lines without tests, {FILE_LINES_MAX} at most"
            ));
        }
        if !self.test_only && is_library_source(self.file) {
            problems.extend(self.page_sizes());
        }
        problems
    }

    /// Finds what says that something is not done, or switched off.
    fn unfinished(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let code = tokens(&self.source.code);
        for (index, token) in code.iter().enumerate() {
            let followed_by = |text: &str| code.get(index + 1).is_some_and(|t| t.text == text);
            if MACROS.contains(&token.text) && followed_by("!") {
                problems.push(self.problem(token, "is left to be written"));
            }
            let opened = index
                .checked_sub(1)
                .is_some_and(|before| code[before].text == "[");
            if token.text == "ignore" && opened && (followed_by("]") || followed_by("=")) {
                problems.push(self.problem(token, "switches a test off"));
            }
        }
        for token in tokens(&self.source.prose) {
            if NOTES.contains(&token.text) {
                problems.push(self.problem(&token, "is left to be mended"));
            }
        }
        problems
    }

    /// Finds 4 KiB written as a number: a page's size is a value that comes from the kernel.
    fn page_sizes(&self) -> Vec<String> {
        let code = tokens(&self.source.code);
        let mut problems = Vec::new();
        for (index, token) in code.iter().enumerate() {
            let is_page_size = match number(token.text) {
                Some(4096) => true,
                Some(4) => is_product_with(&code, index, 1024),
                Some(1024) => is_product_with(&code, index, 4),
                _ => false,
            };
            if is_page_size && !self.source.is_test(token.at) && !self.is_excused(token) {
                let what = "writes a base page's size as a number; if it is none, say \
                            `not a page size` in a comment on the line or above it";
                problems.push(self.problem(token, what));
            }
        }
        problems
    }

    /// Tells whether the token's line or the one above it says that this is no page's size.
    fn is_excused(&self, token: &Token<'_>) -> bool {
        let line = self.source.line(token.at);
        let lines = self.source.prose.lines();
        let mut nearby = lines.skip(line.saturating_sub(2)).take(line.min(2));
        nearby.any(|text| text.contains("not a page size"))
    }

    fn long_functions(&self) -> Vec<String> {
        let functions = self.source.functions();
        let too_long = functions.iter().filter(|function| {
            let is_test = self.test_only || self.source.is_test(function.at);
            function.lines > FUNCTION_LINES_MAX && !is_test
        });
        too_long
            .map(|function| {
                let line = self.source.line(function.at);
                let (file, name, lines) = (self.file.display(), function.name, function.lines);
                format!("{file}:{line}: {name} takes {lines} lines, aim at {FUNCTION_LINES_MAX}")
            })
            .collect()
    }

    fn problem(&self, token: &Token<'_>, what: &str) -> String {
        let line = self.source.line(token.at);
        format!("{}:{line}: `{}` {what}", self.file.display(), token.text)
    }
}

/// Tells whether the token is the first of exactly two factors, the second of which is `right`.
fn is_product_with(code: &[Token<'_>], index: usize, right: u64) -> bool {
    let is_times = |index: usize| code.get(index).is_some_and(|token| token.text == "*");
    is_times(index + 1)
        && code.get(index + 2).and_then(|token| number(token.text)) == Some(right)
        && !is_times(index + 3)
        && !index.checked_sub(1).is_some_and(is_times)
}

/// Finds absolute paths of one person's or one machine's folders.
fn workplace_paths(file: &Path, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for workplace in WORKPLACES {
            let starts_path = |at: usize| {
                let before = line[..at].chars().next_back();
                before.is_none_or(|c| !c.is_alphanumeric() && !"_-.~/}".contains(c))
            };
            if line.match_indices(workplace).any(|(at, _)| starts_path(at)) {
                let file = file.display();
                problems.push(format!(
                    "{file}:{}: a path of one machine, {workplace}",
                    index + 1
                ));
            }
        }
    }
    problems
}

/// Tells whether a file is source of one of the crates, other than its integration tests.
fn is_library_source(file: &Path) -> bool {
    let mut parts = file.components().map(|part| part.as_os_str());
    parts.next().is_some_and(|part| part == "crates")
        && parts.nth(1).is_some_and(|part| part == "src")
}

/// The value of a whole-number literal, with its base, separators and type suffix.
fn number(token: &str) -> Option<u64> {
    if !token.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let digits = token.replace('_', "").to_ascii_lowercase();
    let (digits, radix) = match digits.get(..2) {
        Some("0x") => (&digits[2..], 16),
        Some("0o") => (&digits[2..], 8),
        Some("0b") => (&digits[2..], 2),
        _ => (&digits[..], 10),
    };
    let digits = digits.split(['u', 'i']).next().unwrap_or_default();
    u64::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(file: &str, text: &str) -> Vec<String> {
        RustFile::new(Path::new(file), text.to_owned(), false).problems()
    }

    #[test]
    fn unfinished_work_is_found_with_its_line() {
        let text = "fn a() {\n    todo!()\n}\n#[ignore]\nfn b() {}\n// XXX later\n";
        let found = problems("xtask/src/a.rs", text);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("xtask/src/a.rs:2: "));
        assert!(found[1].starts_with("xtask/src/a.rs:4: "));
        assert!(found[2].starts_with("xtask/src/a.rs:6: "));
    }

    #[test]
    fn words_in_literals_and_names_are_spared() {
        let text = "let a = \"mkstemp.XXX FIXME todo!()\"; ignore(a); todo(); /// [ignored]\n";
        assert_eq!(problems("crates/a/src/a.rs", text), Vec::<String>::new());
    }

    #[test]
    fn page_sizes_are_found_however_they_are_written() {
        for literal in [
            "4096",
            "4_096_usize",
            "0x1000",
            "0x1000u64",
            "4 * 1024",
            "1024*4",
        ] {
            let text = format!("const A: usize = {literal};\n");
            assert_eq!(problems("crates/a/src/a.rs", &text).len(), 1, "{literal}");
            assert!(problems("crates/a/tests/a.rs", &text).is_empty());
            let in_test = format!("#[cfg(test)]\nmod tests {{ {text} }}\n");
            assert!(problems("crates/a/src/a.rs", &in_test).is_empty());
        }
        for literal in [
            "40960",
            "0x10000",
            "64 * 1024",
            "4 * 1024 * 1024",
            "\"4096\"",
            "a4096",
        ] {
            let text = format!("const A: usize = {literal}; // 4096\n");
            assert!(problems("crates/a/src/a.rs", &text).is_empty(), "{literal}");
        }
    }

    #[test]
    fn a_comment_excuses_a_number_that_is_no_page_size() {
        let line = "const BPF_MAXINSNS: usize = 4096;";
        for text in [
            format!("fn a() {{}}\n// Instructions, not a page size.\n{line}\n"),
            format!("{line} // not a page size\n"),
        ] {
            assert!(problems("crates/a/src/a.rs", &text).is_empty(), "{text}");
        }
        let below = format!("{line}\n// not a page size\n");
        assert_eq!(problems("crates/a/src/a.rs", &below).len(), 1);
        let far = format!("// not a page size\n\n{line}\n");
        assert_eq!(problems("crates/a/src/a.rs", &far).len(), 1);
    }

    #[test]
    fn a_file_is_measured_without_its_tests() {
        let code = "fn a() {}\n".repeat(FILE_LINES_MAX);
        let tests = format!(
            "#[cfg(test)]\nmod tests {{\n{}}}\n",
            "// a line\n".repeat(100)
        );
        assert!(problems("crates/a/src/a.rs", &format!("{code}{tests}")).is_empty());
        assert_eq!(
            problems("crates/a/src/a.rs", &format!("fn b() {{}}\n{code}{tests}")).len(),
            1
        );
    }

    #[test]
    fn long_functions_are_mentioned() {
        let text = format!("fn a() {{\n{}}}\nfn b() {{}}\n", "    b();\n".repeat(70));
        let file = RustFile::new(Path::new("a.rs"), text, false);
        assert!(matches!(&file.long_functions()[..], [one] if one.contains("a takes 72 lines")));
    }

    #[test]
    fn paths_of_a_machine_are_found() {
        let home = concat!("/ho", "me/somebody");
        assert_eq!(
            workplace_paths(Path::new("a"), &format!("x\nsee {home}/a")).len(),
            1
        );
        assert_eq!(
            workplace_paths(Path::new("a"), &format!("path={home}")).len(),
            1
        );
        let elsewhere = format!("https://example.org{home} ./target{home}");
        assert!(workplace_paths(Path::new("a"), &elsewhere).is_empty());
    }
}
