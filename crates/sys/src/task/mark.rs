//! When a wait began, written where only the wait itself keeps it.
//!
//! The kernel takes 32 bits of a call's number (of a descriptor), but keeps all 64 of the register
//! that it came in, for as long as the call lasts: what it returns then takes their place. So a
//! task that is made to wait again carries along since when it waits, in bits that nobody looks
//! at. It is the same wait exactly if they are still there, whoever asks: the next stop, another
//! session, or one after a tool that was killed.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A point of monotonic time, in units of [`UNIT_SHIFT`] and modulo their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark(u32);

/// What the first of four bytes is, so that a mark is not seen where something else lies.
const TAG: u32 = 0xa5;
const TAG_SHIFT: u32 = 24;
/// A unit is 2^24 ns, or 17 ms.
const UNIT_SHIFT: u32 = 24;
/// All units together: 78 hours.
const WHOLE: u64 = 1 << (TAG_SHIFT + UNIT_SHIFT);

impl Mark {
    /// Waits that last longer are not marked: what lies that far back looks like the future.
    pub(super) const LENGTH_MAX: Duration = Duration::from_nanos(WHOLE / 2);

    /// Returns a mark of this moment, or of some milliseconds later.
    pub(super) fn now() -> Self {
        Self::at(monotonic())
    }

    /// Recognises a mark.
    pub(super) fn from_bits(bits: u32) -> Option<Self> {
        (bits >> TAG_SHIFT == TAG).then_some(Self(bits & !(TAG << TAG_SHIFT)))
    }

    /// Returns it as it is written.
    pub(super) fn bits(self) -> u32 {
        TAG << TAG_SHIFT | self.0
    }

    /// Returns how long ago it was made: never too long.
    pub(super) fn age(self) -> Duration {
        self.age_at(monotonic())
    }

    fn at(ns: u64) -> Self {
        let units = (ns % WHOLE).div_ceil(1 << UNIT_SHIFT);
        Self(u32::try_from(units).expect("fewer than 2^24 and one") & !(TAG << TAG_SHIFT))
    }

    fn age_at(self, ns: u64) -> Duration {
        let then = u64::from(self.0) << UNIT_SHIFT;
        match ns.wrapping_sub(then) % WHOLE {
            age if age < WHOLE / 2 => Duration::from_nanos(age),
            // It was rounded up, and lies before us still.
            _ => Duration::ZERO,
        }
    }
}

fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).expect("it counts from the start");
    let nanos = u64::try_from(now.tv_nsec).expect("a part of a second");
    seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_age_is_never_too_long_and_hardly_too_short(
            then in any::<u64>(),
            passed in 0..WHOLE / 2 - (1 << UNIT_SHIFT),
        ) {
            let then = then >> 1;
            let mark = Mark::from_bits(Mark::at(then).bits()).unwrap();
            let age = u64::try_from(mark.age_at(then + passed).as_nanos()).unwrap();
            prop_assert!(age <= passed);
            prop_assert!(age + (1 << UNIT_SHIFT) >= passed);
        }
    }

    #[test]
    fn what_is_no_mark_is_none() {
        for bits in [0, 1, u32::MAX, 0x7fff_ffff] {
            assert_eq!(Mark::from_bits(bits), None);
        }
        assert!(Mark::now().age() < Duration::from_secs(3600));
    }
}
