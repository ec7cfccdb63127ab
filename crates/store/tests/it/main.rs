//! Tests of the store as its users see it: in directories, in memory, in an object store.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests may fail, and their numbers are small"
)]

mod common;
mod faults;
mod gc;
mod golden;
mod hostile;
mod kill;
mod moto;
mod races;
mod roundtrip;
mod s3;
