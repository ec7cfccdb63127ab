//! Invented processes for tests of the screens.

use onionskin::report::{
    Forecast, FreezeForecast, Heat, MappingActivity, Strategy, Tracked, TrackingMode, WatchInterval,
};
use space::{PageRange, Vaddr};

use crate::units::as_f64;

const PAGE: u64 = 4096;
/// Sizes that real programs have, in pages.
const SIZES: [u64; 6] = [33, 2048, 65_536, 3, 512, 140_000];

/// A writable mapping in which nothing was written.
pub(crate) fn mapping(range: PageRange, name: &str) -> MappingActivity {
    MappingActivity {
        range,
        name: name.to_owned(),
        protection: "rw-p".to_owned(),
        size_bytes: range.len().0,
        resident_bytes: range.len().0,
        written_pages: 0,
        written_bytes_per_s: 0.0,
        tracked: Tracked::Yes,
        heat: Heat::default(),
        written: Vec::new(),
    }
}

/// An invented process with a hot log, a sweeping collector and random stores.
#[derive(Debug)]
pub(crate) struct Process {
    mappings: Vec<(PageRange, String)>,
    random: u64,
    intervals: u64,
}

impl Process {
    /// Makes one with so many mappings.
    pub(crate) fn new(mappings: u64) -> Self {
        let mut at = 0x5581_0a3c_0000;
        let named = |n: u64| match n {
            0 => "/usr/bin/example".to_owned(),
            1 => "[heap]".to_owned(),
            n if n % 7 == 3 => format!("/usr/lib/x86_64-linux-gnu/libexample{n}.so.6"),
            n if n + 1 == mappings => "[stack]".to_owned(),
            _ => String::new(),
        };
        let mappings = (0..mappings)
            .map(|n| {
                if n == 2 {
                    at = 0x7f31_8000_0000;
                }
                let pages = SIZES[usize::try_from(n).unwrap() % SIZES.len()];
                let range = PageRange::new(Vaddr(at), Vaddr(at + pages * PAGE)).unwrap();
                at = range.end().0 + (n % 3) * 0x10_0000;
                (range, named(n))
            })
            .collect();
        Self {
            mappings,
            random: 0x9e37_79b9_7f4a_7c15,
            intervals: 0,
        }
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// Invents the next second.
    pub(crate) fn interval(&mut self) -> WatchInterval {
        self.intervals += 1;
        let mut mappings = Vec::new();
        for (n, (range, name)) in self.mappings.clone().into_iter().enumerate() {
            let mut activity = mapping(range, &name);
            activity.written = self.written(n as u64, range);
            if name.starts_with('/') {
                activity.protection = "r-xp".to_owned();
                activity.written.clear();
            }
            if n == 4 {
                activity.tracked = Tracked::No("belongs to another userfaultfd".to_owned());
                activity.written.clear();
            }
            activity.written_pages = activity.written.iter().map(|r| r.len().0 / PAGE).sum();
            activity.written_bytes_per_s = as_f64(activity.written_pages * PAGE);
            activity.heat = Heat::of(range, &activity.written);
            mappings.push(activity);
        }
        let written_pages = mappings.iter().map(|m| m.written_pages).sum();
        let resident_pages = mappings.iter().map(|m| m.resident_bytes / PAGE).sum();
        let copy = as_f64(written_pages) * 0.0004;
        WatchInterval {
            t_ms: as_f64(self.intervals) * 1000.0,
            interval_ms: 1000.0,
            pid: 4711,
            program: "/usr/bin/example".to_owned(),
            tracking: TrackingMode::WriteProtect,
            stopped_ms: 0.0,
            page_size: PAGE,
            written_pages,
            written_bytes_per_s: as_f64(written_pages * PAGE),
            resident_pages,
            forecast: Forecast {
                strategy: Strategy::Precopy,
                freeze_ms: FreezeForecast {
                    precopy: Some(1.2 + copy),
                    fork: Some(14.3),
                    freeze: Some(as_f64(resident_pages) * 0.0004),
                },
            },
            mappings,
        }
    }

    fn written(&mut self, n: u64, range: PageRange) -> Vec<PageRange> {
        let pages = range.len().0 / PAGE;
        let run = |from: u64, len: u64| {
            let start = Vaddr(range.start().0 + (from % pages) * PAGE);
            let end = (start.0 + len.max(1) * PAGE).min(range.end().0);
            PageRange::new(start, Vaddr(end)).unwrap()
        };
        let t = self.intervals;
        match n % 6 {
            // A collector that sweeps through the heap.
            1 => vec![run(pages / 20 * (t % 20), pages / 20)],
            // A hot beginning and bursts every now and then.
            2 if t % 30 > 22 => vec![run(0, pages / 3)],
            2 => vec![run(0, pages / 40)],
            // Stores here and there.
            5 => {
                let mut starts: Vec<u64> = (0..200).map(|_| self.random() % pages).collect();
                starts.sort_unstable();
                starts.dedup();
                starts.into_iter().map(|from| run(from, 1)).collect()
            }
            3 => vec![run(0, 1)],
            _ => Vec::new(),
        }
    }
}
