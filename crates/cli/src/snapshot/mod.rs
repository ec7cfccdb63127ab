//! `onionskin snapshot`: one snapshot, or a series of layers.

pub(crate) mod progress;
pub(crate) mod summary;

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use onionskin::report::SnapshotReport;
use onionskin::store::{Access, OpenError, Store};
use onionskin::{Error, Selection, Session, SessionOptions, SnapshotOptions, Strategy};

use crate::args::{Snapshot, StrategyArg};
use crate::out::{Out, WARN, paint};
use crate::outcome::Outcome;
use crate::stop::Stop;
use progress::Progress;

/// Takes one snapshot, or one after the other until there are enough.
///
/// # Errors
///
/// Those of the store, of attaching and of the snapshots.
pub(crate) fn run(args: &Snapshot, out: &mut Out) -> Result<Outcome> {
    let address = &args.store.store;
    // A store that can't be used is told before the process is touched, and none is made for a
    // process that can't be.
    let found = match Store::open(address, Access::Existing) {
        Err(OpenError::Missing(_)) => None,
        found => Some(found?),
    };
    let stop = Stop::listen()?;
    let mut session = Session::attach(args.pid, SessionOptions::default())?;
    let store = match found {
        Some(store) => store,
        None => Store::open(address, Access::Create)?,
    };
    let mut series = Series {
        args,
        store: &store,
        session: &mut session,
        stop: &stop,
        found: false,
        visible: !out.json && stderr().is_terminal(),
    };
    let result = match args.every {
        None => series.single(out),
        Some(every) => series.repeat(every, out),
    };
    result?;
    Ok(Outcome::found_if(series.found))
}

/// The snapshots of one session.
struct Series<'a> {
    args: &'a Snapshot,
    store: &'a Store,
    session: &'a mut Session,
    stop: &'a Stop,
    /// Whether a comparison found a difference.
    found: bool,
    /// Whether progress is shown.
    visible: bool,
}

impl Series<'_> {
    fn single(&mut self, out: &mut Out) -> Result<()> {
        let report = self.take(self.args.name.clone(), false)?;
        if out.json {
            return out.json_line(&report);
        }
        summary::print(&report, &self.args.store.store, out)
    }

    fn repeat(&mut self, every: Duration, out: &mut Out) -> Result<()> {
        let mut due = Instant::now();
        let mut refused = 0_u32;
        for number in 1..=self.args.count.unwrap_or(u32::MAX) {
            if self.stop.wait_until(due) {
                break;
            }
            due = (due + every).max(Instant::now());
            let more_follow = Some(number) != self.args.count;
            let name = self
                .args
                .name
                .as_ref()
                .map(|name| format!("{name}-{number}"));
            match self.take(name, more_follow) {
                Ok(report) if out.json => out.json_line(&report)?,
                Ok(report) => summary::print_line(&report, out)?,
                Err(Error::Ended(_)) if number > 1 => {
                    anstream::eprintln!("process {} has ended", self.args.pid);
                    break;
                }
                // What could not be promised now may hold a few seconds later.
                Err(error @ (Error::Refused(_) | Error::Snapshot { .. })) => {
                    refused += 1;
                    let error = anyhow::Error::from(error);
                    anstream::eprintln!("{} {error:#}", paint(WARN, "warning:"));
                }
                Err(error) => return Err(error.into()),
            }
        }
        if refused > 0 {
            bail!(
                "{refused} of the snapshots of process {} were not taken: see above",
                self.args.pid
            );
        }
        Ok(())
    }

    fn take(&mut self, name: Option<String>, more_follow: bool) -> Result<SnapshotReport, Error> {
        let options = SnapshotOptions {
            name,
            strategy: strategy(self.args.strategy),
            max_freeze: self.args.max_freeze,
            strict: self.args.strict,
            verify: self.args.verify,
            selection: self.args.all.then_some(Selection::All),
            more_follow,
            ..SnapshotOptions::default()
        };
        let mut progress = Progress::new(self.visible, Some(self.stop.clone()));
        let report = self.session.snapshot(self.store, &options, &mut progress);
        progress.finish();
        let report = report?;
        self.found |= report
            .verify
            .as_ref()
            .is_some_and(|verify| verify.differing_pages > 0);
        Ok(report)
    }
}

fn strategy(arg: StrategyArg) -> Strategy {
    match arg {
        StrategyArg::Auto => Strategy::Auto,
        StrategyArg::Precopy => Strategy::Precopy,
        StrategyArg::Fork => Strategy::Fork,
        StrategyArg::Freeze => Strategy::Freeze,
    }
}
