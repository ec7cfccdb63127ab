//! Working through a set of pages, batch by batch.

use std::time::Duration;

use space::{ByteLen, Errno, PageRange, PageSink, PageSize, PageSource, RangeSet};

use super::{BATCH_BYTES, Batches, Filled, Missing, pieces, read_batch};
use crate::{Clock, Verifier};

/// Why a set of pages could not be worked through.
#[derive(Debug)]
pub(crate) enum Failure<E> {
    /// The memory could not be read.
    Space(Errno),
    /// The sink refused.
    Sink(E),
}

/// What reading a set of pages came to.
#[derive(Debug, Default)]
pub(crate) struct Pumped {
    /// Pages that could not be read.
    pub(crate) missed: RangeSet,
    /// Bytes that were read.
    pub(crate) bytes: ByteLen,
}

/// Carries page contents from a source to a sink.
#[derive(Clone, Copy)]
pub(crate) struct Carrier {
    pub(crate) threads: usize,
    pub(crate) page_size: PageSize,
    /// What each of the threads does first.
    pub(crate) first: fn(),
}

/// What one batch came to.
#[derive(Default)]
struct Part {
    bytes: u64,
    ranges: Vec<PageRange>,
}

impl Carrier {
    /// Returns one whose threads give way to nobody: for as long as the target stands still.
    pub(crate) fn urgent(self) -> Self {
        Self {
            first: || {},
            ..self
        }
    }

    /// Reads `set` and hands it to `sink`. `progress` is told the bytes done so far.
    pub(crate) fn pump<R, K>(
        self,
        source: &R,
        sink: &K,
        set: &RangeSet,
        missing: Missing,
        progress: &mut dyn FnMut(ByteLen),
    ) -> Result<Pumped, Failure<K::Error>>
    where
        R: PageSource + Sync,
        K: PageSink + Sync,
        K::Error: Send,
    {
        let (bytes, missed) = self.read_each(source, set, missing, progress, |range, bytes| {
            sink.put(range, bytes).map(|()| Vec::new())
        })?;
        let Part { ranges, .. } = missed;
        Ok(Pumped {
            missed: ranges.into_iter().collect(),
            bytes,
        })
    }

    /// Reads `set` again and returns the pages that differ from what `sink` took, or that can't
    /// be read any more. `progress` is told the bytes done so far.
    pub(crate) fn compare<R, K>(
        self,
        source: &R,
        sink: &K,
        set: &RangeSet,
        progress: &mut dyn FnMut(ByteLen),
    ) -> Result<RangeSet, Failure<K::Error>>
    where
        R: PageSource + Sync,
        K: Verifier + Sync,
        K::Error: Send,
    {
        let (_, found) =
            self.read_each(source, set, Missing::TryEach, progress, |range, bytes| {
                sink.differs(range, bytes)
            })?;
        Ok(found.ranges.into_iter().collect())
    }

    /// Reads `set` in batches and calls `work` for each piece; collects the ranges that it
    /// returns, and those that could not be read.
    fn read_each<R, E>(
        self,
        source: &R,
        set: &RangeSet,
        missing: Missing,
        progress: &mut dyn FnMut(ByteLen),
        work: impl Fn(PageRange, &[u8]) -> Result<Vec<PageRange>, E> + Sync,
    ) -> Result<(ByteLen, Part), Failure<E>>
    where
        R: PageSource + Sync,
        E: Send,
    {
        let batches = Batches::cut(set, ByteLen(BATCH_BYTES));
        let room = ByteLen(set.len().0.min(BATCH_BYTES)).as_usize();
        let mut all = Part::default();
        let mut done = 0;
        each(
            self.threads,
            batches.len(),
            self.first,
            || vec![0; room],
            |buf, index| {
                let ranges = batches.get(index);
                let mut part = Part::default();
                read_batch(
                    source,
                    ranges,
                    buf,
                    self.page_size,
                    missing,
                    &mut part.ranges,
                )
                .map_err(Failure::Space)?;
                let missed = part.ranges.clone();
                pieces(ranges, &missed, buf, |range, bytes| {
                    part.bytes += range.len().0;
                    part.ranges
                        .extend(work(range, bytes).map_err(Failure::Sink)?);
                    Ok(())
                })?;
                let len: u64 = ranges.iter().map(|range| range.len().0).sum();
                Ok((part, len))
            },
            &mut |(part, len): (Part, u64)| {
                all.bytes += part.bytes;
                all.ranges.extend(part.ranges);
                done += len;
                progress(ByteLen(done));
            },
        )?;
        Ok((ByteLen(all.bytes), all))
    }

    /// Hands to `sink` what was read in the freeze.
    pub(crate) fn hand_over<K>(
        self,
        sink: &K,
        batches: &Batches,
        filled: &[Filled],
        progress: &mut dyn FnMut(ByteLen),
    ) -> Result<(), Failure<K::Error>>
    where
        K: PageSink + Sync,
        K::Error: Send,
    {
        let mut done = 0;
        each(
            self.threads,
            filled.len(),
            self.first,
            || (),
            |(), index| {
                let Filled { batch, buf, missed } = &filled[index];
                let ranges = batches.get(*batch);
                pieces(ranges, missed, buf, |range, bytes| sink.put(range, bytes))
                    .map_err(Failure::Sink)?;
                Ok(ranges.iter().map(|range| range.len().0).sum::<u64>())
            },
            &mut |len: u64| {
                done += len;
                progress(ByteLen(done));
            },
        )
    }
}

/// Does `count` pieces of work, in any order, and hands each result to `done`. The first error ends
/// it. Threads that are made for it call `first`; the calling thread does not.
fn each<W, T, E>(
    threads: usize,
    count: usize,
    first: fn(),
    state: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, usize) -> Result<T, E> + Sync,
    done: &mut dyn FnMut(T),
) -> Result<(), E>
where
    T: Send,
    E: Send,
{
    #[cfg(feature = "drive")]
    if threads > 0 && count > 1 {
        let state = || {
            first();
            state()
        };
        return crate::drive::each(threads.min(count), count, state, work, done);
    }
    #[cfg(not(feature = "drive"))]
    let _ = (threads, first);
    if count == 0 {
        return Ok(());
    }
    let mut own = state();
    for index in 0..count {
        done(work(&mut own, index)?);
    }
    Ok(())
}

/// Returns how long something took, with what it returned.
pub(crate) fn timed<C: Clock, T>(clock: &C, work: impl FnOnce() -> T) -> (Duration, T) {
    let before = clock.now();
    let result = work();
    (clock.now().saturating_sub(before), result)
}

#[cfg(all(test, feature = "drive"))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn only_threads_that_nobody_stands_still_for_give_way() {
        static GAVE_WAY: AtomicUsize = AtomicUsize::new(0);
        let carrier = Carrier {
            threads: 3,
            page_size: PageSize::new(4096).unwrap(),
            first: || {
                GAVE_WAY.fetch_add(1, Ordering::Relaxed);
            },
        };
        let work = |carrier: Carrier, count| {
            let one = |(): &mut (), index| -> Result<usize, ()> { Ok(index) };
            each(
                carrier.threads,
                count,
                carrier.first,
                || (),
                one,
                &mut |_| {},
            )
            .unwrap();
            GAVE_WAY.swap(0, Ordering::Relaxed)
        };
        assert_eq!(work(carrier, 100), 3);
        assert_eq!(work(carrier, 1), 0, "the calling thread stays as it is");
        assert_eq!(work(carrier.urgent(), 100), 0);
    }
}
