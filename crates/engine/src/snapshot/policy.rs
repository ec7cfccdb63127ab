//! What to do next: pure decisions from measured costs.

use std::time::Duration;

use space::ByteLen;

use super::{Costs, Load, Options, Round, Strategy};

/// How the memory is got in the freeze.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It is copied.
    Copy,
    /// The target is forked, and the child read afterwards.
    Fork,
}

/// Whether forking may still be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forking {
    /// Nothing speaks against it.
    Possible,
    /// It failed before.
    Failed,
}

/// What a fork must save at least to be chosen.
const FORK_WORTH: Duration = Duration::from_millis(2);
/// Rounds go on only while each has less than this share of the one before to copy.
const SHRINKING: f64 = 0.8;

/// Decides whether another round makes the freeze shorter. `load` is what was left to copy after
/// the last of `rounds`.
pub(crate) fn another_round(
    rounds: &[Round],
    load: &Load,
    costs: &Costs,
    options: &Options,
) -> bool {
    let Some(last) = rounds.last() else {
        return options.rounds_max > 0;
    };
    if last.number >= options.rounds_max || load.changed.0 == 0 {
        return false;
    }
    let forecast = costs.forecast(load);
    let keeps = options
        .max_freeze
        .is_some_and(|limit| forecast.precopy <= limit);
    let none = Load {
        changed: ByteLen(0),
        ..*load
    };
    // What another round could save: a freeze with nothing left to copy.
    let gain = forecast
        .precopy
        .saturating_sub(costs.forecast(&none).precopy);
    if keeps || gain < forecast.precopy / 10 {
        return false;
    }
    ratio(load.changed, last.bytes) < SHRINKING
}

#[expect(clippy::cast_precision_loss, reason = "a rough ratio is enough")]
fn ratio(a: ByteLen, b: ByteLen) -> f64 {
    a.0 as f64 / (b.0.max(1)) as f64
}

/// Chooses the way to get the memory, now that it is known what there is, and tells how long the
/// rest of the freeze is expected to take.
pub(crate) fn choose(
    strategy: Strategy,
    forking: Forking,
    load: &Load,
    costs: &Costs,
) -> (Way, Duration) {
    let copy = costs.copying(ByteLen(load.changed.0 + load.volatile.0));
    let fork = costs.forking(load) + costs.copying(load.volatile);
    // A fork that saves little is not worth what it costs afterwards: memory copied on write while
    // the child is read, all of its pages to walk, and a stop to take note of its end.
    let clearly_shorter = fork + fork / 10 + FORK_WORTH < copy;
    match strategy {
        Strategy::Fork => (Way::Fork, fork),
        Strategy::Auto if forking == Forking::Possible && clearly_shorter => (Way::Fork, fork),
        Strategy::Auto | Strategy::Precopy | Strategy::Freeze => (Way::Copy, copy),
    }
}

/// How much memory to make ready for copying: half as much again as is expected.
pub(crate) fn room(strategy: Strategy, forking: Forking, load: &Load, costs: &Costs) -> ByteLen {
    let changed = match choose(strategy, forking, load, costs).0 {
        Way::Copy => load.changed.0,
        Way::Fork => 0,
    };
    let expected = load.volatile.0 + changed;
    ByteLen(expected.saturating_add(expected / 2))
}

#[cfg(test)]
mod tests {
    use space::{PageCount, PageSize};

    use super::*;

    fn round(number: u32, bytes: u64) -> Round {
        Round {
            number,
            pages: PageCount(bytes >> 12),
            bytes: ByteLen(bytes),
            duration: Duration::from_millis(1),
        }
    }

    fn load(changed: u64) -> Load {
        Load {
            present: PageCount(1 << 18),
            forked: PageCount(1 << 18),
            changed: ByteLen(changed),
            volatile: ByteLen(0),
            total: ByteLen(1 << 30),
        }
    }

    fn costs() -> Costs {
        Costs::new(PageSize::new(4096).unwrap())
    }

    #[test]
    fn rounds_go_on_while_they_shrink() {
        let options = Options::default();
        let rounds = [round(1, 1 << 30)];
        assert!(another_round(&[], &load(1 << 30), &costs(), &options));
        assert!(another_round(&rounds, &load(1 << 28), &costs(), &options));
        assert!(!another_round(&rounds, &load(1 << 30), &costs(), &options));
        assert!(!another_round(&rounds, &load(4096), &costs(), &options));
        assert!(!another_round(
            &[round(8, 1 << 30)],
            &load(1 << 28),
            &costs(),
            &options
        ));
    }

    #[test]
    fn rounds_end_where_the_promise_is_kept() {
        let options = Options {
            max_freeze: Some(Duration::from_secs(5)),
            ..Options::default()
        };
        let rounds = [round(1, 1 << 30)];
        assert!(!another_round(&rounds, &load(1 << 28), &costs(), &options));
    }

    #[test]
    fn auto_forks_what_is_dearer_to_copy() {
        let chosen =
            |strategy, forking, changed| choose(strategy, forking, &load(changed), &costs()).0;
        let possible = Forking::Possible;
        assert_eq!(chosen(Strategy::Auto, possible, 1 << 30), Way::Fork);
        assert_eq!(chosen(Strategy::Auto, Forking::Failed, 1 << 30), Way::Copy);
        assert_eq!(chosen(Strategy::Auto, possible, 1 << 20), Way::Copy);
        assert_eq!(chosen(Strategy::Fork, possible, 1 << 20), Way::Fork);
        assert_eq!(chosen(Strategy::Precopy, possible, 1 << 30), Way::Copy);
    }
}
