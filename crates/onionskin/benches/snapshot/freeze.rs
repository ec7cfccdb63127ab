//! The freeze of a 2 GiB target, beside its own `fork()` and `gcore`.

use anyhow::Result;

use super::command::gcore;
use super::heartbeat::{Heartbeat, Load};
use super::options::Options;
use super::report::Section;
use super::stats::Values;
use super::stored::{Costs, Series};

/// Measures it.
pub(crate) fn measure(options: &Options) -> Result<Section> {
    let load = Load {
        mib: options.pick(2048, 256),
        hot_percent: 1.0,
        work: 200,
    };
    let mut heartbeat = Heartbeat::start(load)?;
    let (mut whole, mut layers, mut fork) = (Costs::default(), Costs::default(), Values::default());
    for _ in 0..options.pick(3, 1) {
        let mut series = Series::begin(&heartbeat)?;
        for _ in 0..options.pick(7, 3) {
            // Time to write every hot page, as between snapshots of a service.
            std::thread::sleep(std::time::Duration::from_millis(300));
            series.layer(&heartbeat)?;
        }
        whole.join(&series.first);
        layers.join(&series.layers);
        drop(series);
        for _ in 0..options.pick(7, 3) {
            fork.push_time(heartbeat.fork()?);
        }
    }
    let mut core = Values::default();
    for _ in 0..options.pick(2, 1) {
        heartbeat.forget_gaps()?;
        gcore(heartbeat.pid())?;
        core.push_time(heartbeat.gaps()?.0);
    }
    Ok(section(load, &whole, &layers, &fork, &core))
}

fn section(load: Load, whole: &Costs, layers: &Costs, fork: &Values, core: &Values) -> Section {
    let mut section = Section::new("The freeze, beside fork() and gcore");
    section.say(&format!(
        "Target: {} MiB, of which its threads write {} % of the pages, all the time. Asked for: \
         freeze at least 1,000 times shorter than gcore's stop, and at most a fifth of a `fork()` \
         of the same process; `freeze_ms` agrees with the largest gap in the heartbeat.",
        load.mib, load.hot_percent
    ));
    let ratios = |costs: &Costs| {
        vec![
            format!("{:.0}", core.median() / costs.freeze.median()),
            format!("{:.3}", costs.freeze.median() / fork.median()),
        ]
    };
    let row = |name: &str, costs: &Costs| {
        let mut row = vec![
            name.to_owned(),
            costs.freeze.spread(2),
            format!(
                "{:.2}, {:.2}, {:.2}",
                costs.stop.median(),
                costs.scan.median(),
                costs.copy.median()
            ),
            format!("{:.1}", costs.frozen_mib.median()),
            costs.gap.spread(2),
        ];
        row.extend(ratios(costs));
        row
    };
    let other = |name: &str, values: &Values| {
        let mut row = vec![name.to_owned(), values.spread(1)];
        row.extend(vec![String::new(); 5]);
        row
    };
    section.table(
        &[
            "what stops it",
            "stop, ms",
            "of which stop, scan, copy",
            "MiB copied",
            "largest heartbeat gap, ms",
            "gcore ÷ it",
            "it ÷ fork",
        ],
        &[
            row("first snapshot", whole),
            row("each layer after it", layers),
            other("`fork()`, the call itself", fork),
            other("`gcore`, largest gap", core),
        ],
    );
    section.say(&format!(
        "The largest gap of any thread was longer than `freeze_ms` by {} ms.",
        layers.beyond.spread(2)
    ));
    let freeze = layers.freeze.median();
    section.at_least(
        "gcore's stop ÷ a layer's freeze",
        1000.0,
        core.median() / freeze,
    );
    section.at_most("a layer's freeze ÷ fork", 0.2, freeze / fork.median());
    section.at_most(
        "difference of `freeze_ms` and the largest gap ÷ `freeze_ms`, medians",
        0.1,
        layers.beyond.abs().median() / freeze,
    );
    section.bounded_by(format!(
        "the pages written in the last moments are copied while the target stands still: {:.2} \
         of a layer's {freeze:.2} ms. They lie one by one; each costs the kernel a look-up, and \
         both sides cache misses (section `loops`: a bare loop takes longer). gcore stops the \
         target for as long as it writes all its memory to a file on the disk, here {:.0} MiB/s; a \
         thousandth of that time is {:.2} ms. Where the largest gap is the shorter one, the last \
         thread went on before the tool noted that all had.",
        layers.copy.median(),
        f64::from(u32::try_from(load.mib).unwrap_or(u32::MAX)) / core.median() * 1e3,
        core.median() / 1e3,
    ));
    section
}
