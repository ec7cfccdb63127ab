//! The latency of redis-server while its memory is saved in several ways.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::command::{gcore, run, scratch};
use super::options::Options;
use super::probe::{self, Answers};
use super::redis_load::{self, Latencies};
use super::redis_picture::{Panel, draw};
use super::redis_server::Server;
use super::report::Section;
use super::stats::{Values, float, float64, millis};

const VALUE_BYTES: u64 = 1000;

/// How the memory is saved while the latency is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Nothing,
    Snapshot,
    Every,
    Save,
    Gcore,
}

const WAYS: [Way; 5] = [
    Way::Nothing,
    Way::Snapshot,
    Way::Every,
    Way::Save,
    Way::Gcore,
];

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Snapshot => "onionskin snapshot",
            Self::Every => "onionskin snapshot --every 2s",
            Self::Save => "BGSAVE",
            Self::Gcore => "gcore",
        }
    }
}

/// What one turn of a way showed.
struct Turn {
    load: Latencies,
    /// Answers to the probe that were due while it went on.
    probe: Answers,
    took: Duration,
}

/// What all turns of a way showed.
#[derive(Default)]
struct Seen {
    tail: Values,
    longest: Values,
    probe_tail: Values,
    probe_longest: Values,
    rate: Values,
    took: Values,
}

/// Measures it.
pub(crate) fn measure(options: &Options) -> Result<Section> {
    let keys = options.pick(1_000_000, 100_000);
    let server = Server::start(keys, VALUE_BYTES)?;
    // Every value is written by the load once before it is looked at.
    let _ = turn(options, &server, keys, Way::Nothing)?;
    let mut seen: Vec<Seen> = WAYS.iter().map(|_| Seen::default()).collect();
    let mut panels = Vec::new();
    for round in 0..options.pick(3, 1) {
        for (way, seen) in WAYS.into_iter().zip(&mut seen) {
            let turn = turn(options, &server, keys, way)?;
            seen.add(&turn);
            eprintln!(
                "  {}: {:.1?}, p99.9 {:.2} ms, longest {:.1} ms; probe p99.9 {:.2} ms",
                way.name(),
                turn.took,
                turn.load.quantile(0.999),
                turn.load.max(),
                seen.probe_tail.max()
            );
            if round == 0 {
                panels.push(Panel {
                    name: way.name(),
                    answers: turn.probe,
                });
            }
        }
    }
    Ok(section(options, &server, keys, &seen, &panels))
}

fn section(
    options: &Options,
    server: &Server,
    keys: u64,
    seen: &[Seen],
    panels: &[Panel],
) -> Section {
    let mut section = Section::new("redis-server under load");
    section.say(&format!(
        "redis-server with {keys} keys of {VALUE_BYTES} bytes ({} MiB resident), under \
         `redis-benchmark -t set -r {keys} -d {VALUE_BYTES}` with its 50 clients, which writes all \
         over the heap as fast as the server takes it. Each way in turn, {} times; only what \
         happened from the start of it to its end is counted. On two cores the server and the load \
         take both, so whatever saves the memory also takes CPU from them.",
        server.resident_mib(),
        options.pick(3, 1)
    ));
    section.say(
        "redis-benchmark's clients wait for each answer, so a stop, however long, delays 50 \
         requests only, and it counts no latency beyond 3 s. Therefore another client asks once a \
         millisecond whatever comes back, and its latency counts from when the question was due.",
    );
    let rows: Vec<_> = WAYS
        .iter()
        .zip(seen)
        .map(|(way, seen)| {
            vec![
                way.name().to_owned(),
                seen.tail.spread(2),
                seen.longest.spread(1),
                seen.probe_tail.spread(2),
                seen.probe_longest.spread(1),
                format!("{:.0}", seen.rate.median()),
                format!("{:.1}", seen.took.median()),
            ]
        })
        .collect();
    section.table(
        &[
            "meanwhile",
            "redis-benchmark p99.9, ms",
            "its longest, ms",
            "probe p99.9, ms",
            "its longest, ms",
            "requests/s",
            "took, s",
        ],
        &rows,
    );
    section.picture(
        "redis.svg",
        "The probe's latency over time, while nothing, a snapshot, snapshots every 2 s, BGSAVE and \
         gcore went on",
        draw(panels),
    );
    section.bounded_by(
        "on two cores redis-server, its load and the tool compete. BGSAVE takes one thread of \
         them; the tool also reads the memory again for what was written meanwhile, hashes it \
         and compresses it.",
    );
    section
}

impl Seen {
    fn add(&mut self, turn: &Turn) {
        self.tail.push(turn.load.quantile(0.999));
        self.longest.push(turn.load.max());
        let mut late = Values::default();
        turn.probe
            .iter()
            .for_each(|(_, latency)| late.push_time(*latency));
        self.probe_tail.push(late.quantile(0.999));
        self.probe_longest.push(late.max());
        self.rate
            .push(float64(turn.load.count()) / turn.took.as_secs_f64());
        self.took.push(millis(turn.took) / 1e3);
    }
}

/// Has the load and the probe run, and the memory saved in one way.
fn turn(options: &Options, server: &Server, keys: u64, way: Way) -> Result<Turn> {
    let (stop_load, stop_probe) = (AtomicBool::new(false), AtomicBool::new(false));
    let (stop_load, stop_probe) = (&stop_load, &stop_probe);
    let socket = server.socket();
    let stream = server.connect()?;
    let began = Instant::now();
    std::thread::scope(|scope| {
        let load = scope.spawn(move || redis_load::run(&socket, keys, VALUE_BYTES, stop_load));
        let probe = scope.spawn(move || probe::ask(stream, began, stop_probe));
        let from = began.elapsed();
        let saved = save(options, server, way);
        stop_load.store(true, Ordering::Relaxed);
        let load = load.join();
        let to = began.elapsed();
        stop_probe.store(true, Ordering::Relaxed);
        let mut probe = probe::join(probe)?;
        saved?;
        let load = load.map_err(|_| anyhow::anyhow!("the load panicked"))??;
        probe.retain(|(due, _)| (from..=to).contains(due));
        anyhow::ensure!(float(probe.len()) > 0.0, "the probe got no answer");
        Ok(Turn {
            load,
            probe,
            took: to - from,
        })
    })
}

fn save(options: &Options, server: &Server, way: Way) -> Result<()> {
    match way {
        Way::Nothing => sleep(Duration::from_secs(options.pick(6, 1))),
        Way::Save => server.save()?,
        Way::Gcore => {
            gcore(server.pid())?;
        }
        Way::Snapshot | Way::Every => {
            let store = tempfile::tempdir_in(scratch())?;
            let mut command = Command::new(options.tool()?);
            command
                .args(["snapshot", &server.pid().to_string(), "--json", "--store"])
                .arg(store.path().join("store"))
                .stdout(Stdio::null());
            if way == Way::Every {
                command.args(["--every", "2s", "--count", options.pick("5", "2")]);
            }
            run(&mut command)?;
        }
    }
    Ok(())
}
