//! `onionskin demo`: the main job, on a program of our own.

mod check;
mod child;
mod place;
pub(crate) mod workload;

use std::env;
use std::io::{IsTerminal, Write, stderr};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use onionskin::report::SnapshotReport;
use onionskin::store::{Access, Store};
use onionskin::{Session, SessionOptions, SnapshotOptions, doctor, export};
use serde::Serialize;

use crate::args::Demo;
use crate::doctor::{any_strategy, print_strategies};
use crate::out::{BOLD, DIM, GOOD, Out, paint};
use crate::outcome::Outcome;
use crate::snapshot::progress::Progress;
use crate::snapshot::summary::{print_line, quoted, short};
use crate::units::{bytes, count, millis};
use crate::watch::lines;
use child::Workload;
use place::Place;

/// How often the program is looked at.
const LOOKS: u32 = 3;
const LOOK: Duration = Duration::from_secs(1);

/// What was shown, as JSON.
#[derive(Debug, Serialize)]
struct Shown {
    pid: u32,
    written_bytes_per_s: Vec<f64>,
    snapshots: Vec<SnapshotReport>,
    /// Amounts that had been moved at the instant of each snapshot.
    moved: Vec<u64>,
    sum_holds: bool,
    verified: bool,
    core: String,
    gdb: Option<Gdb>,
    moved_in_all: u64,
    bytes_on_disk: u64,
}

/// What gdb found in the core.
#[derive(Debug, Serialize)]
struct Gdb {
    threads: usize,
    agrees: bool,
}

/// Shows everything once. It counts as found if any check fails.
///
/// # Errors
///
/// Those of each part.
pub(crate) fn run(args: &Demo, out: &mut Out) -> Result<Outcome> {
    let place = Place::take(&args.dir)?;
    let mut demo = Tour { out, step: 0 };
    demo.doctor()?;
    let workload = demo.start(args.memory)?;
    let written_bytes_per_s = demo.watch(&workload)?;
    let (store, snapshots) = demo.snapshots(&workload, &place)?;
    let (moved, sum_holds, verified) = demo.check(&store, &snapshots, &workload)?;
    let gdb = demo.core(&store, &snapshots, &workload, &place)?;
    let pid = workload.pid();
    let total = workload.hello.total;
    let goodbye = workload.end()?;
    let shown = Shown {
        pid,
        written_bytes_per_s,
        snapshots,
        moved,
        sum_holds: sum_holds && goodbye.total == total,
        verified,
        core: place.core().display().to_string(),
        gdb,
        moved_in_all: goodbye.moved,
        bytes_on_disk: place.bytes()?,
    };
    if demo.out.json {
        demo.out.json_line(&shown)?;
    } else {
        demo.conclude(&shown, &place)?;
    }
    let agrees = shown.gdb.as_ref().is_none_or(|gdb| gdb.agrees);
    Ok(Outcome::found_if(!(shown.sum_holds && verified && agrees)))
}

/// The steps, told as they happen unless JSON is wanted.
struct Tour<'a> {
    out: &'a mut Out,
    step: u32,
}

