//! How the freeze grows: with the pages written, or with the target.

use anyhow::Result;

use super::heartbeat::{Heartbeat, Load};
use super::options::Options;
use super::report::Section;
use super::stats::{Values, float64};
use super::stored::Series;

/// MiB that are hot whatever the size: 1 % of 2 GiB.
const HOT_MIB: f64 = 20.48;

/// Measures it.
pub(crate) fn measure(options: &Options) -> Result<Section> {
    let mut rows = Vec::new();
    for gib in options.pick([1, 4, 12].as_slice(), &[1]) {
        let mib = gib << 10;
        rows.push(row(options, mib, HOT_MIB, "same pages")?);
    }
    for times in options.pick([4.0, 16.0].as_slice(), &[]) {
        rows.push(row(options, 4096, HOT_MIB * times, "more pages")?);
    }
    let mut section = Section::new("The freeze, by size and by pages written");
    section.say(
        "The same number of pages written in targets of 1, 4 and 12 GiB, then 4 and 16 times as \
         many in one of 4 GiB; layers by `auto`. Asked for: the freeze grows with the pages \
         written, not with the target's size. What grows with the size is the scan, which walks \
         the page tables of everything that is resident.",
    );
    section.table(
        &[
            "target, GiB",
            "hot, MiB",
            "freeze, ms",
            "stop, ms",
            "scan, ms",
            "copy or fork, ms",
            "MiB copied",
            "strategy",
            "`fork()`, ms",
        ],
        &rows,
    );
    Ok(section)
}

fn row(options: &Options, mib: u64, hot_mib: f64, why: &str) -> Result<Vec<String>> {
    let hot_percent = hot_mib / float64(mib) * 100.0;
    eprintln!(" {mib} MiB, {hot_percent} % hot ({why})");
    let mut heartbeat = Heartbeat::start(Load {
        mib,
        hot_percent,
        work: 200,
    })?;
    let mut series = Series::begin(&heartbeat)?;
    for _ in 0..options.pick(9, 2) {
        std::thread::sleep(std::time::Duration::from_millis(300));
        series.layer(&heartbeat)?;
    }
    let costs = series.layers.clone();
    drop(series);
    let mut fork = Values::default();
    for _ in 0..options.pick(5, 2) {
        fork.push_time(heartbeat.fork()?);
    }
    Ok(vec![
        (mib >> 10).to_string(),
        format!("{hot_mib:.0}"),
        costs.freeze.spread(2),
        format!("{:.2}", costs.stop.median()),
        format!("{:.2}", costs.scan.median()),
        format!("{:.2}", costs.copy.median()),
        format!("{:.1}", costs.frozen_mib.median()),
        costs.strategies.join(", "),
        format!("{:.1}", fork.median()),
    ])
}
