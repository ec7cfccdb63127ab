//! Seeded randomness (splitmix64), the same on every machine and for ever.

/// A stream of numbers that a seed determines.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.word() % bound.max(1)
    }

    /// A number of `low..=high`.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        let width = high.saturating_sub(low).max(0).unsigned_abs() + 1;
        low.saturating_add_unsigned(self.below(width))
    }

    /// True in `percent` of all cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of the items.
    ///
    /// # Panics
    ///
    /// Panics without items.
    pub fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        let index = self.below(items.len() as u64);
        items[usize::try_from(index).expect("an index")]
    }

    /// One of the items, as often as its weight says.
    ///
    /// # Panics
    ///
    /// Panics without a weight above 0.
    pub fn weighted<T: Copy>(&mut self, items: &[(u64, T)]) -> T {
        let all = items.iter().map(|(weight, _)| weight).sum();
        let mut at = self.below(all);
        for (weight, item) in items {
            if at < *weight {
                return *item;
            }
            at -= weight;
        }
        unreachable!("the number is below the sum of the weights")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_stream() {
        let mut random = Random::new(0);
        assert_eq!(random.word(), 0xE220_A839_7B1D_CDAF);
        let mut again = Random::new(0);
        again.word();
        assert_eq!(again.word(), random.word());
    }

    #[test]
    fn bounds_hold() {
        let mut random = Random::new(1);
        let mut seen = [false; 5];
        for _ in 0..200 {
            let value = random.between(-2, 2);
            seen[usize::try_from(value + 2).unwrap()] = true;
            assert_ne!(random.weighted(&[(0, 'a'), (3, 'b')]), 'a');
        }
        assert_eq!(seen, [true; 5]);
    }
}
