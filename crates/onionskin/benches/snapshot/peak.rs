//! The memory that the command itself needs.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onionskin::report::SnapshotReport;

use super::command::scratch;
use super::heartbeat::{Heartbeat, Load};
use super::machine::field;
use super::options::Options;
use super::report::Section;
use super::stats::{Values, float64, mib};

/// What it may need whatever the target, in MiB, and for each resident page, in bytes.
const FIXED_MIB: f64 = 96.0;
const PER_PAGE: u64 = 64;

/// Measures it.
pub(crate) fn measure(options: &Options) -> Result<Section> {
    let size = options.pick(2048, 256);
    let (mut rows, mut all) = (Vec::new(), Values::default());
    for hot_percent in [1.0, 20.0, 100.0] {
        let heartbeat = Heartbeat::start(Load {
            mib: size,
            hot_percent,
            work: 200,
        })?;
        let (mut peaks, mut limits, mut ratios) =
            (Values::default(), Values::default(), Values::default());
        let mut strategies = Vec::new();
        for _ in 0..options.pick(3, 1) {
            let (report, peak) = run(options, heartbeat.pid())?;
            let limit = FIXED_MIB
                + mib(report.pages_total * PER_PAGE)
                + mib(report.pages_copied_frozen * report.page_size);
            eprintln!("  {hot_percent} %: peak {peak:.0} MiB, limit {limit:.0} MiB");
            peaks.push(peak);
            limits.push(limit);
            ratios.push(peak / limit);
            strategies.push(report.strategy.name());
        }
        strategies.sort_unstable();
        strategies.dedup();
        rows.push(vec![
            format!("{hot_percent:.0} %"),
            strategies.join(", "),
            peaks.spread(0),
            limits.spread(0),
            ratios.spread(2),
        ]);
        all.push(ratios.median());
    }
    let mut section = Section::new("Memory of the tool");
    section.say(&format!(
        "`onionskin snapshot` as a process, on a target of {size} MiB; its `VmHWM`, read every \
         few milliseconds until it ends. Asked for: under 96 MiB plus 64 bytes a resident page plus \
         the pages copied while frozen."
    ));
    section.table(
        &[
            "pages hot",
            "strategy",
            "peak, MiB",
            "limit, MiB",
            "peak ÷ limit",
        ],
        &rows,
    );
    section.at_most("the highest peak ÷ its limit", 1.0, all.max());
    section.bounded_by(
        "what is read while the target runs waits to be compressed and written, and the limit has no \
         more for that than its fixed part.",
    );
    Ok(section)
}

fn run(options: &Options, pid: u32) -> Result<(SnapshotReport, f64)> {
    let store = tempfile::tempdir_in(scratch())?;
    let json = tempfile::NamedTempFile::new_in(scratch())?;
    let mut child = Command::new(options.tool()?)
        .args(["snapshot", &pid.to_string(), "--json", "--store"])
        .arg(store.path().join("store"))
        .stdin(Stdio::null())
        .stdout(json.reopen()?)
        .spawn()?;
    let path = format!("/proc/{}/status", child.id());
    let mut peak = 0.0;
    let status = loop {
        let kib = field(&path, "VmHWM")
            .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
        peak = kib.map_or(peak, |kib| float64(kib) / 1024.0);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(3));
    };
    ensure!(status.success(), "onionskin snapshot ended with {status}");
    let text = std::fs::read_to_string(json.path())?;
    let report = serde_json::from_str(&text).context("the report of onionskin snapshot")?;
    Ok((report, peak))
}
