//! One snapshot: the engine's work, its description, its place in the store.

use std::num::NonZero;
use std::time::{Duration, Instant};

use engine::{Event, Selection, SnapshotError, Stay, Strategy, Taken, Verify};
use space::{AddressSpace, Errno, ProcessState, RangeSet, StopLength};
use store::{SavedMapping, SnapshotMeta, Store, WriteError, WriteOptions, WriteStats};
use sys::procfs::{Process, ProcfsError};
use sys::{LateCall, StopError, Target};

use crate::clock::{Clock, now_ns};
use crate::doubts::{self, Doubts};
use crate::error::{Error, RefusedError};
use crate::report::{
    Consistency, Doubt, FreezeParts, OtherStop, SnapshotReport, Timestamp, Verification,
};
use crate::session::Session;
use crate::sink::Sink;

/// What a snapshot is to be like.
#[derive(Clone, Debug)]
pub struct SnapshotOptions {
    /// A name for it, unique in the store.
    pub name: Option<String>,
    /// How it is taken.
    pub strategy: Strategy,
    /// The longest freeze allowed.
    pub max_freeze: Option<Duration>,
    /// The longest that a step of the freeze may take where no longest freeze is given; that of
    /// stopping the tasks is the session's.
    pub step_limit: Duration,
    /// Whether a snapshot that can't be proven to be of one instant is refused.
    pub strict: bool,
    /// Whether every page is compared before the process goes on.
    pub verify: bool,
    /// Which memory it holds; by default what the kernel's own dump would.
    pub selection: Option<Selection>,
    /// Whether more snapshots of this session follow.
    pub more_follow: bool,
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        Self {
            name: None,
            strategy: Strategy::Auto,
            max_freeze: None,
            step_limit: Duration::from_secs(10),
            strict: false,
            verify: false,
            selection: None,
            more_follow: false,
        }
    }
}

/// Who wants to know how a snapshot goes on.
pub trait Observer {
    /// Takes note of an event. This is never called while the process stands still, which may be
    /// the very terminal that is written to: what happens then is told when it runs again.
    fn event(&mut self, event: &Event);
}

/// An observer that ignores everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&mut self, _: &Event) {}
}

/// Listens to the engine, and looks for unseen writers whenever it asks.
struct Listener<'a> {
    process: Process,
    doubts: Doubts,
    /// Whether nothing may be in doubt.
    strict: bool,
    /// Whether something rests on tracking: there was a round, or a snapshot before.
    tracked: bool,
    frozen: bool,
    /// What happened while the process stood still.
    untold: Vec<Event>,
    failed: Option<ProcfsError>,
    created_ns: u64,
    observer: &'a mut dyn Observer,
}

impl Listener<'_> {
    fn look(&mut self) {
        match sys::hazard::inspect(self.process.pid()) {
            Ok(hazards) => self.doubts.add(hazards),
            Err(error) => self.failed = Some(error),
        }
    }

    /// What is in doubt by now.
    fn found(&self) -> Vec<Doubt> {
        self.with_failure(self.doubts.list(!self.tracked))
    }

    /// What is in doubt of the memory in `kept`.
    fn found_within(&self, kept: &RangeSet) -> Vec<Doubt> {
        self.with_failure(self.doubts.list_within(kept, !self.tracked))
    }

    fn with_failure(&self, mut doubts: Vec<Doubt>) -> Vec<Doubt> {
        if let Some(error) = &self.failed {
            let reason = format!("whether somebody writes unseen could not be found out: {error}");
            doubts.push(Doubt {
                ranges: Vec::new(),
                reason,
            });
        }
        doubts
    }

    /// Says that nothing was kept, because of what is in doubt.
    fn refused(&self, pid: u32) -> Error {
        let doubts = self.found();
        RefusedError { pid, doubts }.into()
    }
}

impl engine::Observer for Listener<'_> {
    fn event(&mut self, event: &Event) {
        match event {
            // Pins made before the last arming are those that can hide a write, so the last
            // look is just before the tasks are stopped; it would be long within.
            Event::Freezing => self.look(),
            Event::RoundStarted { .. } => self.tracked = true,
            Event::Frozen => {
                self.frozen = true;
                self.created_ns = now_ns();
            }
            Event::Resumed { .. } => {
                self.frozen = false;
                for untold in self.untold.drain(..) {
                    self.observer.event(&untold);
                }
            }
            // There may be many, and afterwards they say nothing.
            Event::Progress { .. } if self.frozen => return,
            _ => {}
        }
        if self.frozen {
            self.untold.push(event.clone());
        } else {
            self.observer.event(event);
        }
    }

    fn volatile(&mut self) -> RangeSet {
        if !self.frozen {
            self.look();
        }
        self.doubts.volatile().clone()
    }

    fn goes_on(&mut self) -> bool {
        !self.strict || self.found().is_empty()
    }
}

