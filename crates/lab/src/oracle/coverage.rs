//! What programs reached: each operation with each of its ends, and how often.

use std::collections::BTreeMap;

use crate::outcome::Answer;
use crate::program::Op;

/// How often each operation ended how.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    counts: BTreeMap<(String, String), u64>,
}

impl Coverage {
    /// Counts a step.
    pub fn note(&mut self, op: &Op, answer: Answer) {
        let name = match op {
            Op::Madvise { advice, .. } => format!("madvise {advice}"),
            other => other.name().to_owned(),
        };
        *self.counts.entry((name, answer.kind())).or_default() += 1;
    }

    /// Adds another count.
    pub fn add(&mut self, other: &Self) {
        for (key, count) in &other.counts {
            *self.counts.entry(key.clone()).or_default() += count;
        }
    }

    /// Operation, end, and how often, in order.
    pub fn rows(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.counts
            .iter()
            .map(|((op, end), count)| (op.as_str(), end.as_str(), *count))
    }

    /// Which share of all steps succeeded, in percent.
    pub fn success_percent(&self) -> f64 {
        let sum = |wanted: fn(&str) -> bool| {
            let rows = self.rows().filter(|(_, end, _)| wanted(end));
            rows.map(|(_, _, count)| count).sum::<u64>()
        };
        let (good, all) = (sum(|end| end == "ok" || end == "ended"), sum(|_| true));
        100.0 * crate::as_f64(good) / crate::as_f64(all.max(1))
    }
}

#[cfg(test)]
mod tests {
    use space::Errno;

    use super::*;
    use crate::program::{Address, Advice, Amount};

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
        let rows: Vec<_> = coverage.rows().collect();
        let expected = [
            ("look", "ok", 1),
            ("madvise dontneed", "ok", 2),
            ("madvise free", "EINVAL", 1),
        ];
        assert_eq!(rows, expected);
        assert!((coverage.success_percent() - 75.0).abs() < 0.1);
    }
}
