//! `onionskin snapshot`: one snapshot, or a series of layers.

pub(crate) mod progress;
mod series;
pub(crate) mod summary;

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use anyhow::Result;
use onionskin::report::SnapshotReport;
use onionskin::store::{Access, Store};
use onionskin::{Error, Selection, Session, SessionOptions, SnapshotOptions, Strategy, Tracking};

use crate::args::{Snapshot, StrategyArg};
use crate::open;
use crate::out::Out;
use crate::outcome::{self, Outcome};
use crate::stop::Stop;
use progress::Progress;
use series::{Attempt, Names};

/// Takes one snapshot, or one after the other until there are enough.
///
/// # Errors
///
/// Those of the store, of attaching and of the snapshots.
pub(crate) fn run(args: &Snapshot, out: &mut Out) -> Result<Outcome> {
    let address = &args.store.store;
    let names = args.name.as_ref().map(|name| match args.every {
        None => Names::One(name),
        Some(_) => Names::Series(name, args.count),
    });
    if let Some(names) = &names {
        names.must_fit()?;
    }
    // A store that can't be used is told before the process is touched, and none is made for a
    // process that can't be.
    let found = open::existing(address)?;
    if let (Some(store), Some(names)) = (&found, &names) {
        names.must_be_free(store)?;
    }
    if args.every.is_none() {
        Session::foresee(args.pid, &options(args, None, false))?;
    }
    let stop = Stop::listen()?;
    let mut session = Session::attach(args.pid, session_options(args))?;
    let store = match found {
        Some(store) => store,
        None => open::store(address, Access::Create)?,
    };
    let mut camera = Camera {
        args,
        store: &store,
        session: &mut session,
        stop: &stop,
        found: false,
        visible: !out.json && stderr().is_terminal(),
    };
    match args.every {
        None => camera.single(out)?,
        Some(every) => camera.repeat(every, out)?,
    }
    Ok(Outcome::found_if(camera.found))
}

/// Takes the snapshots of one session.
struct Camera<'a> {
    args: &'a Snapshot,
    store: &'a Store,
    session: &'a mut Session,
    stop: &'a Stop,
    /// Whether a comparison found a difference.
    found: bool,
    /// Whether progress is shown.
    visible: bool,
}

impl Camera<'_> {
    fn single(&mut self, out: &mut Out) -> Result<()> {
        let report = self.take(self.args.name.clone(), false)?;
        if out.json {
            return out.json_line(&report);
        }
        summary::print(&report, &self.args.store.store, out)
    }

    fn repeat(&mut self, every: Duration, out: &mut Out) -> Result<()> {
        let (args, stop) = (self.args, self.stop);
        let mut take = |number, more_follow| {
            let name = args.name.as_ref().map(|name| series::name(name, number));
            self.take(name, more_follow)
        };
        let mut tell = |attempt: Attempt| match attempt {
            Attempt::Taken(report) if out.json => out.json_line(&report),
            Attempt::Taken(report) => summary::print_line(&report, out),
            Attempt::Failed(error) => outcome::print_error(&error.into(), out),
        };
        let count = args.count;
        let mut due = Instant::now();
        let mut wait = || {
            let asked = stop.wait_until(due);
            due = (due + every).max(Instant::now());
            asked
        };
        let tally = series::run(count, &mut wait, &mut take, &mut tell)?;
        tally.verdict(args.pid, count)
    }

    fn take(&mut self, name: Option<String>, more_follow: bool) -> Result<SnapshotReport, Error> {
        let options = options(self.args, name, more_follow);
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

/// What attaching may do: a stop may be as long as the freeze may be, and what copies all memory in
/// one freeze needs to have nothing tracked before it.
fn session_options(args: &Snapshot) -> SessionOptions {
    let whole = matches!(args.strategy, StrategyArg::Fork | StrategyArg::Freeze);
    let default = SessionOptions::default();
    SessionOptions {
        tracking: if whole && args.every.is_none() {
            Tracking::Off
        } else {
            Tracking::Best
        },
        stop_limit: args.max_freeze.unwrap_or(default.stop_limit),
    }
}

fn options(args: &Snapshot, name: Option<String>, more_follow: bool) -> SnapshotOptions {
    SnapshotOptions {
        name,
        strategy: strategy(args.strategy),
        max_freeze: args.max_freeze,
        strict: args.strict,
        verify: args.verify,
        selection: args.all.then_some(Selection::All),
        more_follow,
        ..SnapshotOptions::default()
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn attached_with(more: &str) -> SessionOptions {
        let line = format!("onionskin snapshot 7 --store s {more}");
        match Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command) {
            Ok(Command::Snapshot(args)) => session_options(&args),
            _ => panic!("{line}"),
        }
    }

    #[test]
    fn attaching_keeps_the_promise_too() {
        let default = SessionOptions::default().stop_limit;
        assert!(default < Duration::from_secs(1));
        assert_eq!(attached_with("").stop_limit, default);
        let long = attached_with("--max-freeze 10s").stop_limit;
        assert_eq!(long, Duration::from_secs(10));
        let short = attached_with("--max-freeze 10ms").stop_limit;
        assert_eq!(short, Duration::from_millis(10));
    }

    #[test]
    fn nothing_is_tracked_for_a_single_copy_of_all() {
        for whole in ["freeze", "fork"] {
            let single = attached_with(&format!("--strategy {whole}"));
            assert_eq!(single.tracking, Tracking::Off);
            let series = attached_with(&format!("--strategy {whole} --every 5s"));
            assert_eq!(series.tracking, Tracking::Best);
        }
        assert_eq!(attached_with("").tracking, Tracking::Best);
    }
}
