//! Scan and copy in the freeze, beside bare loops of the same system calls.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use onionskin::Strategy;
use rustix::process::Signal;
use space::PageFlags;

use super::bare::Bare;
use super::command::signal;
use super::heartbeat::{Heartbeat, Load};
use super::options::Options;
use super::report::Section;
use super::stats::Values;
use super::stored::Series;

/// What the look in the freeze asks of tracked memory.
const REPORT: PageFlags = PageFlags::PRESENT
    .union(PageFlags::SWAPPED)
    .union(PageFlags::ZERO)
    .union(PageFlags::GUARD);

/// Bytes to write so that the caches hold nothing of the target.
const EVICT: usize = 64 << 20;

#[derive(Default)]
struct Turns {
    scan: Values,
    bare_scan: Values,
    written: Values,
    copy: Values,
    bare_copy: Values,
    scan_ratio: Values,
    copy_ratio: Values,
    mib: Values,
    regions: Values,
}

/// Measures it.
pub(crate) fn measure(options: &Options) -> Result<Section> {
    let mib = options.pick(2048, 256);
    let (mut rows, mut all) = (Vec::new(), Vec::new());
    for hot_percent in [1.0, 10.0] {
        let turns = turns(
            options,
            Load {
                mib,
                hot_percent,
                work: 200,
            },
        )?;
        rows.push(vec![
            format!("{hot_percent:.0} % ({:.0} MiB)", turns.mib.median()),
            format!("{:.0}", turns.regions.median()),
            turns.scan.spread(2),
            turns.bare_scan.spread(2),
            turns.scan_ratio.spread(2),
            turns.copy.spread(2),
            turns.bare_copy.spread(2),
            turns.copy_ratio.spread(2),
            format!("{:.2}", turns.written.median()),
        ]);
        all.push((hot_percent, turns));
    }
    let mut section = Section::new("Scan and copy in the freeze, beside bare loops");
    section.say(&format!(
        "Target: {mib} MiB, tracked, and stopped by SIGSTOP after its hot pages were written. Then, \
         in turns and on the very same pages: the bare loops, and a layer by the strategy `freeze`, \
         which looks and copies without a round before. The caches are flushed before each. Asked \
         for: scan within 1.2 × of a loop of the same `PAGEMAP_SCAN` calls, copy within 1.25 × of a \
         `process_vm_readv` loop in one thread. Our scan includes reading the mappings, and \
         everything that is decided from it. The last column is a loop that asks for nothing but \
         written pages and nothing about them, for which the kernel has a shorter way."
    ));
    section.table(
        &[
            "written",
            "regions",
            "our scan, ms",
            "bare scan, ms",
            "ratio",
            "our copy, ms",
            "bare copy, ms",
            "ratio",
            "bare scan, written only, ms",
        ],
        &rows,
    );
    for (hot_percent, turns) in all {
        let what = |part| format!("{part} ÷ bare loop, {hot_percent} % written");
        section.at_most(&what("scan"), 1.2, turns.scan_ratio.median());
        section.at_most(&what("copy"), 1.25, turns.copy_ratio.median());
    }
    Ok(section)
}

fn turns(options: &Options, load: Load) -> Result<Turns> {
    let heartbeat = Heartbeat::start(load)?;
    let mut series = Series::begin_unseen(&heartbeat)?;
    let mut bare = Bare::start(heartbeat.pid(), load.mib, PageFlags::WRITTEN, REPORT)?;
    let mut turns = Turns::default();
    let mut junk = vec![0u8; EVICT];
    for turn in 0..options.pick(11, 3) {
        signal(heartbeat.pid(), Signal::CONT)?;
        sleep(Duration::from_millis(700));
        signal(heartbeat.pid(), Signal::STOP)?;
        sleep(Duration::from_millis(50));
        evict(&mut junk);
        turns.written.push_time(bare.run("written")?.time);
        evict(&mut junk);
        let scan = bare.run("scan")?;
        evict(&mut junk);
        let copy_before = bare.run("copy")?.time;
        evict(&mut junk);
        let report = series.take_unseen(Strategy::Freeze)?;
        evict(&mut junk);
        // What is copied first may have to bring the target's memory nearer: take turns.
        let copy = if turn % 2 == 0 {
            copy_before
        } else {
            bare.run("copy")?.time
        };
        eprintln!(
            "  scan {:.2} ({:.2?} bare), copy {:.2} ({:.2?} bare), {} pages and {} bytes bare",
            report.freeze.scan,
            scan.time,
            report.freeze.copy,
            copy,
            report.pages_copied_frozen,
            scan.bytes
        );
        turns.scan.push(report.freeze.scan);
        turns.bare_scan.push_time(scan.time);
        turns
            .scan_ratio
            .push(report.freeze.scan / super::stats::millis(scan.time));
        turns.copy.push(report.freeze.copy);
        turns.bare_copy.push_time(copy);
        turns
            .copy_ratio
            .push(report.freeze.copy / super::stats::millis(copy));
        turns.mib.push(super::stats::mib(scan.bytes));
        turns.regions.push(super::stats::float64(scan.regions));
    }
    signal(heartbeat.pid(), Signal::CONT)?;
    Ok(turns)
}

fn evict(junk: &mut [u8]) {
    for byte in junk.iter_mut().step_by(64) {
        *byte = byte.wrapping_add(1);
    }
    std::hint::black_box(junk);
}
