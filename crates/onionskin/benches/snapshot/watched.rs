//! The target's throughput while it is watched.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use onionskin::Watch;

use super::heartbeat::{Heartbeat, Load};
use super::machine::cost;
use super::options::Options;
use super::report::Section;
use super::stats::{Values, float64};

/// Measures it.
pub(crate) fn measure(options: &Options) -> Result<Section> {
    let load = Load {
        mib: options.pick(2048, 256),
        hot_percent: 1.0,
        work: 200,
    };
    let heartbeat = Heartbeat::start(load)?;
    let seconds = options.pick(5, 2);
    let mut ratio = Values::default();
    let (mut faults, mut busy) = (Values::default(), Values::default());
    let mut alone = heartbeat.rate(Duration::from_secs(seconds))?;
    for _ in 0..options.pick(11, 2) {
        let cost = || {
            let both = (cost(heartbeat.pid()), cost(std::process::id()));
            both.0.zip(both.1).context("what watching costs")
        };
        let (target, own) = cost()?;
        let with = watched(&heartbeat, seconds)?;
        let (target_after, own_after) = cost()?;
        let looks = float64(seconds + 1);
        faults.push((target_after.0 - target.0) / looks);
        busy.push((own_after.1 - own.1) / looks);
        let after = heartbeat.rate(Duration::from_secs(seconds))?;
        // Beside what it did before and after: whoever else uses the machine comes and goes.
        ratio.push(with / f64::midpoint(alone, after) * 100.0);
        eprintln!("  watched {with:.0}, alone {alone:.0} and {after:.0} beats/s");
        alone = after;
    }
    let mut section = Section::new("The target's throughput while it is watched");
    section.say(&format!(
        "Target: {} MiB, {} % of its pages hot, CPU-bound on every core. Periods of {seconds} s \
         with `Watch` looking each second, in turns with periods without; each beside the mean of \
         the two around it. Asked for: at least 97 % of alone.",
        load.mib, load.hot_percent
    ));
    section.table(
        &[
            "periods",
            "beats watched, % of alone",
            "faults of the target a look",
            "the tool's processor time a look, ms",
        ],
        &[vec![
            options.pick(11, 2).to_string(),
            ratio.spread(1),
            faults.spread(0),
            busy.spread(0),
        ]],
    );
    section.at_least("beats watched, % of alone", 97.0, ratio.median());
    section.bounded_by(
        "each look protects the hot pages anew, and the next write to each takes a fault; the \
         tool's own time, attaching with it, is taken from a target that has a thread on every \
         core. Single periods spread by more than the three percent that are asked about, with \
         and without the tool.",
    );
    Ok(section)
}

fn watched(heartbeat: &Heartbeat, seconds: u64) -> Result<f64> {
    let mut watch = Watch::attach(heartbeat.pid())?;
    watch.interval()?;
    let (before, began) = (heartbeat.beats()?, Instant::now());
    for second in 1..=seconds {
        let at = began + Duration::from_secs(second);
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        watch.interval()?;
    }
    Ok(float64(heartbeat.beats()? - before) / began.elapsed().as_secs_f64())
}
