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
    /// A copy took longer than it was forecast to take.
    Shorter,
    /// It failed before.
    Failed,
}

/// What a fork must save at least to be chosen.
const FORK_WORTH: Duration = Duration::from_millis(2);
/// What a freeze that copies may take beyond the time of a fork, and a fifth of it.
const COPY_SLACK: Duration = Duration::from_millis(5);
/// How many times as long as forecast a copy is taken to come to at worst.
const WORST_COPY: u32 = 8;
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

/// What a choice rests on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) strategy: Strategy,
    pub(crate) forking: Forking,
    /// The memory as the last look found it.
    pub(crate) load: &'a Load,
    pub(crate) costs: &'a Costs,
    /// What of the freeze is over when the choice is carried out, or will be by forecast.
    pub(crate) spent: Duration,
    /// The longest freeze allowed, the time to resume included.
    pub(crate) limit: Option<Duration>,
}

/// One way, and the length of a freeze that goes it, by forecast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) way: Way,
    pub(crate) takes: Duration,
}

/// The ways that are open, the shortest first; none keeps the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoneKeeps {
    pub(crate) nearest: Choice,
    pub(crate) other: Option<Choice>,
}

impl Terms<'_> {
    /// How long it takes to copy all that is left.
    fn copying(&self) -> Duration {
        let bytes = self.load.changed.0 + self.load.volatile.0;
        self.costs.copying(ByteLen(bytes))
    }

    fn choice(&self, way: Way) -> Choice {
        let rest = match way {
            Way::Copy => self.copying(),
            Way::Fork => self.costs.forking(self.load) + self.costs.copying(self.load.volatile),
        };
        Choice {
            way,
            takes: self.spent + rest + self.costs.resume,
        }
    }

    /// Returns the way that is better where nothing is promised, and the other one, if there is a
    /// choice.
    fn ways(&self) -> (Choice, Option<Choice>) {
        let (copy, fork) = (self.choice(Way::Copy), self.choice(Way::Fork));
        match (self.strategy, self.forking) {
            (Strategy::Fork, _) => (fork, None),
            (Strategy::Auto, Forking::Shorter) => (fork, Some(copy)),
            // A fork that saves little is not worth what it costs afterwards: memory copied on
            // write while the child is read, all of its pages to walk, and a stop to take note of
            // its end.
            (Strategy::Auto, Forking::Possible) if fork.takes + FORK_WORTH < copy.takes => {
                (fork, Some(copy))
            }
            (Strategy::Auto, Forking::Possible) => (copy, Some(fork)),
            (Strategy::Auto | Strategy::Precopy | Strategy::Freeze, _) => (copy, None),
        }
    }
}

/// Chooses the way to get the memory, now that it is known what there is: the better one of those
/// that are forecast to keep the limit.
pub(crate) fn choose(terms: &Terms<'_>) -> Result<Choice, NoneKeeps> {
    let (better, other) = terms.ways();
    let keeps = |choice: &Choice| terms.limit.is_none_or(|limit| choice.takes <= limit);
    if keeps(&better) {
        return Ok(better);
    }
    match other {
        Some(other) if keeps(&other) => Ok(other),
        Some(other) if other.takes < better.takes => Err(NoneKeeps {
            nearest: other,
            other: Some(better),
        }),
        _ => Err(NoneKeeps {
            nearest: better,
            other,
        }),
    }
}

/// How long a freeze that copies may become before a fork would have been clearly shorter, so that
/// the copying is better given up: where there is a choice, and nothing is promised. What holds up the
/// copy of a few pages is a busy machine, which holds up the next stop and a fork as well.
pub(crate) fn longest_copy(terms: &Terms<'_>) -> Option<Duration> {
    let free = terms.strategy == Strategy::Auto && terms.forking == Forking::Possible;
    let fork = terms.costs.forking(terms.load);
    let longest = fork + fork / 5 + COPY_SLACK;
    let may_be_longer = terms.copying() * WORST_COPY > longest;
    // What stopping and looking took is lost, whichever way it goes on.
    let in_time = terms.spent < longest;
    (free && terms.limit.is_none() && may_be_longer && in_time).then_some(longest)
}