/// Takes a snapshot of a session's process.
pub(crate) fn take(
    session: &mut Session,
    store: &Store,
    options: &SnapshotOptions,
    observer: &mut dyn Observer,
) -> Result<SnapshotReport, Error> {
    let begun = Instant::now();
    let pid = session.pid();
    let process = Process::open(pid).map_err(|source| Error::Process { pid, source })?;
    session.target.forget_errors();
    if let Err(errno) = session.target.refresh() {
        return Err(match (errno, session.target.stop_error()) {
            (Errno::ESRCH, _) => Error::Ended(pid),
            (_, Some(source @ StopError::Sharing(_))) => Error::Stop {
                pid,
                source: source.clone(),
            },
            _ => space_error(pid, "reading the mappings", errno),
        });
    }
    let state = sys::procfs::process_state(&process, session.target.process())
        .map_err(|source| Error::Process { pid, source })?;
    let mut engine_options = engine_options(session, &process, options);
    let mut listener = Listener {
        process,
        doubts: Doubts::default(),
        strict: options.strict,
        tracked: session.last.is_some() || options.strategy == Strategy::Precopy,
        frozen: false,
        untold: Vec::new(),
        failed: None,
        created_ns: now_ns(),
        observer,
    };
    let (others, by_others) = doubts::others(&mut session.target, engine_options.selection);
    if options.strict {
        must_be_provable(session, &mut listener, by_others, &mut engine_options)?;
    }
    let sink = begin(session, store, options)?;
    let taken = engine::take(
        &mut session.target,
        &mut session.tracker,
        &sink,
        &Clock::start(),
        &engine_options,
        &mut session.costs,
        &mut listener,
    )
    .map_err(|error| match error {
        SnapshotError::Unwanted => listener.refused(pid),
        error => explain(&session.target, error),
    })?;
    listener.look();
    session.target.release_files();
    // What follows may fail without the engine knowing, so it counts as never taken until then.
    let parent = session.last;
    let tracker = std::mem::take(&mut session.tracker);
    session.last = None;
    let mut doubts = found(&mut listener, &taken, parent.is_some());
    doubts.extend(doubts::left_out_in_vain(&session.target, &taken));
    doubts.extend(doubts::shared(
        &session.target,
        &taken.mappings,
        &taken.parts,
        others,
    ));
    if options.strict && !doubts.is_empty() {
        return Err(RefusedError { pid, doubts }.into());
    }
    let consistency = Consistency::from_doubts(doubts);
    let stats_before = sink.0.stats();
    let mut report = report(session, options, &state, &taken, &stats_before, consistency);
    report.created = Timestamp::from_unix_ms(listener.created_ns / 1_000_000);
    report.parent = parent.map(|id| id.to_string());
    report.snapshot = sink.0.id().to_string();
    report.duration_ms = millis(begun.elapsed());
    let meta = meta(session, state, taken, &report, listener.created_ns);
    let kept = sink
        .0
        .commit(meta)
        .map_err(|source| Error::Write { pid, source })?;
    if options.more_follow {
        session.tracker = tracker;
        session.last = Some(kept.id());
    }
    report.bytes_stored = kept.summary().bytes_stored;
    report.duration_ms = millis(begun.elapsed());
    Ok(report)
}

/// Refuses what is in doubt already (`doubts`, because of others), and sees to it that rounds bring no doubt.
fn must_be_provable(
    session: &mut Session,
    listener: &mut Listener<'_>,
    doubts: Vec<Doubt>,
    options: &mut engine::Options,
) -> Result<(), Error> {
    let pid = session.pid();
    listener.look();
    if !engine::Observer::goes_on(listener) {
        return Err(listener.refused(pid));
    }
    if !doubts.is_empty() {
        return Err(RefusedError { pid, doubts }.into());
    }
    if options.strategy == Strategy::Auto && !is_provable(session, listener) {
        options.rounds_max = 0;
    }
    Ok(())
}

/// Tells whether rounds would leave nothing in doubt, as far as that is known before them. Without
/// rounds all memory is copied, or duplicated, while the tasks stand still.
fn is_provable(session: &Session, listener: &Listener<'_>) -> bool {
    let moves_show = session.target.tracking() != space::Tracking::SoftDirty;
    moves_show && listener.doubts.list(false).is_empty()
}

