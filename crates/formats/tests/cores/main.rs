//! Tests of the files that this crate writes, read back by a parser of the tests' own and by the
//! tools that people open cores with.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod debugger;
mod golden;
mod many;
mod parser;
mod properties;
mod raw;
mod refusals;
mod support;
mod target;
