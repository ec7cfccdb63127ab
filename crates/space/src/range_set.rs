//! A set of pages, kept as sorted ranges.

use std::cmp::Ordering;

use crate::{ByteLen, PageRange, Vaddr};

/// A set of pages: sorted, disjoint ranges that do not touch.
///
/// Operations on two sets walk both once, so they cost what the sets hold, however large the
/// address space is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    ranges: Vec<PageRange>,
}

impl RangeSet {
    /// Makes an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes an empty set with room for `count` ranges.
    pub fn with_capacity(count: usize) -> Self {
        Self {
            ranges: Vec::with_capacity(count),
        }
    }

    /// Returns the ranges, sorted, disjoint, not touching.
    pub fn ranges(&self) -> &[PageRange] {
        &self.ranges
    }

    /// Iterates over the ranges in order.
    pub fn iter(&self) -> impl Iterator<Item = PageRange> {
        self.ranges.iter().copied()
    }

    /// Tells whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Returns how many bytes all ranges take together.
    pub fn len(&self) -> ByteLen {
        ByteLen(self.ranges.iter().map(|range| range.len().0).sum())
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.ranges.clear();
    }

    /// Tells whether the page at `address` is in the set.
    pub fn contains(&self, address: Vaddr) -> bool {
        let next = self.ranges.partition_point(|range| range.end() <= address);
        self.ranges
            .get(next)
            .is_some_and(|range| range.contains(address))
    }

    /// Tells whether all of `range` is in the set.
    pub fn covers(&self, range: PageRange) -> bool {
        let next = self
            .ranges
            .partition_point(|own| own.end() <= range.start());
        self.ranges.get(next).is_some_and(|own| own.covers(range))
    }

    /// Adds a range. Appending at the end is cheap; elsewhere the ranges behind it move.
    #[expect(
        clippy::missing_panics_doc,
        reason = "a merge of ranges is never empty"
    )]
    pub fn insert(&mut self, range: PageRange) {
        let first = match self.ranges.last() {
            Some(last) if last.end() < range.start() => self.ranges.len(),
            None => 0,
            Some(_) => self.ranges.partition_point(|own| own.end() < range.start()),
        };
        let behind = first + self.ranges[first..].partition_point(|own| own.start() <= range.end());
        let start = self
            .ranges
            .get(first)
            .map_or(range.start(), |own| own.start());
        let end = match behind.checked_sub(1).filter(|&last| last >= first) {
            Some(last) => self.ranges[last].end().max(range.end()),
            None => range.end(),
        };
        let start = if behind > first {
            start.min(range.start())
        } else {
            range.start()
        };
        let merged = PageRange::new(start, end).expect("a merge of ranges is a range");
        self.ranges.splice(first..behind, [merged]);
    }

    /// Removes a range.
    pub fn remove(&mut self, range: PageRange) {
        let first = self
            .ranges
            .partition_point(|own| own.end() <= range.start());
        let behind = first + self.ranges[first..].partition_point(|own| own.start() < range.end());
        if first == behind {
            return;
        }
        let left = PageRange::new(self.ranges[first].start(), range.start());
        let right = PageRange::new(range.end(), self.ranges[behind - 1].end());
        self.ranges
            .splice(first..behind, left.into_iter().chain(right));
    }

    /// Returns what is in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut merged = Self::with_capacity(self.ranges.len() + other.ranges.len());
        let (mut left, mut right) = (self.iter().peekable(), other.iter().peekable());
        loop {
            let next = match (left.peek(), right.peek()) {
                (Some(a), Some(b)) if a.start() <= b.start() => left.next(),
                (_, Some(_)) => right.next(),
                (_, None) => left.next(),
            };
            match next {
                Some(range) => merged.push(range),
                None => return merged,
            }
        }
    }

    /// Returns what is in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut shared = Self::new();
        let (mut left, mut right) = (0, 0);
        while let (Some(&a), Some(&b)) = (self.ranges.get(left), other.ranges.get(right)) {
            if let Some(both) = a.intersection(b) {
                shared.ranges.push(both);
            }
            match a.end().cmp(&b.end()) {
                Ordering::Less => left += 1,
                Ordering::Greater => right += 1,
                Ordering::Equal => (left, right) = (left + 1, right + 1),
            }
        }
        shared
    }

    /// Returns what is in this set and not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut cuts = other.iter().peekable();
        let mut rest = Self::with_capacity(self.ranges.len() + other.ranges.len());
        for range in self.iter() {
            let mut at = range.start();
            while let Some(&cut) = cuts.peek() {
                if cut.start() >= range.end() {
                    break;
                }
                if let Some(kept) = PageRange::new(at, cut.start()) {
                    rest.ranges.push(kept);
                }
                at = at.max(cut.end());
                if cut.end() > range.end() {
                    break;
                }
                _ = cuts.next();
            }
            if let Some(kept) = PageRange::new(at, range.end()) {
                rest.ranges.push(kept);
            }
        }
        rest
    }

    /// Adds another set; where either is empty, or this one ends before the other begins, that
    /// costs little.
    pub fn add(&mut self, other: Self) {
        match (self.ranges.last(), other.ranges.first()) {
            (_, None) => {}
            (None, _) => *self = other,
            (Some(last), Some(first)) if last.end() < first.start() => {
                self.ranges.extend(other.ranges);
            }
            _ => *self = self.union(&other),
        }
    }

    /// Adds a range that starts at or behind the start of the last one, at little cost.
    ///
    /// # Panics
    ///
    /// In debug builds, where `range` starts before the last one does.
    #[inline]
    pub fn push(&mut self, range: PageRange) {
        debug_assert!(
            self.ranges
                .last()
                .is_none_or(|last| last.start() <= range.start()),
            "ranges are pushed in order"
        );
        if let Some(last) = self.ranges.last_mut()
            && range.start() <= last.end()
        {
            let end = last.end().max(range.end());
            *last = PageRange::new(last.start(), end).expect("a merge of ranges is a range");
            return;
        }
        self.ranges.push(range);
    }
}

