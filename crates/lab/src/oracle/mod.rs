//! The oracle: random programs on the kernel and on the model, compared after every step.

mod attempt;
mod check;
mod coverage;
mod known;
mod listed;
mod profile;
mod reach;
mod run;
mod shrink;
mod watch;
mod worker;

pub use check::{Checker, Divergence};
pub use coverage::{Coverage, Row};
pub use known::{KNOWN, Known, known};
pub use listed::{Missed, missed};
pub use profile::{Subject, SubjectError};
pub use reach::reach;
pub use run::{Disturbed, Found, Lost, Options, OracleError, Report, run};
pub use shrink::shrink;
pub use worker::Disturbance;
