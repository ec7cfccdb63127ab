//! `onionskin watch`: which memory a process writes, and how fast.

#[cfg(test)]
mod fake;
mod history;
mod html;
pub(crate) mod lines;
mod screen;
mod strip;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use onionskin::report::WatchInterval;

use crate::args::Watch;
use crate::out::Out;
use crate::outcome::Outcome;
use crate::stop::Stop;
use history::History;

/// Where intervals come from.
trait Source {
    /// Returns what was written since the last call; `None` once the process has ended.
    ///
    /// # Errors
    ///
    /// Those of looking at the process.
    fn interval(&mut self) -> Result<Option<WatchInterval>>;
}

/// A live process.
struct Process(onionskin::Watch);

impl Source for Process {
    fn interval(&mut self) -> Result<Option<WatchInterval>> {
        match self.0.interval() {
            Ok(interval) => Ok(Some(interval)),
            Err(onionskin::Error::Ended(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Watches until the time is over, the process ends or the user has seen enough.
///
/// # Errors
///
/// Those of looking at the process and of printing.
pub(crate) fn run(args: &Watch, out: &mut Out) -> Result<Outcome> {
    let mut watch = onionskin::Watch::attach(args.pid)?;
    // It begins the first interval.
    watch.interval()?;
    show(args, &mut Process(watch), out)
}

fn show(args: &Watch, source: &mut dyn Source, out: &mut Out) -> Result<Outcome> {
    let stop = Stop::listen()?;
    let mut history = History::default();
    let watched = if out.is_terminal() {
        screen::run(args, source, &mut history, &stop)
    } else {
        lines::run(args, source, &mut history, &stop, out)
    };
    // What was seen until something went wrong is worth keeping.
    if let Some(path) = &args.html {
        write_report(path, &history, out)?;
    }
    let ended = watched?;
    if ended && !out.json {
        anstream::eprintln!("process {} has ended", args.pid);
    }
    Ok(Outcome::Fine)
}

fn write_report(path: &Path, history: &History, out: &mut Out) -> Result<()> {
    html::write(path, history).with_context(|| format!("can't write {}", path.display()))?;
    if out.is_terminal() {
        writeln!(out, "wrote {}", path.display())?;
    }
    Ok(())
}

/// When to look next, and when to end.
#[derive(Debug)]
struct Schedule {
    next: Instant,
    end: Option<Instant>,
    interval: Duration,
}

impl Schedule {
    fn new(args: &Watch) -> Self {
        let now = Instant::now();
        Self {
            next: now + args.interval,
            end: args.duration.and_then(|duration| now.checked_add(duration)),
            interval: args.interval,
        }
    }

    /// Returns the time of the next look.
    fn due(&self) -> Instant {
        self.end.map_or(self.next, |end| end.min(self.next))
    }

    /// Plans the look after this one; returns `false` if there is none. A look that took longer
    /// than an interval leaves out those it missed.
    fn advance(&mut self) -> bool {
        let now = Instant::now();
        self.next = (self.next + self.interval).max(now);
        self.end.is_none_or(|end| now < end)
    }
}
