//! What a guest says: its tests' output, and lines of `guest/init.sh` that begin with `@@ `.

use std::time::{Duration, Instant};

use crate::test::report::Counts;
use crate::test::runner::output::{Names, Output};

/// What the kernel prints as it dies.
const DYING: [&str; 4] = ["Kernel panic", "Oops", "Internal error", "BUG: unable"];

/// Reads a console line by line.
#[derive(Default)]
pub(super) struct Console {
    suites: Vec<Suite>,
    running: Option<Running>,
    /// Whether the guest came to its end.
    ended: bool,
    /// The first line of the kernel's that says it is dying.
    dying: Option<String>,
}

/// A suite that has run.
#[derive(Default)]
pub(super) struct Suite {
    pub(super) name: String,
    pub(super) counts: Counts,
    pub(super) time: Duration,
    /// The names of the tests that passed or were skipped, and of those that failed.
    pub(super) tests: Names,
    /// How long each test took, in their order.
    pub(super) times: Vec<(String, Duration)>,
}

struct Running {
    name: String,
    output: Output,
    since: Instant,
    skips: String,
    /// How long each test took, and when the last one ended.
    times: Vec<(String, Duration)>,
    last: Instant,
    /// Whether the kernel's log is being shown, because it complains.
    complained: bool,
}

impl Console {
    /// Reads a line, and tells whether a person wants to see it.
    pub(super) fn line(&mut self, line: &str) -> bool {
        if let Some(order) = line.strip_prefix("@@ ") {
            return self.order(order);
        }
        if self.dying.is_none() && line.starts_with('[') && DYING.iter().any(|it| line.contains(it))
        {
            self.dying = Some(line.to_owned());
        }
        match &mut self.running {
            Some(running) if !running.complained => running.line(line),
            _ => self.running.is_some() || self.dying.is_some(),
        }
    }

    /// The suites that ran; what is wrong with the guest's end is one more that failed.
    pub(super) fn finish(mut self, cut_short: Option<String>) -> Vec<Suite> {
        let wrong = match (cut_short, self.dying.take()) {
            (_, Some(line)) => Some(format!("the kernel died: {line}")),
            (Some(why), None) => Some(why),
            (None, None) => (!self.ended).then(|| "the guest ended too early".to_owned()),
        };
        let Some(wrong) = wrong else {
            return self.suites;
        };
        match self.running.take() {
            Some(running) => self.suites.push(running.finish(Some(wrong))),
            None => {
                println!("{wrong}");
                let counts = Counts {
                    failed: 1,
                    ..Counts::default()
                };
                self.suites.push(Suite {
                    name: "(the guest itself)".to_owned(),
                    counts,
                    ..Suite::default()
                });
            }
        }
        self.suites
    }

    fn order(&mut self, order: &str) -> bool {
        let (word, rest) = order.split_once(' ').unwrap_or((order, ""));
        match (word, &mut self.running) {
            ("suite", _) => {
                let now = Instant::now();
                self.running = Some(Running {
                    name: rest.to_owned(),
                    output: Output::default(),
                    since: now,
                    skips: String::new(),
                    times: Vec::new(),
                    last: now,
                    complained: false,
                });
            }
            ("skip", Some(running)) => {
                running.skips.push_str(rest);
                running.skips.push('\n');
            }
            ("complaint", Some(running)) => running.complained = true,
            ("status", _) => {
                let status = rest.split(' ').next().and_then(|word| word.parse().ok());
                let broken = match status {
                    Some(0) => None,
                    Some(137) => Some("was ended at its limit".to_owned()),
                    _ => Some(format!("ended with status {rest}")),
                };
                let running = self.running.take();
                self.suites.extend(running.map(|it| it.finish(broken)));
            }
            ("end", _) => self.ended = true,
            _ => {}
        }
        true
    }
}

impl Running {
    fn line(&mut self, line: &str) -> bool {
        let known = self.output.results();
        let shown = self.output.stdout_line(line);
        if self.output.results() > known {
            let now = Instant::now();
            let name = line.split(' ').nth(1).unwrap_or_default().to_owned();
            self.times.push((name, now - self.last));
            self.last = now;
        }
        shown
    }

    fn finish(mut self, broken: Option<String>) -> Suite {
        self.output.skip_file(&self.skips);
        let tests = self.output.names();
        let mut counts = self.output.counts(&broken);
        if self.complained {
            println!("the kernel complained");
            counts.failed += 1;
        }
        Suite {
            name: self.name,
            counts,
            time: self.since.elapsed(),
            tests,
            times: self.times,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "\
booting
@@ suite onionskin-sys lib
running 2 tests
test a ... ok
test b ... ok

successes:

---- a stdout ----
skipped: no swap

test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s

@@ skip b/part: no huge pages
@@ status 0 4.22
";

    fn read(text: &str) -> Console {
        let mut console = Console::default();
        for line in text.lines() {
            console.line(line);
        }
        console
    }

    #[test]
    fn counts_a_suite() {
        let suites = read(&format!("{RUN}@@ end\n")).finish(None);
        assert_eq!(suites.len(), 1);
        assert_eq!(suites[0].name, "onionskin-sys lib");
        let counts = &suites[0].counts;
        assert_eq!((counts.passed, counts.failed), (1, 0));
        assert_eq!(counts.skipped, ["a: no swap", "b/part: no huge pages"]);
        let timed: Vec<_> = suites[0].times.iter().map(|(name, _)| &**name).collect();
        assert_eq!(timed, ["a", "b"]);
    }

    #[test]
    fn a_guest_that_does_not_come_to_its_end_failed() {
        for (text, cut_short) in [
            (RUN.to_owned(), None),
            (
                format!("{RUN}@@ end\n[ 1.0] Kernel panic - not syncing\n"),
                None,
            ),
            (
                format!("{RUN}[    1.0] Internal error: Oops: 0000000096000004 [#1] SMP\n@@ end\n"),
                None,
            ),
            (RUN.to_owned(), Some("hangs".to_owned())),
            (String::new(), None),
        ] {
            let suites = read(&text).finish(cut_short);
            let failed: usize = suites.iter().map(|suite| suite.counts.failed).sum();
            assert_eq!(failed, 1, "{text}");
        }
    }

    #[test]
    fn the_suite_in_which_a_guest_dies_failed() {
        let until = RUN.find("test b").unwrap();
        let suites = read(&RUN[..until]).finish(Some("hangs".to_owned()));
        let counts = &suites[0].counts;
        assert_eq!((counts.passed, counts.failed), (1, 1));
    }

    #[test]
    fn a_complaint_of_the_kernel_fails_the_suite() {
        let text = RUN.replace(
            "@@ status",
            "@@ complaint\n[ 4.0] WARNING: CPU: 0\ntest x ... ok\n@@ status",
        );
        let suites = read(&format!("{text}@@ end\n")).finish(None);
        let counts = &suites[0].counts;
        assert_eq!((counts.passed, counts.failed), (1, 1));
    }

    #[test]
    fn a_suite_that_ends_badly_failed() {
        let text = RUN.replace("status 0", "status 137");
        let suites = read(&format!("{text}@@ end\n")).finish(None);
        assert_eq!(suites[0].counts.failed, 1);
    }
}
