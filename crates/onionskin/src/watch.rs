//! Watching which memory a process writes.

use std::time::Duration;

use engine::{Activity, Forks, LookLimits, Outlook, WatchError, Watched, Watcher};
use space::{AddressSpace, Mapping, Protection, Sharing};
use sys::{STOP_LIMIT, Target, TrackError, TrackWish};

use crate::clock::Clock;
use crate::error::Error;
use crate::report::{
    Forecast, FreezeForecast, Heat, MappingActivity, Tracked, TrackingMode, WatchInterval,
};

/// How long the process may stand still for a look with soft-dirty bits. That takes the longer the more
/// memory there is.
const LIMITS: LookLimits = LookLimits {
    stop: STOP_LIMIT,
    look: Duration::from_secs(5),
};

/// A process whose writes are watched, all of them and not a sample.
///
/// It runs untraced. Dropping this leaves it as it would be without.
#[derive(Debug)]
pub struct Watch {
    target: Target,
    watcher: Watcher,
    forks: Forks,
    clock: Clock,
    program: String,
}

impl Watch {
    /// Begins to watch process `pid`; this stops it for a moment.
    ///
    /// # Errors
    ///
    /// [`Error::Open`] where it can't be worked on, [`Error::Track`] where its writes can't be
    /// tracked.
    pub fn attach(pid: u32) -> Result<Self, Error> {
        let mut target = Target::open(pid)?;
        let mut attached = target.attach(TrackWish::Best, STOP_LIMIT);
        if matches!(&attached, Err(late) if late.is_late()) {
            // A busy machine may need a second try.
            attached = target.attach(TrackWish::Best, STOP_LIMIT);
        }
        attached.map_err(|source| match source {
            TrackError::Stop(source) => Error::Stop { pid, source },
            source => Error::Track { pid, source },
        })?;
        let process = target.process();
        let program = process
            .link("exe")
            .or_else(|_| process.stat().map(|stat| stat.name))
            .map_err(|source| Error::Process { pid, source })?;
        // A filter that comes later is not seen: then a snapshot finds another way.
        let forks = match target.could_fork(STOP_LIMIT) {
            // What was too late this time says nothing of the next.
            Ok(()) => Forks::Possible,
            Err(late) if late.is_late() => Forks::Possible,
            Err(_) => Forks::Impossible,
        };
        Ok(Self {
            target,
            watcher: Watcher::new(),
            forks,
            clock: Clock::start(),
            program,
        })
    }

    /// Ends an interval and begins the next: tells what was written since the last call. The
    /// first call begins the first interval and reports nothing as written.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] where the process ended or executes another program.
    pub fn interval(&mut self) -> Result<WatchInterval, Error> {
        let pid = self.target.pid();
        self.target.refresh_if_new().map_err(|errno| match errno {
            space::Errno::ESRCH => Error::Ended(pid),
            errno => Error::Watch {
                pid,
                source: WatchError::Look(errno),
            },
        })?;
        let mut looked = self.look();
        if matches!(looked, Err(WatchError::Stop(space::Errno::ETIMEDOUT))) {
            // Nothing was looked at, so what was written is still marked.
            looked = self.look();
        }
        let activity = looked.map_err(|error| match (error, self.target.stop_error()) {
            (WatchError::Gone, _) => Error::Ended(pid),
            (WatchError::Stop(_), Some(stop)) => Error::Stop {
                pid,
                source: stop.clone(),
            },
            (source, _) => Error::Watch { pid, source },
        })?;
        Ok(self.report(&activity))
    }

    fn look(&mut self) -> Result<Activity, WatchError> {
        self.watcher.interval(&mut self.target, &self.clock, LIMITS)
    }

    fn report(&mut self, activity: &Activity) -> WatchInterval {
        let stops = self.target.take_stops();
        let others: Duration = stops.iter().map(|stop| stop.length).sum();
        let page_size = self.target.page_size().bytes();
        let seconds = activity.elapsed.as_secs_f64();
        let rate = |pages: u64| {
            if seconds > 0.0 {
                float(pages * page_size) / seconds
            } else {
                0.0
            }
        };
        let sum = |pages: fn(&engine::MappingActivity) -> u64| {
            activity.mappings.iter().map(pages).sum::<u64>()
        };
        let written_pages = sum(|mapping| mapping.written.0);
        WatchInterval {
            t_ms: millis(engine::Clock::now(&self.clock)),
            interval_ms: millis(activity.elapsed),
            pid: self.target.pid(),
            program: self.program.clone(),
            tracking: match self.target.tracking() {
                space::Tracking::SoftDirty => TrackingMode::SoftDirty,
                space::Tracking::WriteProtect | space::Tracking::None => TrackingMode::WriteProtect,
            },
            stopped_ms: millis(activity.stopped + others),
            page_size,
            written_pages,
            written_bytes_per_s: rate(written_pages),
            resident_pages: sum(|mapping| mapping.present.0),
            forecast: self.forecast(activity),
            mappings: activity
                .mappings
                .iter()
                .map(|mapping| MappingActivity {
                    range: mapping.mapping.range,
                    name: mapping.mapping.name.clone(),
                    protection: protection(&mapping.mapping),
                    size_bytes: mapping.mapping.range.len().0,
                    resident_bytes: mapping.present.0 * page_size,
                    written_pages: mapping.written.0,
                    written_bytes_per_s: rate(mapping.written.0),
                    tracked: tracked(mapping.watched),
                    heat: Heat::of(mapping.mapping.range, &mapping.written_ranges),
                    written: mapping.written_ranges.clone(),
                })
                .collect(),
        }
    }

    /// What a snapshot would do now, by the rules that snapshots are taken by.
    fn forecast(&self, activity: &Activity) -> Forecast {
        let size = self.target.page_size();
        let Outlook { strategy, forecast } = self.watcher.outlook(activity, size, self.forks);
        let fork = match self.forks {
            Forks::Possible => Some(millis(forecast.fork)),
            Forks::Impossible => None,
        };
        Forecast {
            strategy: crate::snapshot::strategy(strategy),
            freeze_ms: FreezeForecast {
                precopy: Some(millis(forecast.precopy)),
                fork,
                freeze: Some(millis(forecast.freeze)),
            },
        }
    }
}

fn tracked(watched: Watched) -> Tracked {
    match watched {
        Watched::Yes => Tracked::Yes,
        Watched::OwnWrites => Tracked::No(
            "shared: only this process's own writes through this mapping are seen".into(),
        ),
        Watched::No(space::Errno::EBUSY) => Tracked::No("another userfaultfd has it".into()),
        Watched::No(errno) => Tracked::No(errno.to_string()),
        Watched::Special => Tracked::No("memory of a device or of the kernel".into()),
    }
}

fn protection(mapping: &Mapping) -> String {
    let letter = |protection, letter| {
        if mapping.protection.contains(protection) {
            letter
        } else {
            '-'
        }
    };
    let sharing = match mapping.sharing {
        Sharing::Private => 'p',
        Sharing::Shared => 's',
    };
    [
        letter(Protection::READ, 'r'),
        letter(Protection::WRITE, 'w'),
        letter(Protection::EXEC, 'x'),
        sharing,
    ]
    .into_iter()
    .collect()
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate needs no more than 53 bits"
)]
fn float(count: u64) -> f64 {
    count as f64
}
