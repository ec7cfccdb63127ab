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
    let (mut rows, mut freezes, mut scans) = (Vec::new(), Vec::new(), Vec::new());
    let mut add = |mib: u64, hot_mib: f64, why: &str| -> Result<()> {
        let (row, freeze, scan) = row(options, mib, hot_mib, why)?;
        rows.push(row);
        freezes.push(freeze);
        scans.push(scan);
        Ok(())
    };
    for gib in options.pick([1, 4, 12].as_slice(), &[1]) {
        add(gib << 10, HOT_MIB, "same pages")?;
    }
    for times in options.pick([4.0, 16.0].as_slice(), &[]) {
        add(4096, HOT_MIB * times, "more pages")?;
    }
    let mut section = Section::new("The freeze, by size and by pages written");
    section.say(
        "The same number of pages written in targets of 1, 4 and 12 GiB, then 4 and 16 times as \
         many in one of 4 GiB; layers by `auto`. Asked for: the freeze grows with the pages \
         written, not with the target's size.",
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
    if let [small, middle, large, more, ..] = freezes[..] {
        let (by_size, by_pages) = ((large - small) / 11.0, (more - middle) / (3.0 * HOT_MIB));
        section.bounded_by(format!(
            "a GiB more of memory makes the freeze {by_size:.2} ms longer, as much as {:.1} MiB more \
             of written pages. Of that the scan, which walks the page tables of all that is \
             resident, has {:.2} ms.",
            by_size / by_pages,
            (scans[2] - scans[0]) / 11.0
        ));
    }
    Ok(section)
}

/// A row, and its freeze and scan in milliseconds.
fn row(options: &Options, mib: u64, hot_mib: f64, why: &str) -> Result<(Vec<String>, f64, f64)> {
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
    let row = vec![
        (mib >> 10).to_string(),
        format!("{hot_mib:.0}"),
        costs.freeze.spread(2),
        format!("{:.2}", costs.stop.median()),
        format!("{:.2}", costs.scan.median()),
        format!("{:.2}", costs.copy.median()),
        format!("{:.1}", costs.frozen_mib.median()),
        costs.strategies.join(", "),
        format!("{:.1}", fork.median()),
    ];
    Ok((row, costs.freeze.median(), costs.scan.median()))
}
