//! What the harness of Rust's tests prints, and what tests say about being skipped.
//!
//! Results are taken from the line of each test where there is one. The documentation's tests are
//! run quietly and have only the line that sums up; a program that died has only those of its
//! tests.

use std::collections::{BTreeMap, BTreeSet};

use super::super::report::Counts;

/// Reads a test program's output line by line.
#[derive(Default)]
pub(crate) struct Output {
    /// The tests that passed, by the lines that say so.
    passed: BTreeSet<String>,
    /// The tests that failed, likewise.
    failed: BTreeSet<String>,
    /// Sums of the lines that sum up.
    summed: Summary,
    /// Names and reasons in the order of the names.
    skipped: BTreeMap<String, String>,
    /// The test whose output is being shown.
    showing: Option<String>,
    /// Whether what is being shown belongs to tests that passed.
    in_successes: bool,
}

/// The names of tests that have a line with a result.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Names {
    /// Those that passed or were skipped.
    pub(crate) good: Vec<String>,
    /// Those that failed.
    pub(crate) failed: Vec<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Summary {
    passed: usize,
    failed: usize,
    ignored: usize,
}

impl Output {
    /// Reads a line of standard output, and tells whether a person wants to see it: the output of
    /// tests that passed is read here and not shown.
    pub(crate) fn stdout_line(&mut self, line: &str) -> bool {
        // What a test printed may look like anything, a harness's own lines included.
        let is_harness = self.showing.is_none();
        if line == "successes:" || line == "failures:" {
            self.in_successes = line == "successes:";
            self.showing = None;
        } else if let Some(name) = shown_test(line) {
            self.showing = Some(name.to_owned());
        } else if let Some(summary) = Summary::parse(line).filter(|_| is_harness) {
            self.summed.passed += summary.passed;
            self.summed.failed += summary.failed;
            self.summed.ignored += summary.ignored;
            self.in_successes = false;
        } else if let Some((name, result)) = test_result(line).filter(|_| is_harness) {
            self.test_line(name, result);
        }
        self.read_skip(line);
        !self.in_successes
    }

    /// Reads a line of standard error, where only a skipped test has something to say.
    pub(crate) fn stderr_line(&mut self, line: &str) {
        if let Some(("", said)) = line.split_once("skipped: ") {
            self.skip_line(said);
        }
    }

    /// Reads the file that skipped tests append to.
    pub(crate) fn skip_file(&mut self, text: &str) {
        for line in text.lines() {
            self.skip_line(line);
        }
    }

    /// How many tests have a line with a result.
    pub(crate) fn results(&self) -> usize {
        self.passed.len() + self.failed.len()
    }

    /// The names of the tests so far.
    pub(crate) fn names(&self) -> Names {
        Names {
            good: self.passed.difference(&self.failed).cloned().collect(),
            failed: self.failed.iter().cloned().collect(),
        }
    }

    /// Counts. `broken` says what is wrong with how the program ended, if anything is.
    pub(crate) fn counts(self, broken: &Option<String>) -> Counts {
        let passed_lines: BTreeSet<_> = self.passed.difference(&self.failed).cloned().collect();
        let bodies = passed_lines.iter().filter(|name| is_body(name)).count();
        let mut passed = passed_lines.len().max(self.summed.passed) - bodies;
        let mut failed = self.failed.len().max(self.summed.failed);
        if let Some(how) = broken
            && failed == 0
        {
            println!("the test program {how}");
            failed = 1;
        }
        let mut skipped = Vec::new();
        for (name, reason) in self.skipped {
            if self.failed.iter().any(|test| is_test(test, &name)) {
                continue;
            }
            // Its own line may be torn by what a child printed, so a test need not be known.
            let whole = passed_lines.iter().find(|test| is_test(test, &name));
            passed -= usize::from(!name.contains('/') && passed > 0);
            skipped.push(format!("{}: {reason}", whole.unwrap_or(&name)));
        }
        for _ in 0..self.summed.ignored {
            skipped.push("a test: it is marked to be ignored".to_owned());
        }
        Counts {
            passed,
            failed,
            skipped,
        }
    }

    fn test_line(&mut self, name: &str, result: &str) {
        match result {
            "ok" => self.passed.insert(name.to_owned()),
            "FAILED" => self.failed.insert(name.to_owned()),
            _ => false,
        };
    }

    fn read_skip(&mut self, line: &str) {
        let Some(("", said)) = line.split_once("skipped: ") else {
            return;
        };
        match &self.showing {
            Some(test) => {
                let own_name = said
                    .split_once(": ")
                    .filter(|(name, _)| is_test(test, name));
                let (name, reason) = match said.split_once(": ") {
                    Some((name, reason)) if is_part(test, name) => (name.to_owned(), reason),
                    _ => (test.clone(), own_name.map_or(said, |(_, reason)| reason)),
                };
                let reason = reason.to_owned();
                self.skipped.entry(name).or_insert(reason);
            }
            None => self.skip_line(said),
        }
    }

    fn skip_line(&mut self, line: &str) {
        let (name, reason) = line.split_once(": ").unwrap_or((line, "no reason given"));
        let known = self
            .skipped
            .keys()
            .any(|known| is_test(known, name) || is_test(name, known));
        if !name.trim().is_empty() && !known {
            self.skipped.insert(name.to_owned(), reason.to_owned());
        }
    }
}

