//! Registering mappings for write protection, so that the process does not notice.

use std::time::{Duration, Instant};

use space::{AddressSpace, Errno, Mapping, PageFlags, PageRange, Rearm, Scan, Tracked};

use super::track::{STEPS, Track};
use super::{AGAIN_AFTER, LateRegistration, Target};
use crate::task::Tracer;

/// How long registering may take at least once all tasks stand still: each mapping takes its time, and
/// there may be thousands.
const REGISTER_LIMIT: Duration = Duration::from_secs(1);
/// How much later than by our own rule the tasks are let go from outside, so that all that was
/// registered by then is known to be in order.
const LATER: Duration = Duration::from_millis(250);
/// After so many ranges it is asked whether the tasks stand still yet.
const BATCH: usize = 256;

/// Until when mappings may be registered, and who knows whether the tasks stand still yet.
struct Watchdog<'a> {
    tracer: &'a Tracer,
    limit: Duration,
    until: Option<Instant>,
}

impl<'a> Watchdog<'a> {
    /// Has the tasks let go some time after `limit` has passed from now.
    fn begin(tracer: &'a Tracer, limit: Duration) -> Self {
        let until = Instant::now().checked_add(limit);
        tracer.hold(limit.saturating_add(LATER));
        Self {
            tracer,
            limit,
            until,
        }
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }
}

impl Target {
    /// Registers the mappings that `ranges` lie in.
    ///
    /// A registration of less than a mapping would cut it in two, and a process that moves it
    /// with `mremap` would get an error that it would not have without us. So it is only whole
    /// mappings that are registered, as they are while the tasks stand still.
    ///
    /// Where there is too little time for that, the rest is copied in the freeze, and tried again after
    /// the next [`refresh`](Self::refresh): [`late_registration`](Self::late_registration) tells.
    pub(super) fn register(
        &mut self,
        ranges: &[PageRange],
        outcome: &mut Vec<Tracked>,
    ) -> Result<(), Errno> {
        if self.late_registration.is_some() {
            return Ok(());
        }
        // Marks of an earlier session. New ones come about only where something is registered, so
        // for the first registration there is time to look before the stop.
        let stale = if self.registered {
            Vec::new()
        } else {
            self.marked(ranges)?
        };
        let tracer = match &self.stopped {
            Some(_) => None,
            None => match self.stop_to_register() {
                Ok(tracer) => Some(tracer),
                Err(Errno::ETIMEDOUT) => {
                    let why = self.stop_error.clone().map(LateRegistration::Stop);
                    self.late_registration = why;
                    return Ok(());
                }
                Err(errno) => return Err(errno),
            },
        };
        let limit = self.stop_limit.saturating_mul(STEPS).max(REGISTER_LIMIT);
        let watchdog = tracer.as_ref().map(|tracer| Watchdog::begin(tracer, limit));
        let done = self.register_stopped(ranges, &stale, watchdog.as_ref(), outcome);
        if let Some(tracer) = tracer {
            let asked = tracer.asked();
            drop(tracer);
            self.stopped_for("register", asked);
        }
        self.registered = true;
        done
    }

    /// Stops the tasks: at the second or third attempt, if they are just about something that takes
    /// longer than they may be stopped for, as a `fork` of much memory.
    fn stop_to_register(&mut self) -> Result<Tracer, Errno> {
        const ATTEMPTS: u32 = 3;
        let mut attempt = 1;
        loop {
            let begun = Instant::now();
            let error = match self.stop_tasks(self.stop_limit) {
                Ok(tracer) => return Ok(tracer),
                Err(error) => error,
            };
            self.stopped_for("register", begun);
            let gives_up = attempt == ATTEMPTS || error.is_uninterruptible();
            let errno = self.keep(error);
            if gives_up || errno != Errno::ETIMEDOUT {
                return Err(errno);
            }
            attempt += 1;
            std::thread::sleep(AGAIN_AFTER);
        }
    }

    /// Finds pages that are marked as protected although their mappings are not registered.
    fn marked(&mut self, ranges: &[PageRange]) -> Result<Vec<PageRange>, Errno> {
        let scan = Scan {
            all_of: PageFlags::empty(),
            any_of: PageFlags::PRESENT | PageFlags::SWAPPED,
            report: PageFlags::WRITTEN,
            rearm: Rearm::Keep,
        };
        let mut runs = Vec::new();
        self.view.scan(&scan, ranges, &mut runs)?;
        runs.retain(|run| !run.flags.contains(PageFlags::WRITTEN));
        Ok(runs.into_iter().map(|run| run.range).collect())
    }

    /// Registers while all tasks stand still. Of what was registered when they ran again, nothing goes
    /// to `outcome`: the mappings may have been others by then.
    fn register_stopped(
        &mut self,
        ranges: &[PageRange],
        stale: &[PageRange],
        watchdog: Option<&Watchdog<'_>>,
        outcome: &mut Vec<Tracked>,
    ) -> Result<(), Errno> {
        let mappings = self.mappings()?;
        let mut new = Vec::new();
        for batch in ranges.chunks(BATCH) {
            let known = outcome.len();
            let rest = self.register_batch(batch, &mappings, stale, watchdog, &mut new, outcome);
            let Some(watchdog) = watchdog else { continue };
            match watchdog.tracer.must_hold() {
                Ok(()) if rest.is_empty() => continue,
                Ok(()) => {}
                Err(Errno::ETIMEDOUT) => outcome.truncate(known),
                Err(errno) => return Err(errno),
            }
            self.late_registration = Some(LateRegistration::Slow(watchdog.limit));
            break;
        }
        Ok(())
    }

