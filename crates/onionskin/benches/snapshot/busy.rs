//! `auto` at any write rate: never much longer than a fork.

use anyhow::Result;

use super::heartbeat::{Heartbeat, Load};
use super::options::Options;
use super::report::Section;
use super::stats::Values;
use super::stored::{Costs, Series};

/// Measures it.
pub(crate) fn measure(options: &Options) -> Result<Section> {
    let mib = options.pick(2048, 256);
    let (mut rows, mut medians, mut longest) = (Vec::new(), Values::default(), 0.0_f64);
    for &hot_percent in options.pick([5.0, 20.0, 60.0, 100.0].as_slice(), &[5.0, 100.0]) {
        eprintln!(" {hot_percent} % hot");
        let mut heartbeat = Heartbeat::start(Load {
            mib,
            hot_percent,
            work: 20,
        })?;
        let (mut ours, mut fork) = (Costs::default(), Values::default());
        for _ in 0..options.pick(2, 1) {
            let mut series = Series::begin(&heartbeat)?;
            for _ in 0..options.pick(2, 2) {
                series.layer(&heartbeat)?;
            }
            ours.join(&series.first);
            ours.join(&series.layers);
            drop(series);
            for _ in 0..options.pick(5, 3) {
                fork.push_time(heartbeat.fork()?);
            }
        }
        eprintln!("  fork {} ms", fork.spread(1));
        let limit = 1.2 * fork.median() + 5.0;
        medians.push(ours.freeze.median() / limit);
        longest = longest.max(ours.freeze.max() / limit);
        rows.push(vec![
            format!("{hot_percent:.0} %"),
            ours.strategies.join(", "),
            ours.freeze.spread(1),
            format!(
                "{:.1}, {:.1}, {:.1}",
                ours.stop.median(),
                ours.scan.median(),
                ours.copy.median()
            ),
            fork.spread(1),
            format!("{limit:.1}"),
            format!("{:.2}", ours.freeze.median() / limit),
            format!("{:.2}", ours.freeze.max() / limit),
        ]);
    }
    let mut section = Section::new("The freeze of auto, at any write rate");
    section.say(&format!(
        "Target: {mib} MiB of private 4 KiB pages, a share of them written at full speed. First \
         snapshots and layers together. Asked for: never longer than 1.2 × a `fork()` of the same \
         process plus 5 ms."
    ));
    section.table(
        &[
            "pages written",
            "chosen",
            "freeze, ms",
            "of which stop, scan, copy or fork",
            "`fork()`, ms",
            "limit, ms",
            "median ÷ limit",
            "longest ÷ limit",
        ],
        &rows,
    );
    section.at_most("the slowest rate's freeze ÷ its limit", 1.0, medians.max());
    section.at_most("the longest single freeze ÷ its limit", 1.0, longest);
    section.bounded_by(
        "where most is written, the freeze is a `fork()` that the target makes itself, after \
         stopping and a scan (the parts are in the table). A single one may take longer than 1.2 × \
         the median of others, as the spread of the bare `fork()` shows.",
    );
    Ok(section)
}
