//! A series of snapshots: when the next is due, what ends it, and what its names are.

use anyhow::{Result, bail};
use onionskin::Error;
use onionskin::report::SnapshotReport;
use onionskin::store::{Store, check_name};

/// Returns the name of a series' snapshot.
pub(super) fn name(beginning: &str, number: u32) -> String {
    format!("{beginning}-{number}")
}

/// The names that are to be given.
pub(super) enum Names<'a> {
    /// Of one snapshot.
    One(&'a str),
    /// Of so many snapshots of a series.
    Series(&'a str, Option<u32>),
}

impl Names<'_> {
    fn has(&self, taken: &str) -> bool {
        match *self {
            Self::One(name) => name == taken,
            Self::Series(beginning, count) => taken
                .strip_prefix(beginning)
                .and_then(|rest| rest.strip_prefix('-')?.parse().ok())
                .is_some_and(|number| {
                    (1..=count.unwrap_or(u32::MAX)).contains(&number)
                        && taken == name(beginning, number)
                }),
        }
    }

    /// Sees to it that the longest of them can be given, before anything is opened for it.
    ///
    /// # Errors
    ///
    /// A sentence that says what a name may consist of.
    pub(super) fn must_fit(&self) -> Result<()> {
        let fits = match *self {
            Self::One(name) => check_name(name),
            Self::Series(beginning, count) => {
                check_name(&name(beginning, count.unwrap_or(u32::MAX)))
            }
        };
        Ok(fits?)
    }

    /// Sees to it that none of them is taken, before a process is touched for it.
    ///
    /// # Errors
    ///
    /// A sentence that names the snapshot that has one, and those of the store.
    pub(super) fn must_be_free(&self, store: &Store) -> Result<()> {
        let listing = store.list()?;
        for snapshot in &listing.snapshots {
            let taken = snapshot.name.as_deref().filter(|taken| self.has(taken));
            if let Some(taken) = taken {
                bail!(
                    "the name {taken:?} is taken by snapshot {}: remove that or choose another \
                     name",
                    snapshot.id
                );
            }
        }
        Ok(())
    }
}

/// What became of one snapshot of a series.
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub(super) enum Attempt {
    /// It was taken.
    Taken(SnapshotReport),
    /// It was not, and the next may be.
    Failed(Error),
}

/// What became of a series.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    taken: u32,
    failed: u32,
    /// Whether the process ended before all were taken.
    over: bool,
}

