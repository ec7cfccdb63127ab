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
        for line in &total.skipped {
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
}
