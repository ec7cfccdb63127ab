//! Watching without a terminal: plain lines, or JSON.

use std::io::Write;

use anyhow::Result;
use onionskin::report::{Forecast, MappingActivity, Strategy, Tracked, WatchInterval};

use super::history::History;
use super::{Schedule, Source, strip};
use crate::args::Watch;
use crate::out::{DIM, Out, WARN, paint};
use crate::stop::Stop;
use crate::units::{bytes, counted, millis, rate};

/// How many mappings are listed for each interval.
const LISTED_MAX: usize = 8;
/// How wide the strips are.
const STRIP: usize = 16;
/// How wide lines are at most, unless a reason has to be told: every terminal has that.
const COLUMNS: usize = 80;

/// Prints each interval until it is over; returns whether the process ended.
///
/// # Errors
///
/// Those of the source and of printing.
pub(super) fn run(
    args: &Watch,
    source: &mut dyn Source,
    history: &mut History,
    stop: &Stop,
    out: &mut Out,
) -> Result<bool> {
    let mut schedule = Schedule::new(args);
    loop {
        if stop.wait_until(schedule.due()) {
            return Ok(false);
        }
        let Some(mut interval) = source.interval()? else {
            return Ok(true);
        };
        history.add(&interval);
        if out.json {
            if !args.ranges {
                interval.mappings.iter_mut().for_each(|m| m.written.clear());
            }
            out.json_line(&interval)?;
        } else {
            print(&interval, out)?;
            out.flush()?;
        }
        if !schedule.advance() {
            return Ok(false);
        }
    }
}

/// Prints one interval: a line for the process and one for each of the busiest mappings.
///
/// # Errors
///
/// Those of writing.
pub(crate) fn print(interval: &WatchInterval, out: &mut dyn Write) -> Result<()> {
    writeln!(
        out,
        "{:>7.1} s  wrote {:>10} ({} of {})  freeze {}",
        interval.t_ms / 1000.0,
        rate(interval.written_bytes_per_s),
        counted(interval.written_pages, "page"),
        bytes(interval.resident_pages * interval.page_size),
        forecast(&interval.forecast),
    )?;
    for mapping in busiest(&interval.mappings).into_iter().take(LISTED_MAX) {
        let (start, end) = (mapping.range.start(), mapping.range.end());
        let range = format!("{start:x}-{end:x}");
        // What stands before it, with its gaps.
        let used = 2 + 11 + 2 + STRIP + 2 + range.len() + 1;
        writeln!(
            out,
            "  {:>11}  {}  {} {}",
            rate(mapping.written_bytes_per_s),
            strip::shades(mapping.heat.cells(), STRIP),
            paint(DIM, range),
            name(mapping, COLUMNS.saturating_sub(used)),
        )?;
    }
    Ok(())
}

/// Returns the mappings that were written, the busiest first, those that can't be seen behind.
fn busiest(mappings: &[MappingActivity]) -> Vec<&MappingActivity> {
    let mut busy: Vec<&MappingActivity> = mappings.iter().filter(|m| m.written_pages > 0).collect();
    busy.sort_by_key(|m| (std::cmp::Reverse(m.written_pages), m.range));
    busy
}

/// Names a mapping as users know it, in so many columns where its writes are seen.
fn name(mapping: &MappingActivity, columns: usize) -> String {
    let name = match mapping.name.as_str() {
        "" => "anonymous",
        name => name,
    };
    let name = elided(name, columns);
    match &mapping.tracked {
        Tracked::Yes => name,
        Tracked::No(reason) => format!("{name} {}", paint(WARN, format_args!("({reason})"))),
    }
}

/// Shortens a name in front, where a path says least.
fn elided(name: &str, columns: usize) -> String {
    let letters = name.chars().count();
    if letters <= columns {
        return name.to_owned();
    }
    let kept = columns.saturating_sub(1);
    let end: String = name.chars().skip(letters - kept).collect();
    format!("…{end}")
}

/// Shows the strategy that would be chosen, and its freeze.
fn forecast(forecast: &Forecast) -> String {
    let all = &forecast.freeze_ms;
    let ms = match forecast.strategy {
        Strategy::Precopy => all.precopy,
        Strategy::Fork => all.fork,
        Strategy::Freeze => all.freeze,
    };
    let ms = ms.map_or_else(|| "?".to_owned(), millis);
    format!("{ms} by {}", forecast.strategy.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::fake::Process;

    #[test]
    fn an_interval_is_a_few_lines() {
        let mut text = Vec::new();
        print(&Process::new(6).interval(), &mut text).unwrap();
        let text = anstream::adapter::strip_str(std::str::from_utf8(&text).unwrap()).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "    1.0 s  wrote 7.57 MiB/s (1,939 pages of 813 MiB)  freeze 1.98 ms by precopy"
        );
        let widest = lines.iter().map(|line| line.chars().count()).max();
        assert!(widest <= Some(COLUMNS), "{text}");
        assert_eq!(elided("/usr/lib/libname.so", 9), "…bname.so");
        assert_eq!(elided("short", 5), "short");
        assert!(
            lines[1].ends_with("7f3180000000-7f3190000000 anonymous"),
            "{text}"
        );
        assert!(lines[1].contains(" █···"), "{text}");
        assert_eq!(lines.len(), 4, "{text}");
    }
}
