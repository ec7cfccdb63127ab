//! The oracle: random programs on the kernel and on the model, compared after every step.

mod check;
mod coverage;
mod profile;
mod run;
mod shrink;
mod watch;

pub use check::{Checker, Divergence};
pub use coverage::{Coverage, Row};
pub use profile::{Subject, SubjectError};
pub use run::{Found, Lost, Options, OracleError, Report, run};
pub use shrink::shrink;