/// Says that a call took longer than was promised.
fn late_call(late: LateCall) -> String {
    let LateCall { tid, took, is_back } = late;
    let now = if is_back {
        "it is back where it was, which goes before what was promised"
    } else {
        "it could not be brought back in time and finds its own way, so the call that it waited in may \
         have ended with EINTR"
    };
    format!(
        "thread {tid} was made to call the kernel, and that took {took:.1?}, longer than the process was \
         to stand still: {now}"
    )
}

fn begin(session: &mut Session, store: &Store, options: &SnapshotOptions) -> Result<Sink, Error> {
    let pid = session.pid();
    let page_size = session.target.page_size();
    let write = |parent| WriteOptions {
        name: options.name.clone(),
        parent,
        page_size,
        now_ns: now_ns(),
    };
    let writer = match store.begin(write(session.last)) {
        // Removed by somebody since.
        Err(WriteError::Read(_)) if session.last.is_some() => {
            session.start_over();
            store.begin(write(None))
        }
        begun => begun,
    };
    writer
        .map(Sink)
        .map_err(|source| Error::Write { pid, source })
}

fn engine_options(
    session: &Session,
    process: &Process,
    options: &SnapshotOptions,
) -> engine::Options {
    let selection = options.selection.unwrap_or_else(|| {
        let filter = process
            .coredump_filter()
            .ok()
            .and_then(|filter| u32::try_from(filter).ok());
        filter.map_or_else(Selection::default, Selection::CoredumpFilter)
    });
    let tracked = session.target.tracking() != space::Tracking::None;
    engine::Options {
        strategy: options.strategy,
        max_freeze: options.max_freeze,
        stop_limit: session.options.stop_limit,
        step_limit: options.step_limit,
        verify: if options.verify {
            Verify::Yes
        } else {
            Verify::No
        },
        stay: if options.more_follow && tracked {
            Stay::Attached
        } else {
            Stay::Detached
        },
        selection,
        threads: std::thread::available_parallelism().map_or(1, NonZero::get),
        give_way: sys::give_way,
        ..engine::Options::default()
    }
}

fn space_error(pid: u32, step: &'static str, source: Errno) -> Error {
    Error::Snapshot {
        pid,
        source: SnapshotError::Space { step, source },
    }
}

/// Says why in the words of who knows best.
fn explain(target: &Target, error: SnapshotError<WriteError>) -> Error {
    let pid = target.pid();
    match (&error, target.stop_error(), target.inject_error()) {
        (SnapshotError::StopTimeout { .. } | SnapshotError::Stop(_), Some(stop), _) => {
            Error::Stop {
                pid,
                source: stop.clone(),
            }
        }
        // What takes the time is not the process's size.
        (SnapshotError::MaxFreeze { .. }, Some(stop), _) if stop.is_uninterruptible() => {
            Error::Stop {
                pid,
                source: stop.clone(),
            }
        }
        (SnapshotError::Fork(_), _, Some(inject)) => Error::Fork {
            pid,
            source: *inject,
        },
        (SnapshotError::Gone, _, _) if !target.is_alive() => Error::Ended(pid),
        _ => Error::Snapshot { pid, source: error },
    }
}

fn found(listener: &mut Listener<'_>, taken: &Taken, is_layer: bool) -> Vec<Doubt> {
    // Without a round or a snapshot before, all was copied or duplicated while the tasks stood
    // still.
    listener.tracked = is_layer || !taken.rounds.is_empty();
    let kept = taken.parts.iter().map(|part| part.range).collect();
    let mut doubts = listener.found_within(&kept);
    doubts.extend(taken.doubts.iter().map(|doubt| Doubt {
        ranges: doubt.ranges.clone(),
        reason: doubt.reason.to_owned(),
    }));
    let verified = taken.verified.as_ref();
    if let Some(verified) = verified.filter(|verified| !verified.differences.is_empty()) {
        doubts.push(Doubt {
            ranges: verified.differences.ranges().to_vec(),
            reason: "compared while it stood still, the process had other content in these pages \
                     than the snapshot; unless a device or another process writes there, that is \
                     a defect of Onionskin"
                .into(),
        });
    }
    if !taken.unreadable.is_empty() {
        let reason = "these pages have content that could not be read, and are missing".into();
        doubts.push(Doubt {
            ranges: taken.unreadable.clone(),
            reason,
        });
    }
    doubts
}