/// Takes one snapshot after the other: up to `count`, until `wait` tells that the user wants no
/// more, or until the process ends. What fails for a reason that may pass is told, and the next is
/// tried when it is due.
///
/// # Errors
///
/// What can't pass, and those of `tell`.
pub(super) fn run(
    count: Option<u32>,
    wait: &mut dyn FnMut() -> bool,
    take: &mut dyn FnMut(u32, bool) -> Result<SnapshotReport, Error>,
    tell: &mut dyn FnMut(Attempt) -> Result<()>,
) -> Result<Tally> {
    let mut tally = Tally::default();
    for number in 1..=count.unwrap_or(u32::MAX) {
        if wait() {
            break;
        }
        match take(number, Some(number) != count) {
            Ok(report) => {
                tally.taken += 1;
                tell(Attempt::Taken(report))?;
            }
            Err(error) if error.is_over() && number > 1 => {
                tally.over = true;
                break;
            }
            Err(error) if error.may_pass() => {
                tally.failed += 1;
                tell(Attempt::Failed(error))?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(tally)
}

impl Tally {
    /// Tells how the series ended.
    ///
    /// # Errors
    ///
    /// Where not all came about that were asked for.
    pub(super) fn verdict(&self, pid: u32, count: Option<u32>) -> Result<()> {
        let Self {
            taken,
            failed,
            over,
        } = *self;
        match count {
            Some(count) if over => {
                bail!("process {pid} has ended: {taken} of {count} snapshots were taken")
            }
            _ if failed > 0 => bail!(
                "{failed} of {} snapshots of process {pid} were not taken: see above",
                taken + failed
            ),
            _ => {
                if over {
                    anstream::eprintln!("process {pid} has ended");
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use onionskin::RefusedError;

    use super::*;
    use crate::snapshot::summary::tests::report;

    fn busy() -> Error {
        RefusedError {
            pid: 7,
            doubts: Vec::new(),
        }
        .into()
    }

    fn useless() -> Error {
        Error::Exists("it".to_owned())
    }

    /// A series whose snapshots end like this, one after the other; returns its tally, and for
    /// each attempt whether more were to follow.
    fn series(count: Option<u32>, script: Vec<Result<(), Error>>) -> (Result<Tally>, Vec<bool>) {
        let (mut script, mut follow, mut told) = (script.into_iter(), Vec::new(), 0);
        let left = script.len();
        let mut waits = 0;
        let mut wait = || {
            waits += 1;
            waits > left
        };
        let tally = run(
            count,
            &mut wait,
            &mut |number, more| {
                follow.push(more);
                assert_eq!(number as usize, follow.len());
                script.next().expect("it was not waited").map(|()| report())
            },
            &mut |_| {
                told += 1;
                Ok(())
            },
        );
        if let Ok(tally) = &tally {
            assert_eq!(told, tally.taken + tally.failed);
        }
        (tally, follow)
    }

    #[test]
    fn a_series_goes_on_after_what_may_pass() {
        let script = vec![Err(busy()), Ok(()), Err(busy()), Ok(())];
        let (tally, follow) = series(Some(4), script);
        let tally = tally.unwrap();
        assert_eq!((tally.taken, tally.failed, tally.over), (2, 2, false));
        assert_eq!(follow, [true, true, true, false]);
        let said = tally.verdict(7, Some(4)).unwrap_err().to_string();
        assert!(said.starts_with("2 of 4 snapshots"), "{said}");
    }

    #[test]
    fn a_series_ends_with_what_can_not_pass() {
        let (tally, follow) = series(None, vec![Ok(()), Err(useless()), Ok(())]);
        assert!(tally.is_err());
        assert_eq!(follow.len(), 2);
    }

    #[test]
    fn a_series_of_a_process_that_ends_has_what_was_wanted_or_not() {
        let script = || vec![Ok(()), Err(Error::Ended(7)), Ok(())];
        let (tally, follow) = series(None, script());
        assert_eq!(follow.len(), 2);
        assert!(tally.unwrap().verdict(7, None).is_ok());
        let (tally, _) = series(Some(3), script());
        let said = tally.unwrap().verdict(7, Some(3)).unwrap_err().to_string();
        assert!(said.contains("1 of 3"), "{said}");
        // One that was gone from the start was a mistake.
        assert!(series(None, vec![Err(Error::Ended(7))]).0.is_err());
    }

    #[test]
    fn who_wants_no_more_gets_no_more() {
        let (tally, follow) = series(Some(9), vec![Ok(()), Ok(())]);
        let tally = tally.unwrap();
        assert_eq!((tally.taken, follow.len()), (2, 2));
        assert!(tally.verdict(7, Some(9)).is_ok());
    }

    #[test]
    fn only_names_that_are_to_be_given_are_in_the_way() {
        let three = Names::Series("a", Some(3));
        for (taken, yes) in [("a-1", true), ("a-3", true), ("a-4", false), ("a", false)] {
            assert_eq!(three.has(taken), yes, "{taken}");
        }
        for other in ["a-0", "a-01", "a-+1", "a-x", "b-1", "aa-1", "a-1-1"] {
            assert!(!three.has(other), "{other}");
        }
        assert!(Names::Series("a", None).has("a-4000000000"));
        assert!(Names::One("a").has("a") && !Names::One("a").has("a-1"));
    }
}
