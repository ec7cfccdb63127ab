//! Counts of tests, and the table at the end of a run.

use std::fmt;
use std::time::Duration;

/// How many tests ended how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// What was skipped, each as "NAME: reason".
    pub(crate) skipped: Vec<String>,
}

/// The suites that ran.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

struct Row {
    suite: String,
    counts: Counts,
    time: Duration,
}

impl Counts {
    /// Tells whether no test ran.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Report {
    /// Adds a suite and how long it took.
    pub(crate) fn add(&mut self, suite: String, counts: Counts, time: Duration) {
        self.rows.push(Row {
            suite,
            counts,
            time,
        });
    }

    /// Adds all suites up.
    pub(crate) fn total(&self) -> Counts {
        let mut total = Counts::default();
        for row in &self.rows {
            total.passed += row.counts.passed;
            total.failed += row.counts.failed;
            total.skipped.extend(row.counts.skipped.iter().cloned());
        }
        total
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.total();
        for line in fold(&total.skipped) {
            writeln!(out, "skipped: {line}")?;
        }
        let width = self
            .rows
            .iter()
            .map(|row| row.suite.len())
            .max()
            .unwrap_or(0)
            .max(5);
        let header = ["passed", "failed", "skipped", "seconds"];
        let [passed, failed, skipped, seconds] = header;
        writeln!(
            out,
            "{:<width$} {passed:>8} {failed:>8} {skipped:>8} {seconds:>8}",
            "suite"
        )?;
        for Row {
            suite,
            counts,
            time,
        } in &self.rows
        {
            let Counts {
                passed,
                failed,
                skipped,
            } = counts;
            let (skipped, seconds) = (skipped.len(), time.as_secs_f64());
            writeln!(
                out,
                "{suite:<width$} {passed:>8} {failed:>8} {skipped:>8} {seconds:>8.1}"
            )?;
        }
        let Counts {
            passed,
            failed,
            skipped,
        } = total;
        writeln!(
            out,
            "{passed} passed, {failed} failed, {} skipped",
            skipped.len()
        )
    }
}

/// Puts the parts of a test that were skipped for the same reason into one line.
fn fold(skipped: &[String]) -> Vec<String> {
    let mut lines: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    for line in skipped {
        let (name, reason) = line.split_once(": ").unwrap_or((line, ""));
        let (test, part) = match name.split_once('/') {
            Some((test, part)) => (test, vec![part]),
            None => (name, Vec::new()),
        };
        let same = |known: &&mut (&str, &str, Vec<&str>)| {
            (known.0, known.1) == (test, reason) && !known.2.is_empty() && !part.is_empty()
        };
        match lines.iter_mut().find(same) {
            Some((.., parts)) => parts.extend(part),
            None => lines.push((test, reason, part)),
        }
    }
    let text = |(test, reason, parts): (&str, &str, Vec<&str>)| match parts.as_slice() {
        [] => format!("{test}: {reason}"),
        [part] => format!("{test}/{part}: {reason}"),
        parts => format!("{test}/{{{}}}: {reason}", parts.join(", ")),
    };
    lines.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts_everything() {
        let mut report = Report::default();
        let counts = Counts {
            passed: 3,
            failed: 1,
            skipped: vec!["a: no root".to_owned()],
        };
        report.add("one".to_owned(), counts, Duration::from_millis(1250));
        report.add(
            "another".to_owned(),
            Counts {
                passed: 2,
                ..Counts::default()
            },
            Duration::ZERO,
        );
        let text = report.to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.first(), Some(&"skipped: a: no root"));
        assert_eq!(lines[2], "one            3        1        1      1.2");
        assert_eq!(lines.last(), Some(&"5 passed, 1 failed, 1 skipped"));
    }

    #[test]
    fn parts_that_were_skipped_for_the_same_reason_share_a_line() {
        let skipped = [
            "a/x: no swap",
            "b: no swap",
            "a/y/z: no swap",
            "a/w: no root",
        ];
        assert_eq!(
            fold(&skipped.map(str::to_owned)),
            ["a/{x, y/z}: no swap", "b: no swap", "a/w: no root"]
        );
    }
}