impl FromIterator<PageRange> for RangeSet {
    /// Collects ranges in any order, overlapping or not.
    fn from_iter<I: IntoIterator<Item = PageRange>>(ranges: I) -> Self {
        let mut sorted: Vec<_> = ranges.into_iter().collect();
        if !sorted.is_sorted() {
            sorted.sort_unstable();
        }
        sorted.dedup_by(|next, last| {
            let touches = next.start() <= last.end();
            if touches {
                let end = last.end().max(next.end());
                *last = PageRange::new(last.start(), end).expect("a merge of ranges is a range");
            }
            touches
        });
        Self { ranges: sorted }
    }
}

impl Extend<PageRange> for RangeSet {
    fn extend<I: IntoIterator<Item = PageRange>>(&mut self, ranges: I) {
        self.add(ranges.into_iter().collect());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const PAGE: u64 = 4096;

    fn pages(set: &RangeSet) -> BTreeSet<u64> {
        set.iter()
            .flat_map(|r| r.start().0 / PAGE..r.end().0 / PAGE)
            .collect()
    }

    fn range((start, len): (u64, u64)) -> PageRange {
        PageRange::new(Vaddr(start * PAGE), Vaddr((start + len) * PAGE)).unwrap()
    }

    fn sorted_and_apart(set: &RangeSet) -> bool {
        set.ranges()
            .windows(2)
            .all(|pair| pair[0].end() < pair[1].start())
    }

    fn some_ranges() -> impl Strategy<Value = Vec<(u64, u64)>> {
        prop::collection::vec((0u64..60, 1u64..8), 0..12)
    }

    proptest! {
        #[test]
        fn behaves_as_a_set_of_pages(left in some_ranges(), right in some_ranges()) {
            let a: RangeSet = left.iter().copied().map(range).collect();
            let b: RangeSet = right.iter().copied().map(range).collect();
            let (x, y) = (pages(&a), pages(&b));
            for (set, want) in [
                (a.union(&b), x.union(&y).copied().collect::<BTreeSet<_>>()),
                (a.intersection(&b), x.intersection(&y).copied().collect()),
                (a.difference(&b), x.difference(&y).copied().collect()),
            ] {
                prop_assert!(sorted_and_apart(&set));
                prop_assert_eq!(pages(&set), want);
            }
        }

        #[test]
        fn insert_and_remove_in_any_order(steps in prop::collection::vec((any::<bool>(), 0u64..60, 1u64..8), 0..30)) {
            let mut set = RangeSet::new();
            let mut want = BTreeSet::new();
            for (add, start, len) in steps {
                if add {
                    set.insert(range((start, len)));
                    want.extend(start..start + len);
                } else {
                    set.remove(range((start, len)));
                    want.retain(|page| !(start..start + len).contains(page));
                }
                prop_assert!(sorted_and_apart(&set));
                prop_assert_eq!(&pages(&set), &want);
                for page in 0..70 {
                    prop_assert_eq!(set.contains(Vaddr(page * PAGE)), want.contains(&page));
                    prop_assert_eq!(set.covers(range((page, 2))), want.contains(&page) && want.contains(&(page + 1)));
                }
            }
        }
    }
}
