//! A first snapshot, beside the bare pipeline over the same bytes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use onionskin::{Session, SessionOptions, Silent, SnapshotOptions};

use super::command::scratch;
use super::heartbeat::{Heartbeat, Load};
use super::options::Options;
use super::pipeline;
use super::report::Section;
use super::stats::{Values, millis};
use super::stored::Stored;

/// What was measured with files in one place.
#[derive(Default)]
struct Place {
    writing: Values,
    writing_by_bare: Values,
    taken: Values,
    by_bare: Values,
    by_writing: Values,
}

/// Measures it.
pub(crate) fn measure(options: &Options) -> Result<Section> {
    let load = Load {
        mib: options.pick(2048, 256),
        hot_percent: 0.0,
        work: 200,
    };
    let heartbeat = Heartbeat::start(load)?;
    // The heap is what is measured: the heartbeat's threads would take the cores.
    super::command::signal(heartbeat.pid(), rustix::process::Signal::STOP)?;
    let memory = heartbeat.memory()?;
    let shared = Path::new("/dev/shm");
    let mut all_bare = Values::default();
    let places = [("on tmpfs", shared), ("on the disk", scratch())];
    let mut at = [Place::default(), Place::default()];
    for _ in 0..options.pick(5, 2) {
        let mut last = pipeline::run(heartbeat.pid(), memory, None)?;
        for ((name, folder), at) in places.iter().zip(&mut at) {
            if !folder.is_dir() {
                continue;
            }
            let writing = pipeline::run(heartbeat.pid(), memory, Some(folder))?;
            let time = snapshot(&heartbeat, folder)?;
            let after = pipeline::run(heartbeat.pid(), memory, None)?;
            eprintln!(
                "  bare {last:.2?} and {after:.2?}, {name} writing {writing:.2?}, {time:.2?}"
            );
            let bare = f64::midpoint(millis(last), millis(after));
            at.writing.push_time(writing);
            at.writing_by_bare.push(millis(writing) / bare);
            at.taken.push_time(time);
            at.by_bare.push(millis(time) / bare);
            at.by_writing.push(millis(time) / millis(writing));
            all_bare.push_time(last);
            last = after;
        }
    }
    super::command::signal(heartbeat.pid(), rustix::process::Signal::CONT)?;
    let mut section = Section::new("A first snapshot, beside a bare pipeline");
    section.say(&format!(
        "Heap: {} MiB, the first half of each page SplitMix64 of its number, the second half one \
         letter; nobody writes. The bare pipeline has a thread a core; each reads 1 MiB at a time, \
         hashes every 16 pages with BLAKE3 and compresses them with zstd at level 1, and drops what \
         comes out; the writing one also writes that to a file for each thread and syncs it, which \
         is the least that keeping it takes. Our time is from before attaching until the snapshot is \
         safe in the store, `fsync` included. Asked for: within 1.25 × of the bare pipeline.",
        load.mib
    ));
    let mut rows = vec![vec![
        "bare pipeline".to_owned(),
        all_bare.spread(0),
        String::new(),
        String::new(),
    ]];
    for ((name, _), at) in places.iter().zip(&at) {
        rows.push(vec![
            format!("bare pipeline, writing {name}"),
            at.writing.spread(0),
            at.writing_by_bare.spread(2),
            String::new(),
        ]);
        rows.push(vec![
            format!("snapshot, store {name}"),
            at.taken.spread(0),
            at.by_bare.spread(2),
            at.by_writing.spread(2),
        ]);
    }
    section.table(&["what", "ms", "÷ bare", "÷ bare, writing"], &rows);
    for ((name, _), at) in places.iter().zip(&at) {
        let what = format!("snapshot {name} ÷ bare pipeline");
        section.at_most(&what, 1.25, at.by_bare.median());
    }
    for ((name, _), at) in places.iter().zip(&at) {
        section.bounded_by(format!(
            "{name}, a pipeline that also writes and syncs what it compressed, and keeps nothing \
             else, takes {:.2} × the bare one; a snapshot takes {:.2} × that.",
            at.writing_by_bare.median(),
            at.by_writing.median()
        ));
    }
    Ok(section)
}

fn snapshot(heartbeat: &Heartbeat, folder: &Path) -> Result<Duration> {
    let stored = Stored::within(folder)?;
    let began = Instant::now();
    let mut session = Session::attach(heartbeat.pid(), SessionOptions::default())?;
    session.snapshot(&stored.store, &SnapshotOptions::default(), &mut Silent)?;
    Ok(began.elapsed())
}