impl Tour<'_> {
    fn heading(&mut self, title: &str) -> Result<()> {
        self.step += 1;
        let step = self.step;
        self.say(&format!(
            "\n{} {}",
            paint(DIM, format_args!("{step}.")),
            paint(BOLD, title)
        ))
    }

    fn say(&mut self, text: &str) -> Result<()> {
        if !self.out.json {
            writeln!(self.out, "{text}")?;
            self.out.flush()?;
        }
        Ok(())
    }

    fn doctor(&mut self) -> Result<()> {
        let doctor = doctor::probe(None);
        self.heading("What this machine can do")?;
        if !self.out.json {
            print_strategies(&doctor, 8, self.out)?;
        }
        ensure!(
            any_strategy(&doctor),
            "no way of taking a snapshot works here: `onionskin doctor` says what to change"
        );
        self.say("  `onionskin doctor` tells more")
    }

    fn start(&mut self, memory: u64) -> Result<Workload> {
        self.heading("A program that never rests")?;
        let workload = Workload::start(memory)?;
        let text = format!(
            "  Process {} moves money between {} accounts in {} with {} threads.\n  \
             The sum of all is always {}: pages of different moments would not add up.",
            workload.pid(),
            count(workload.hello.accounts),
            bytes(workload.hello.len_bytes()),
            workload.hello.threads,
            count(workload.hello.total)
        );
        self.say(&text)?;
        Ok(workload)
    }

    fn watch(&mut self, workload: &Workload) -> Result<Vec<f64>> {
        self.heading("Which memory it writes, and how fast")?;
        let mut watch = onionskin::Watch::attach(workload.pid())?;
        // It begins the first interval.
        watch.interval()?;
        let mut rates = Vec::new();
        for _ in 0..LOOKS {
            thread::sleep(LOOK);
            let interval = watch.interval()?;
            rates.push(interval.written_bytes_per_s);
            if !self.out.json {
                lines::print(&interval, self.out)?;
                self.out.flush()?;
            }
        }
        Ok(rates)
    }

    fn snapshots(
        &mut self,
        workload: &Workload,
        place: &Place,
    ) -> Result<(Store, Vec<SnapshotReport>)> {
        self.heading("Two snapshots while it runs; the second holds only what changed")?;
        let address = place.store().display().to_string();
        let store = Store::open(&address, Access::Create)?;
        let mut session = Session::attach(workload.pid(), SessionOptions::default())?;
        let mut reports = Vec::new();
        for name in ["first", "second"] {
            let options = SnapshotOptions {
                name: Some(name.to_owned()),
                verify: true,
                more_follow: name == "first",
                ..SnapshotOptions::default()
            };
            let mut progress = Progress::new(!self.out.json && stderr().is_terminal(), None);
            let report = session.snapshot(&store, &options, &mut progress);
            progress.finish();
            let report = report?;
            if !self.out.json {
                print_line(&report, self.out)?;
            }
            reports.push(report);
            thread::sleep(LOOK / 2);
        }
        drop(session);
        Ok((store, reports))
    }

    fn check(
        &mut self,
        store: &Store,
        reports: &[SnapshotReport],
        workload: &Workload,
    ) -> Result<(Vec<u64>, bool, bool)> {
        self.heading("Do they hold?")?;
        let total = workload.hello.total;
        let (mut moved, mut sums_hold) = (Vec::new(), true);
        for report in reports {
            let snapshot = store.load(&report.snapshot)?;
            let (sum, moves) = check::sum(&snapshot, &workload.hello)?;
            let verdict = if sum == total {
                paint(GOOD, "the sum holds")
            } else {
                format!("the sum is {}, which is wrong", count(sum))
            };
            sums_hold &= sum == total;
            moved.push(moves);
            let id = short(&report.snapshot);
            self.say(&format!("  {id}  after {} moves: {verdict}", count(moves)))?;
        }
        let report = store.verify(&[], &mut |_| {})?;
        let frozen_agree = reports.iter().all(|report| {
            report
                .verify
                .as_ref()
                .is_some_and(|v| v.differing_pages == 0)
        });
        let verified = report.is_clean() && frozen_agree;
        self.say(if verified {
            "  every page equals what the frozen program held, every hash in the store is right"
        } else {
            "  pages differ from what the frozen program held, or the store is damaged"
        })?;
        Ok((moved, sums_hold, verified))
    }

    fn core(
        &mut self,
        store: &Store,
        reports: &[SnapshotReport],
        workload: &Workload,
        place: &Place,
    ) -> Result<Option<Gdb>> {
        self.heading("A core that gdb opens")?;
        let last = reports.last().context("two snapshots were taken")?;
        let snapshot = store.load(&last.snapshot)?;
        let core = place.core();
        export::core(&snapshot, &core, &mut |_| {})?;
        self.say(&format!("  {}", core.display()))?;
        let program = env::current_exe()?;
        let Some(found) = check::debug(&program, &core, &workload.hello)? else {
            self.say("  gdb is not installed here")?;
            return Ok(None);
        };
        let threads = usize::try_from(workload.hello.threads).unwrap_or(usize::MAX);
        let agrees =
            found.total == Some(workload.hello.total) && found.threads == threads.saturating_add(1);
        let verdict = if agrees {
            "as it should be"
        } else {
            "which is not what was expected"
        };
        self.say(&format!(
            "  gdb finds {} threads and {} in the program's first word, {verdict}",
            found.threads,
            found.total.map_or_else(|| "nothing".to_owned(), count)
        ))?;
        Ok(Some(Gdb {
            threads: found.threads,
            agrees,
        }))
    }

    fn conclude(&mut self, shown: &Shown, place: &Place) -> Result<()> {
        let freezes: Vec<String> = shown
            .snapshots
            .iter()
            .map(|r| millis(r.freeze_ms))
            .collect();
        let dir = quoted(&place.dir().display().to_string());
        let store = quoted(&place.store().display().to_string());
        let program = shown
            .snapshots
            .first()
            .map_or("", |report| report.program.as_str());
        self.say(&format!(
            "\n{}\n  The program was stopped for {}, moved {} amounts in all and has ended well.\n  \
             {} are in {dir}, which can be deleted.",
            paint(BOLD, "That is all."),
            freezes.join(" and "),
            count(shown.moved_in_all),
            bytes(shown.bytes_on_disk),
        ))?;
        self.say(&format!(
            "\n{}\n  onionskin snapshots diff first second --store {store}\n  gdb {} {}\n  \
             onionskin watch PID --html watch.html\n  onionskin snapshot PID --store DIR",
            paint(BOLD, "Try next:"),
            quoted(program),
            quoted(&shown.core)
        ))
    }
}
