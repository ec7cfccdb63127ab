//! Onionskin on real processes, one subject a file.
//!
//! The programs that are looked at lie in `../targets`. What this machine can't do is told on the
//! output as `skipped: NAME: REASON`, and counted in the file that `ONIONSKIN_SKIPS` names.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod abroad;
mod audits;
mod common;
mod foreign_uffd;
mod forked;
mod gdb;
mod hidden;
mod instant;
mod killed;
mod promises;
mod redis;
mod refuse;
mod runtimes;
mod seccomp;
mod sparse;
mod special;
mod strict;
mod stuck_store;
mod transparent;
mod watch;
