//! What programs reached: each operation with each of its ends, and how often.

use std::collections::BTreeMap;

use crate::outcome::{Answer, Ending};
use crate::program::{Advice, Op};

/// What steps are counted by: the operation, and of `madvise` the advice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct What {
    name: &'static str,
    advice: Option<u64>,
}

impl What {
    fn of(op: &Op) -> Self {
        let advice = match op {
            Op::Madvise { advice, .. } => Some(advice.0),
            _ => None,
        };
        Self {
            name: op.name(),
            advice,
        }
    }

    fn text(self) -> String {
        match self.advice {
            Some(advice) => format!("{} {}", self.name, Advice(advice)),
            None => self.name.to_owned(),
        }
    }
}

/// An operation, how it ended, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The operation, with the advice where it is `madvise`.
    pub operation: String,
    /// How it ended.
    pub ending: Ending,
    /// How often.
    pub count: u64,
}

/// How often each operation ended how.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    counts: BTreeMap<(What, Ending), u64>,
}

impl Coverage {
    /// Counts a step.
    pub fn note(&mut self, op: &Op, answer: Answer) {
        let key = (What::of(op), answer.ending());
        *self.counts.entry(key).or_default() += 1;
    }

    /// Adds another count.
    pub fn add(&mut self, other: &Self) {
        for (key, count) in &other.counts {
            *self.counts.entry(*key).or_default() += count;
        }
    }

    /// Operation, end, and how often, in order.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        self.counts.iter().map(|((what, ending), count)| Row {
            operation: what.text(),
            ending: *ending,
            count: *count,
        })
    }

    /// How many steps were carried out, so all but those that were left out.
    pub fn steps(&self) -> u64 {
        self.sum(|ending| ending != Ending::LeftOut)
    }

    /// Which share of the steps that were carried out succeeded, in percent.
    pub fn success_percent(&self) -> f64 {
        let good = self.sum(|ending| matches!(ending, Ending::Ok | Ending::Ended));
        100.0 * crate::as_f64(good) / crate::as_f64(self.steps().max(1))
    }

    fn sum(&self, wanted: impl Fn(Ending) -> bool) -> u64 {
        let counts = self.counts.iter();
        let wanted = counts.filter(|((_, ending), _)| wanted(*ending));
        wanted.map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use space::Errno;

    use super::*;
    use crate::program::{Address, Amount};

    #[test]
    fn advice_is_counted_apart() {
        let mut coverage = Coverage::default();
        let op = |advice| Op::Madvise {
            address: Address::page(0),
            len: Amount::pages(1),
            advice: Advice::of(advice),
        };
        coverage.note(&op("dontneed"), Answer::Value(0));
        coverage.note(&op("dontneed"), Answer::Value(0));
        coverage.note(&op("free"), Answer::Errno(Errno::EINVAL));
        coverage.note(&Op::Look {}, Answer::Value(0));
        coverage.note(&Op::Look {}, Answer::LeftOut);
        let rows: Vec<_> = coverage
            .rows()
            .map(|row| (row.operation, row.ending.to_string(), row.count))
            .collect();
        let expected = [
            ("look", "ok", 1),
            ("look", "left out", 1),
            ("madvise dontneed", "ok", 2),
            ("madvise free", "EINVAL", 1),
        ];
        let expected = expected.map(|(op, end, count)| (op.to_owned(), end.to_owned(), count));
        assert_eq!(rows, expected);
        assert_eq!(coverage.steps(), 4);
        assert!((coverage.success_percent() - 75.0).abs() < 0.1);
    }
}
