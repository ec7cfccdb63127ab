//! Scanning with the words of pagemap: without `PAGEMAP_SCAN`, and for soft-dirty bits.
//!
//! As in `sys`: `mremap` moves whole page tables without marking their pages, so the frames of a
//! few pages of each table are remembered from one clearing to the next, and where none of them is
//! found again, all pages of the table count as written. A frame proves something only if the
//! page is the process's own alone, and was not written.

use space::{Errno, PageFlags, PageRange, PageRun, Scan, Vaddr};

use crate::machine::{Machine, Pid};
use crate::readout::pagemap::{FRAME_BITS, PagemapBits};

/// Samples of each page table: one may be gone the next time.
const SAMPLES: usize = 4;

/// Pages and the frames behind them, by ascending addresses.
#[derive(Debug, Default)]
pub(super) struct Samples(Vec<(u64, u64)>);

impl Samples {
    /// Takes samples of a table's pages, which lie behind all known ones: the first ones there
    /// are, and the last.
    fn keep(&mut self, pages: &[(u64, u64)]) {
        let present = pages
            .iter()
            .filter_map(|&(at, word)| Some((at, frame(word)?)));
        let mut samples: Vec<_> = present.collect();
        if samples.len() > SAMPLES {
            samples.drain(SAMPLES - 1..samples.len() - 1);
        }
        self.0.append(&mut samples);
    }

    /// Tells whether the pages may have been moved here: none of the samples is where it was.
    fn may_have_moved(&self, pages: &[(u64, u64)]) -> bool {
        !pages.iter().any(|&(at, word)| {
            let known = self.0.binary_search_by_key(&at, |&(page, _)| page);
            let bits = PagemapBits::from_bits_truncate(word);
            known.is_ok_and(|index| frame(word) == Some(self.0[index].1))
                && bits.contains(PagemapBits::EXCLUSIVE)
                && !bits.contains(PagemapBits::SOFT_DIRTY)
        })
    }
}

/// The frame behind a page, if it is no file's.
fn frame(word: u64) -> Option<u64> {
    let bits = PagemapBits::from_bits_truncate(word) & (PagemapBits::PRESENT | PagemapBits::FILE);
    (bits == PagemapBits::PRESENT).then_some(word & ((1 << FRAME_BITS) - 1))
}

/// Looks at the pages of `ranges`. With `known`, those of a table that may have been moved count as
/// written. Returns samples of what is there now.
pub(super) fn scan(
    machine: &Machine,
    pid: Pid,
    scan: &Scan,
    ranges: &[PageRange],
    known: Option<&Samples>,
    out: &mut Vec<PageRun>,
) -> Result<Samples, Errno> {
    let mm = &machine.process(pid)?.mm;
    let page_size = machine.profile().page_size();
    let table_size = machine.profile().geometry().pmd_size();
    let mut now = Samples::default();
    let mut pages = Vec::new();
    for range in ranges {
        let mut at = range.start().0;
        // What has no page tables is not there, and nobody looks for that with these words.
        while let Some(run) = mm.tables.next_run(at, range.end().0) {
            at = run.end.min((run.start & !(table_size - 1)) + table_size);
            pages.clear();
            for page in (run.start..at).step_by(usize::try_from(page_size).expect("a page fits")) {
                let mut word = [0];
                machine.pagemap(pid, page, &mut word)?;
                pages.push((page, word[0]));
            }
            let moved = known.is_some_and(|known| known.may_have_moved(&pages));
            for &(page, word) in &pages {
                report(scan, page, page + page_size, flags_of(word, moved), out);
            }
            now.keep(&pages);
        }
    }
    Ok(now)
}

/// Says a word in those of a scan.
fn flags_of(word: u64, moved: bool) -> PageFlags {
    let bits = PagemapBits::from_bits_truncate(word);
    let mut flags = PageFlags::empty();
    flags.set(PageFlags::PRESENT, bits.contains(PagemapBits::PRESENT));
    flags.set(PageFlags::SWAPPED, bits.contains(PagemapBits::SWAP));
    flags.set(PageFlags::FILE, bits.contains(PagemapBits::FILE));
    flags.set(PageFlags::GUARD, bits.contains(PagemapBits::GUARD));
    let dirty = PageFlags::SOFT_DIRTY | PageFlags::WRITTEN;
    flags.set(dirty, bits.contains(PagemapBits::SOFT_DIRTY));
    // The page of zeros that a read of dropped memory brings has no soft-dirty bit, and can't be
    // told from the page that was there before but by being shared.
    let own = PagemapBits::FILE | PagemapBits::EXCLUSIVE;
    let there = flags.intersects(PageFlags::PRESENT | PageFlags::SWAPPED)
        && !flags.contains(PageFlags::FILE);
    if bits.contains(PagemapBits::PRESENT) && !bits.intersects(own) || (moved && there) {
        flags |= PageFlags::WRITTEN;
    }
    flags
}

/// Adds a page to the runs, if the scan looks for it.
fn report(scan: &Scan, start: u64, end: u64, flags: PageFlags, out: &mut Vec<PageRun>) {
    let wanted =
        flags.contains(scan.all_of) && (scan.any_of.is_empty() || flags.intersects(scan.any_of));
    if !wanted {
        return;
    }
    let flags = flags & scan.report;
    match out.last_mut() {
        Some(last) if last.range.end() == Vaddr(start) && last.flags == flags => {
            let longer = PageRange::new(last.range.start(), Vaddr(end));
            last.range = longer.expect("it only grows");
        }
        _ => out.push(PageRun {
            range: PageRange::new(Vaddr(start), Vaddr(end)).expect("a page is a range"),
            flags,
        }),
    }
}
