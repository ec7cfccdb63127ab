//! Onionskin's laboratory: the model of memory management (`mm`) held against real kernels.
//!
//! A [`program`] is a list of memory operations. It runs on the live kernel, in child processes
//! that obey, and on the model, and after every step what both show is compared.
#![forbid(unsafe_code)]

pub mod compare;
pub mod conform;
pub mod generate;
pub mod kernel;
pub mod model;
pub mod oracle;
pub mod outcome;
pub mod pool;
pub mod program;

/// A count as a floating point number, for shares and rates.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}