impl Summary {
    /// Reads "test result: ok. 5 passed; 0 failed; 1 ignored; ...".
    fn parse(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let mut summary = Self::default();
        for part in counts.split("; ") {
            let Some((number, what)) = part.split_once(' ') else {
                continue;
            };
            match what {
                "passed" => summary.passed = number.parse().ok()?,
                "failed" => summary.failed = number.parse().ok()?,
                "ignored" => summary.ignored = number.parse().ok()?,
                _ => {}
            }
        }
        Some(summary)
    }
}

/// Tells whether a test, whose name has the modules around it, is meant by a name that may not.
fn is_test(test: &str, name: &str) -> bool {
    test == name
        || test
            .strip_suffix(name)
            .is_some_and(|modules| modules.ends_with("::"))
}

/// Tells whether a test is none, by its name: the body of a program that another test runs.
fn is_body(test: &str) -> bool {
    let (_, name) = test.rsplit_once("::").unwrap_or(("", test));
    name.starts_with("body_of_")
}

/// Tells whether a name such as `test/part` means a part of a test.
fn is_part(test: &str, name: &str) -> bool {
    name.split_once('/')
        .is_some_and(|(whole, _)| is_test(test, whole))
}

/// Reads "---- NAME stdout ----".
fn shown_test(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

/// Reads "test NAME ... RESULT".
fn test_result(line: &str) -> Option<(&str, &str)> {
    let (name, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
    Some((name.strip_suffix(" - should panic").unwrap_or(name), result))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Output {
        let mut output = Output::default();
        for line in lines.lines() {
            output.stdout_line(line);
        }
        output
    }

    const MIXED: &str = "\
running 4 tests
test a::one ... ok
test a::two ... ok
test three - should panic ... ok
test four ... FAILED

successes:

---- a::two stdout ----
skipped: needs root

successes:
    a::one

failures:

---- four stdout ----
assertion failed

failures:
    four

test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 7 filtered out; finished in 0.01s
";

    #[test]
    fn a_test_that_says_so_is_skipped_and_not_passed() {
        let counts = read(MIXED).counts(&Some("ended with exit status: 101".to_owned()));
        let skipped = vec!["a::two: needs root".to_owned()];
        assert_eq!(
            counts,
            Counts {
                passed: 2,
                failed: 1,
                skipped
            }
        );
        let names = read(MIXED).names();
        assert_eq!(names.good, ["a::one", "a::two", "three"]);
        assert_eq!(names.failed, ["four"]);
    }

    #[test]
    fn the_file_and_the_output_are_not_counted_twice() {
        let mut output = read(MIXED);
        output.skip_file("two: needs root\n\n");
        assert_eq!(output.counts(&None).skipped.len(), 1);
    }

    #[test]
    fn a_skipped_part_leaves_the_test_passed() {
        let mut output = read(MIXED);
        output.skip_file("one/hugetlb: no huge pages\n");
        let counts = output.counts(&None);
        assert_eq!((counts.passed, counts.skipped.len()), (2, 2));
        let part = read(&MIXED.replace("skipped: needs", "skipped: two/x: needs"));
        assert_eq!(part.counts(&None).passed, 3);
    }

    #[test]
    fn the_body_of_a_program_is_no_test() {
        let output = read(&MIXED.replace("a::one", "a::body_of_the_tool"));
        assert_eq!(output.counts(&None).passed, 1);
    }

    #[test]
    fn a_name_before_the_reason_is_understood() {
        let named = read(&MIXED.replace("skipped: needs", "skipped: two: needs"));
        assert_eq!(named.counts(&None).skipped, ["a::two: needs root"]);
    }

    #[test]
    fn output_of_passed_tests_is_not_shown() {
        let mut output = Output::default();
        let shown: Vec<_> = MIXED
            .lines()
            .filter(|line| output.stdout_line(line))
            .collect();
        assert!(shown.contains(&"assertion failed") && !shown.contains(&"skipped: needs root"));
    }

    #[test]
    fn a_harness_in_a_test_s_output_is_not_taken_for_the_real_one() {
        let inner = "test inner ... ok\ntest result: ok. 9 passed; 0 failed; 0 ignored";
        let counts = read(&MIXED.replace("skipped: needs root", inner)).counts(&None);
        assert_eq!(
            counts,
            Counts {
                passed: 3,
                failed: 1,
                skipped: Vec::new()
            }
        );
    }

    #[test]
    fn sums_of_several_programs_add_up() {
        let line = "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out";
        let counts = read(&format!("{line}\n{line}\n")).counts(&None);
        assert_eq!(
            (counts.passed, counts.failed, counts.skipped.len()),
            (4, 0, 2)
        );
    }

    #[test]
    fn a_program_that_dies_fails_even_if_all_its_tests_passed() {
        let counts = read("test a ... ok").counts(&Some("ended with signal: 11".to_owned()));
        assert_eq!((counts.passed, counts.failed), (1, 1));
        // A test that was running has no result: it is the one that is counted as failed.
        let counts = read("test a ... ok\ntest b ... ").counts(&Some("died".to_owned()));
        assert_eq!((counts.passed, counts.failed), (1, 1));
    }
}