    /// Registers mappings that `ranges` lie in, until the time is over; returns the rest of them.
    fn register_batch<'r>(
        &mut self,
        ranges: &'r [PageRange],
        mappings: &[Mapping],
        stale: &[PageRange],
        watchdog: Option<&Watchdog<'_>>,
        new: &mut Vec<PageRange>,
        outcome: &mut Vec<Tracked>,
    ) -> &'r [PageRange] {
        for (index, &range) in ranges.iter().enumerate() {
            if watchdog.is_some_and(Watchdog::is_over) {
                return &ranges[index..];
            }
            let tracked = match around(mappings, range) {
                // The process has changed it since it was asked for; the next time it may be.
                None => Err(Errno::EAGAIN),
                Some(mapping) if new.last() == Some(&mapping) => Ok(()),
                Some(mapping) if mapping != range && self.is_registered(mapping) => Ok(()),
                Some(mapping) => self
                    .register_mapping(mapping, stale)
                    .inspect(|()| new.push(mapping)),
            };
            outcome.push(match tracked {
                Ok(()) => Tracked::Yes(range),
                Err(errno) => Tracked::No(range, errno),
            });
        }
        &[]
    }

    /// Registers a mapping and takes old marks off its pages.
    fn register_mapping(&self, mapping: PageRange, stale: &[PageRange]) -> Result<(), Errno> {
        let Track::WriteProtect(protect) = &self.track else {
            return Err(Errno::ENOSYS);
        };
        protect.register(mapping)?;
        if self.registered {
            return protect.clear(mapping);
        }
        let first = stale.partition_point(|marked| marked.end() <= mapping.start());
        stale[first..]
            .iter()
            .map_while(|marked| marked.intersection(mapping))
            .try_for_each(|marked| protect.clear(marked))
    }

    /// Tells whether a mapping is registered already: one that grew is, new part and old.
    fn is_registered(&mut self, mapping: PageRange) -> bool {
        let scan = Scan {
            all_of: PageFlags::HUGE | PageFlags::ZERO | PageFlags::FILE,
            any_of: PageFlags::empty(),
            report: PageFlags::empty(),
            rearm: Rearm::KeepIfTracked,
        };
        let first =
            PageRange::from_pages(mapping.start(), space::PageCount(1), self.view.page_size);
        let first = first.expect("a mapping has a page");
        self.view.scan(&scan, &[first], &mut Vec::new()).is_ok()
    }
}

/// Finds the mapping that all of `range` lies in.
fn around(mappings: &[Mapping], range: PageRange) -> Option<PageRange> {
    let next = mappings.partition_point(|mapping| mapping.range.end() <= range.start());
    mappings
        .get(next)
        .map(|mapping| mapping.range)
        .filter(|mapping| mapping.covers(range))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use space::{Tracking, Vaddr};

    use super::*;
    use crate::TrackWish;
    use crate::programs::program;

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn what_was_not_registered_in_time_is_not_taken_for_registered() {
        let directory = tempfile::tempdir().unwrap();
        let mut parent = Command::new(program("live", directory.path()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut answers = BufReader::new(parent.stdout.take().unwrap());
        answers.read_line(&mut line).unwrap();
        let start = u64::from_str_radix(line.trim().trim_start_matches("0x"), 16).unwrap();
        let mut target = Target::open(parent.id()).unwrap();
        target.refresh().unwrap();
        // Where there is no write protection nothing is registered.
        if target.attach(TrackWish::Best, LIMIT).is_ok()
            && target.tracking() == Tracking::WriteProtect
        {
            let mappings = target.mappings().unwrap();
            let area = mappings.iter().find(|it| it.range.contains(Vaddr(start)));
            late_and_later(&mut target, area.unwrap().range);
        }
        parent.kill().unwrap();
        parent.wait().unwrap();
    }

    fn late_and_later(target: &mut Target, area: PageRange) {
        let slow = |limit| Some(LateRegistration::Slow(limit));
        let mut outcome = Vec::new();
        // No time at all.
        let tracer = target.stop_tasks(LIMIT).unwrap();
        let none = Watchdog::begin(&tracer, Duration::ZERO);
        target
            .register_stopped(&[area], &[], Some(&none), &mut outcome)
            .unwrap();
        assert_eq!(target.late_registration, slow(Duration::ZERO));
        drop(tracer);

        // They run before it is done.
        let tracer = target.stop_tasks(LIMIT).unwrap();
        tracer.hold(Duration::ZERO);
        while tracer.must_hold().is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let late = Watchdog {
            tracer: &tracer,
            limit: LIMIT,
            until: None,
        };
        target
            .register_stopped(&[area], &[], Some(&late), &mut outcome)
            .unwrap();
        assert_eq!(target.late_registration, slow(LIMIT));
        drop(tracer);

        // Not again before the next look at everything.
        target.track(&[area], &mut outcome).unwrap();
        assert_eq!(outcome, []);
        target.refresh().unwrap();
        target.track(&[area], &mut outcome).unwrap();
        assert_eq!(outcome, [Tracked::Yes(area)]);
        assert_eq!(target.late_registration, None);
    }
}
