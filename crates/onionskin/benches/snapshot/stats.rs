//! Medians and units.

use std::time::Duration;

/// Values measured in turns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values(Vec<f64>);

impl Values {
    /// Adds one.
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Adds all of another's.
    pub(crate) fn join(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// Adds a time, in milliseconds.
    pub(crate) fn push_time(&mut self, time: Duration) {
        self.push(millis(time));
    }

    /// Returns the middle one; not a number if there is none.
    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Returns the value below which a share of them lies.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let Some(last) = sorted.len().checked_sub(1) else {
            return f64::NAN;
        };
        let at = float(last) * share;
        let (low, high) = (sorted[index(at.floor())], sorted[index(at.ceil())]);
        low + (high - low) * at.fract()
    }

    /// The same without their signs.
    pub(crate) fn abs(&self) -> Self {
        Self(self.0.iter().map(|value| value.abs()).collect())
    }

    /// Returns the largest.
    pub(crate) fn max(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::max)
    }

    /// Returns the smallest.
    pub(crate) fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::min)
    }

    /// Says the median, and the smallest and largest behind it.
    pub(crate) fn spread(&self, digits: usize) -> String {
        format!(
            "{:.digits$} ({:.digits$} to {:.digits$})",
            self.median(),
            self.min(),
            self.max()
        )
    }
}

/// Milliseconds of a time.
pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A count as a measured value.
#[expect(
    clippy::cast_precision_loss,
    reason = "figures need no more than 53 bits"
)]
pub(crate) fn float(count: usize) -> f64 {
    count as f64
}

/// A large count as a measured value.
#[expect(
    clippy::cast_precision_loss,
    reason = "figures need no more than 53 bits"
)]
pub(crate) fn float64(count: u64) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a length"
)]
fn index(at: f64) -> usize {
    at as usize
}

/// MiB of bytes.
pub(crate) fn mib(bytes: u64) -> f64 {
    float64(bytes) / f64::from(1 << 20)
}
