//! The freeze that a snapshot would need, before any was taken: what rounds would leave to copy, and
//! what `auto` would do then.

use std::time::Duration;

use space::{ByteLen, PageCount};

use super::policy::{Forking, Terms, Way, another_round, choose};
use super::{Costs, Forecast, Load, Options, Round, Strategy};

/// How fast a process writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Bytes of different pages that it wrote.
    pub written: ByteLen,
    /// In which time; zero where that is not known, which counts as writing nothing.
    pub elapsed: Duration,
}

impl Pace {
    /// Returns how much is written in a time, as far as it is not written twice.
    fn within(&self, time: Duration) -> ByteLen {
        let (written, elapsed) = (u128::from(self.written.0), self.elapsed.as_nanos());
        let share = (written * time.as_nanos())
            .checked_div(elapsed)
            .unwrap_or(0);
        ByteLen(u64::try_from(share).unwrap_or(u64::MAX))
    }
}

/// Whether the process could be made to fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forks {
    /// Nothing is known to speak against it.
    Possible,
    /// It can't be: `auto` does without.
    Impossible,
}

/// What `auto` would do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// The strategy that it would come to.
    pub strategy: Strategy,
    /// The freeze of each strategy; that of a fork as if there could be one.
    pub forecast: Forecast,
}

/// Forecasts a snapshot of a process of which nothing is copied yet, by the rules that snapshots
/// are taken by: rounds while they help, and then the choice of [`Strategy::Auto`]. `load` tells
/// which memory there is; what rounds would leave of it follows from `pace`.
pub fn auto(load: &Load, pace: Pace, costs: &Costs, forks: Forks) -> Outlook {
    let left = left_by_rounds(load, pace, costs, &Options::default());
    let chosen = choose(&Terms {
        strategy: Strategy::Auto,
        forking: match forks {
            Forks::Possible => Forking::Possible,
            Forks::Impossible => Forking::Failed,
        },
        load: &left,
        costs,
        spent: costs.before_choice(&left),
        limit: None,
    });
    let way = chosen.map_or_else(|none| none.nearest.way, |choice| choice.way);
    Outlook {
        strategy: match way {
            Way::Copy => Strategy::Precopy,
            Way::Fork => Strategy::Fork,
        },
        forecast: costs.forecast(&left),
    }
}

/// Returns what is left to copy after the rounds that a snapshot would make.
fn left_by_rounds(load: &Load, pace: Pace, costs: &Costs, options: &Options) -> Load {
    let mut rounds: Vec<Round> = Vec::new();
    // The first one reads everything.
    let mut left = Load {
        changed: load.total,
        ..*load
    };
    while another_round(&rounds, &left, costs, options) {
        let duration = costs.round(left.changed, load);
        rounds.push(Round {
            number: rounds.last().map_or(1, |last| last.number + 1),
            pages: PageCount(0),
            bytes: left.changed,
            duration,
        });
        let written = pace.within(duration).0.min(load.total.0);
        left.changed = ByteLen(written);
    }
    left
}

#[cfg(test)]
mod tests {
    use space::PageSize;

    use super::*;

    fn load() -> Load {
        Load {
            present: PageCount(1 << 18),
            forked: PageCount(1 << 18),
            changed: ByteLen(0),
            volatile: ByteLen(0),
            total: ByteLen(1 << 30),
        }
    }

    fn costs() -> Costs {
        Costs::new(PageSize::new(4096).unwrap())
    }

    fn pace(mib_per_s: u64) -> Pace {
        Pace {
            written: ByteLen(mib_per_s << 21),
            elapsed: Duration::from_secs(2),
        }
    }

    #[test]
    fn rounds_leave_what_is_written_in_the_last_one() {
        let left = |pace| {
            left_by_rounds(&load(), pace, &costs(), &Options::default())
                .changed
                .0
        };
        assert_eq!(left(Pace::default()), 0);
        assert_eq!(left(pace(0)), 0);
        // A tenth of what is read in the same time: far less than is written in a second.
        assert!(
            (1..5 << 20).contains(&left(pace(100))),
            "{}",
            left(pace(100))
        );
        // More than can be read in the same time: all of it, however much that is.
        assert_eq!(left(pace(10_000)), 1 << 30);
        assert!(left(pace(100)) < left(pace(500)));
    }

    #[test]
    fn auto_copies_of_a_quiet_process_and_forks_a_busy_one() {
        let quiet = auto(&load(), pace(100), &costs(), Forks::Possible);
        assert_eq!(quiet.strategy, Strategy::Precopy);
        assert!(quiet.forecast.precopy < quiet.forecast.fork);
        let busy = auto(&load(), pace(10_000), &costs(), Forks::Possible);
        assert_eq!(busy.strategy, Strategy::Fork);
        assert!(busy.forecast.fork < busy.forecast.precopy);
        // What it writes does not change what stopping and copying all of it takes.
        assert_eq!(quiet.forecast.freeze, busy.forecast.freeze);
        let alone = auto(&load(), pace(10_000), &costs(), Forks::Impossible);
        assert_eq!(alone.strategy, Strategy::Precopy);
    }
}