/// How much memory to make ready for copying: half as much again as is expected.
pub(crate) fn room(terms: &Terms<'_>) -> ByteLen {
    let way = choose(terms).map_or_else(|none| none.nearest.way, |choice| choice.way);
    let changed = match way {
        Way::Copy => terms.load.changed.0,
        Way::Fork => 0,
    };
    let expected = terms.load.volatile.0 + changed;
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

    fn terms<'a>(strategy: Strategy, load: &'a Load, costs: &'a Costs) -> Terms<'a> {
        Terms {
            strategy,
            forking: Forking::Possible,
            load,
            costs,
            spent: costs.before_choice(load),
            limit: None,
        }
    }

    #[test]
    fn auto_forks_what_is_dearer_to_copy() {
        let costs = costs();
        let chosen = |strategy, forking, changed| {
            let load = load(changed);
            let terms = Terms {
                forking,
                ..terms(strategy, &load, &costs)
            };
            choose(&terms).map(|choice| choice.way)
        };
        let possible = Forking::Possible;
        let (copy, fork) = (Ok(Way::Copy), Ok(Way::Fork));
        assert_eq!(chosen(Strategy::Auto, possible, 1 << 30), fork);
        assert_eq!(chosen(Strategy::Auto, Forking::Failed, 1 << 30), copy);
        assert_eq!(chosen(Strategy::Auto, possible, 1 << 20), copy);
        assert_eq!(chosen(Strategy::Auto, Forking::Shorter, 1 << 20), fork);
        assert_eq!(chosen(Strategy::Fork, possible, 1 << 20), fork);
        assert_eq!(chosen(Strategy::Precopy, possible, 1 << 30), copy);
    }

    #[test]
    fn without_a_promise_auto_is_never_much_longer_than_a_fork() {
        let costs = costs();
        for pages in 0..=(1 << 8) {
            let load = load(pages << 22);
            let choice = choose(&terms(Strategy::Auto, &load, &costs)).unwrap();
            let fork = costs.forking(&load);
            let allowed = fork + fork / 5 + Duration::from_millis(5);
            assert!(choice.takes <= allowed, "{choice:?} {allowed:?}");
            let longest = longest_copy(&terms(Strategy::Auto, &load, &costs));
            assert!(longest.is_none_or(|longest| longest == allowed));
            // Of a few pages nothing is to be gained, and of many everything.
            let known = [(0, true), (1, true), (16, false), (1 << 8, false)];
            let known = known.into_iter().find(|&(count, _)| count == pages);
            assert!(
                known.is_none_or(|(_, none)| longest.is_none() == none),
                "{pages}"
            );
        }
        let load = load(1 << 30);
        assert_eq!(longest_copy(&terms(Strategy::Precopy, &load, &costs)), None);
        let mut late = terms(Strategy::Auto, &load, &costs);
        assert!(longest_copy(&late).is_some());
        late.spent = Duration::from_secs(1);
        assert_eq!(longest_copy(&late), None);
    }

    #[test]
    fn a_promise_is_kept_by_whichever_way_can() {
        let costs = costs();
        // To copy it takes a little longer than a fork, but not so much that a fork is worth it.
        let load = load(66 << 20);
        let mut terms = terms(Strategy::Auto, &load, &costs);
        let (copy, fork) = (terms.choice(Way::Copy), terms.choice(Way::Fork));
        assert!(fork.takes < copy.takes);
        assert_eq!(choose(&terms), Ok(copy));
        terms.limit = Some(fork.takes);
        assert_eq!(choose(&terms), Ok(fork));
        terms.limit = Some(copy.takes);
        assert_eq!(choose(&terms), Ok(copy));
        terms.limit = Some(fork.takes - Duration::from_nanos(1));
        let none = NoneKeeps {
            nearest: fork,
            other: Some(copy),
        };
        assert_eq!(choose(&terms), Err(none));
        terms.strategy = Strategy::Precopy;
        let none = NoneKeeps {
            nearest: copy,
            other: None,
        };
        assert_eq!(choose(&terms), Err(none));
    }

    #[test]
    fn what_is_spent_and_the_time_to_resume_count() {
        let costs = costs();
        let load = load(1 << 20);
        let mut terms = terms(Strategy::Auto, &load, &costs);
        let copy = costs.copying(ByteLen(1 << 20));
        terms.limit = Some(terms.spent + copy + costs.resume);
        assert!(choose(&terms).is_ok());
        terms.spent += Duration::from_nanos(1);
        assert!(choose(&terms).is_err());
    }
}
