//! Moving page contents: what is read is cut into batches, batches are worked on one by one or by
//! the threads of `drive`.

mod batch;
mod copier;
mod pump;

pub(crate) use batch::{Batches, Missing, pieces, read_batch};
#[cfg(feature = "drive")]
pub(crate) use copier::fill;
pub(crate) use copier::{Copied, Copier, Filled};
pub(crate) use pump::{Carrier, Failure, Pumped, timed};

/// How much is read at once: enough to hide the cost of a call, little enough for a cache.
pub(crate) const BATCH_BYTES: u64 = 1 << 20;
