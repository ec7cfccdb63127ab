//! One snapshot: rounds, one freeze, the rest after it.

mod costs;
mod doubts;
mod error;
mod finish;
mod freeze;
mod frozen;
mod observe;
mod options;
mod outlook;
mod policy;
mod take;
mod taken;

pub use costs::{Costs, Forecast, Load};
pub use doubts::Doubt;
pub use error::SnapshotError;
pub use observe::{Event, Observer, Silent, Verifier};
pub use options::{Options, Stay, Strategy, Verify};
pub use outlook::{Forks, Outlook, Pace, auto};
pub use take::take;
pub use taken::{FreezeTimes, Round, Taken, Verified};
