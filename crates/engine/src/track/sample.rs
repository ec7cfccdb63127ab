//! What copying takes here: measured on a little of the memory of a process that is only watched.

use std::sync::Arc;
use std::time::Duration;

use space::{AddressSpace, ByteLen, Errno, PageFlags, PageRange, RangeSet, Rearm, Scan};

use super::Watcher;
use super::continuity::within;
use crate::carry::{BATCH_BYTES, Batches, Copied, Copier};
use crate::{Class, Clock, Options};

/// How much is read of private memory, and as much of memory that is shared: they are read in
/// different ways.
const SAMPLE: ByteLen = ByteLen(16 << 20);
/// How long the sample may take. What would wait longer is no measure of anything.
const LIMIT: Duration = Duration::from_millis(500);

impl Watcher {
    /// Copies a little of what is in the page tables as a freeze would, and throws it away. Only what
    /// is registered with us is read, so that no read waits for another's page fault handler.
    pub(super) fn sample<S: AddressSpace, C: Clock>(
        &mut self,
        space: &mut S,
        clock: &C,
    ) -> Result<(), Errno> {
        let scan = Scan {
            all_of: PageFlags::PRESENT,
            any_of: PageFlags::empty(),
            report: PageFlags::empty(),
            rearm: Rearm::Keep,
        };
        let mut runs = Vec::new();
        space.scan(&scan, self.tracker.tracked.ranges(), &mut runs)?;
        let present: RangeSet = runs.into_iter().map(|run| run.range).collect();
        let mut sample = RangeSet::new();
        for class in [Class::Private, Class::Volatile] {
            let parts = self.tracker.parts.iter();
            let ranges = parts
                .filter(|part| part.class == class)
                .map(|part| part.range);
            sample = sample.union(&at_most(SAMPLE, within(ranges, &present)));
        }
        let bytes = sample.len();
        if bytes.0 == 0 {
            return Ok(());
        }
        let threads = Options::default().threads;
        let size = space.page_size();
        let mut copier = Copier::new(space.reader(), threads, size, bytes, bytes);
        let work = Arc::new(Batches::cut(&sample, ByteLen(BATCH_BYTES)));
        let began = clock.now();
        copier.start(&work);
        let copied = copier.wait(|_| LIMIT.saturating_sub(clock.now().saturating_sub(began)));
        let took = copier.took().unwrap_or(clock.now().saturating_sub(began));
        if copied == Copied::All {
            self.costs(size).sampled(bytes, took);
        }
        Ok(())
    }
}

/// Returns the first ranges, as far as they are no longer than `most` together.
fn at_most(most: ByteLen, ranges: impl Iterator<Item = PageRange>) -> RangeSet {
    let mut left = most.0;
    let mut taken = RangeSet::new();
    for range in ranges {
        let mut pieces = range.chunks(ByteLen(BATCH_BYTES));
        let room = pieces.by_ref().take_while(|piece| {
            let fits = piece.len().0 <= left;
            left = left.saturating_sub(piece.len().0);
            fits
        });
        taken = taken.union(&room.collect());
        if left == 0 {
            break;
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use space::Vaddr;

    use super::*;

    #[test]
    fn no_more_than_that_is_taken() {
        let range = |from: u64, mib: u64| {
            PageRange::new(Vaddr(from << 20), Vaddr((from + mib) << 20)).unwrap()
        };
        let taken =
            |most: u64| at_most(ByteLen(most << 20), [range(1, 3), range(9, 5)].into_iter());
        assert_eq!(taken(8).len(), ByteLen(8 << 20));
        assert_eq!(taken(100).len(), ByteLen(8 << 20));
        assert_eq!(taken(2).ranges(), [range(1, 2)]);
        assert_eq!(taken(4).ranges(), [range(1, 3), range(9, 1)]);
    }
}