fn report(
    session: &mut Session,
    options: &SnapshotOptions,
    state: &ProcessState,
    taken: &Taken,
    stats: &WriteStats,
    consistency: Consistency,
) -> SnapshotReport {
    let mut stops = session.target.take_stops();
    stops.extend(taken.stops.iter().cloned());
    let mut warnings = taken.warnings.clone();
    warnings.extend(
        session.untracked.as_ref().map(|error| {
            format!("writes are not tracked, so each snapshot is a whole one: {error}")
        }),
    );
    if session.target.take_waits_remembered() {
        warnings.push(
            "waits of the process can't carry along here since when they wait: they end in time as \
             long as this session lasts, but each further session begins them anew"
                .to_owned(),
        );
    }
    if let Some(late) = session.target.late_registration() {
        warnings.push(format!(
            "some memory could not be registered for tracking, so all of it was copied in the freeze: \
             {late}"
        ));
    }
    if let Some(late) = session.target.take_late_call() {
        warnings.push(late_call(late));
    }
    if let Some(tid) = session.target.take_risked_wait() {
        warnings.push(format!(
            "thread {tid} was made to call the kernel although it waits in a call with a time of its \
             own, since no other thread could: had Onionskin been killed just then, that call would \
             have ended with EINTR"
        ));
    }
    SnapshotReport {
        snapshot: String::new(),
        parent: None,
        name: options.name.clone(),
        pid: state.pid,
        program: state.executable.clone(),
        created: Timestamp::default(),
        strategy: strategy(taken.strategy),
        rounds: u32::try_from(taken.rounds.len()).unwrap_or(u32::MAX),
        freeze_ms: millis(taken.freeze.total),
        freeze: FreezeParts {
            stop: millis(taken.freeze.stop),
            scan: millis(taken.freeze.scan),
            copy: millis(taken.freeze.copy),
            registers: millis(taken.freeze.registers),
        },
        stops: stops.iter().map(other_stop).collect(),
        page_size: session.target.page_size().bytes(),
        pages_total: taken.pages_total.0,
        pages_copied_frozen: taken.pages_copied_frozen.0,
        bytes_read: taken.bytes_read.0,
        bytes_stored: stats.bytes_stored,
        duration_ms: 0.0,
        verify: taken.verified.as_ref().map(|verified| Verification {
            ms: millis(verified.duration),
            pages: verified.pages.0,
            differing_pages: verified.differences.len().0 / session.target.page_size().bytes(),
        }),
        consistency,
        warnings,
    }
}

fn meta(
    session: &Session,
    process: ProcessState,
    mut taken: Taken,
    report: &SnapshotReport,
    created_ns: u64,
) -> SnapshotMeta {
    session.target.describe(&mut taken.tasks);
    let mut mappings: Vec<SavedMapping> = taken
        .mappings
        .into_iter()
        .map(|mapping| SavedMapping {
            mapping,
            class: "none".into(),
            selected: None,
        })
        .collect();
    for part in &taken.parts {
        let Some(saved) = mappings.get_mut(part.mapping) else {
            continue;
        };
        saved.class = class(part.class).into();
        let end = part.range.end();
        let start = saved
            .selected
            .map_or(part.range.start(), |selected| selected.start());
        saved.selected = space::PageRange::new(start, end);
    }
    SnapshotMeta {
        created_ns,
        page_size: session.target.page_size(),
        machine: std::env::consts::ARCH.into(),
        process,
        tasks: taken.tasks,
        mappings,
        consistency: json(&report.consistency),
        report: json(report),
    }
}

fn json<T: serde::Serialize>(value: &T) -> serde_json::Value {
    serde_json::to_value(value).expect("plain values have a JSON form")
}

fn class(class: engine::Class) -> &'static str {
    match class {
        engine::Class::Private => "private",
        engine::Class::PrivateFile => "private-file",
        engine::Class::Volatile => "volatile",
        engine::Class::Foreign => "foreign",
    }
}

pub(crate) fn strategy(strategy: Strategy) -> crate::report::Strategy {
    match strategy {
        Strategy::Auto | Strategy::Precopy => crate::report::Strategy::Precopy,
        Strategy::Fork => crate::report::Strategy::Fork,
        Strategy::Freeze => crate::report::Strategy::Freeze,
    }
}

fn other_stop(stop: &StopLength) -> OtherStop {
    OtherStop {
        why: stop.why.clone(),
        ms: millis(stop.length),
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
