//! Copying in the freeze: into memory that was made ready before it, under a deadline.

use std::sync::Arc;
use std::time::Duration;

use space::{ByteLen, Errno, PageRange, PageSize, PageSource};

use super::{BATCH_BYTES, Batches, Missing, read_batch};

/// A batch that was read.
#[derive(Debug)]
pub(crate) struct Filled {
    /// Which batch.
    pub(crate) batch: usize,
    /// Its bytes; the buffer may be longer.
    pub(crate) buf: Vec<u8>,
    /// Pages of it that could not be read.
    pub(crate) missed: Vec<PageRange>,
}

/// How the copying ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copied {
    /// All batches are read.
    All,
    /// There is no more memory to copy into: what was copied has to be taken before it goes on.
    Full,
    /// The time was over.
    TimedOut,
    /// The memory can't be read.
    Failed(Errno),
}

/// Reads batches into memory, in the calling thread or in threads of its own.
///
/// A read that never returns (it may wait for somebody's page fault handler) can't hold up the
/// caller of the latter: threads are left to themselves when the copier is dropped, and end when
/// their read does.
pub(crate) enum Copier<R> {
    /// In the calling thread.
    Inline {
        reader: Arc<R>,
        page_size: PageSize,
        batches: Arc<Batches>,
        free: Vec<Vec<u8>>,
        filled: Vec<Filled>,
        /// The next batch to read.
        next: usize,
        /// How many may be filled at a time.
        max: usize,
    },
    /// In threads.
    #[cfg(feature = "drive")]
    Threads(crate::drive::Crew),
}

impl<R: PageSource + Send + Sync + 'static> Copier<R> {
    /// Makes a copier with `room` bytes of memory, all of it touched, that takes `most` bytes
    /// at most, or a little more.
    pub(crate) fn new(
        reader: Arc<R>,
        threads: usize,
        page_size: PageSize,
        room: ByteLen,
        most: ByteLen,
    ) -> Self {
        let max = ByteLen(most.0.div_ceil(BATCH_BYTES).max(1)).as_usize();
        let buffers = ByteLen(room.0.min(most.0).div_ceil(BATCH_BYTES)).as_usize();
        let len = ByteLen(BATCH_BYTES).as_usize();
        // Another byte than zero: memory of zeros would not be touched.
        let free = (0..buffers).map(|_| vec![0xa5; len]).collect();
        #[cfg(feature = "drive")]
        if threads > 0 {
            return Self::Threads(crate::drive::Crew::new(
                &reader, threads, page_size, free, max,
            ));
        }
        #[cfg(not(feature = "drive"))]
        let _ = threads;
        Self::Inline {
            reader,
            page_size,
            batches: Arc::default(),
            free,
            filled: Vec::new(),
            next: 0,
            max,
        }
    }

    /// Begins to copy.
    pub(crate) fn start(&mut self, work: &Arc<Batches>) {
        match self {
            Self::Inline { batches, .. } => *batches = Arc::clone(work),
            #[cfg(feature = "drive")]
            Self::Threads(crew) => crew.start(work),
        }
    }

    /// Waits until all is copied, or until `left` returns zero: it is told how many batches are
    /// done, and tells how much time is left.
    pub(crate) fn wait(&mut self, mut left: impl FnMut(usize) -> Duration) -> Copied {
        match self {
            Self::Inline {
                reader,
                page_size,
                batches,
                free,
                filled,
                next,
                max,
            } => {
                while *next < batches.len() {
                    if left(*next).is_zero() {
                        return Copied::TimedOut;
                    }
                    if filled.len() >= *max {
                        return Copied::Full;
                    }
                    let buf = free.pop().unwrap_or_default();
                    match fill(&**reader, batches, *next, buf, *page_size) {
                        Ok(full) => filled.push(full),
                        Err(errno) => return Copied::Failed(errno),
                    }
                    *next += 1;
                }
                Copied::All
            }
            #[cfg(feature = "drive")]
            Self::Threads(crew) => crew.wait(left),
        }
    }

    /// Gives memory back to copy into.
    pub(crate) fn give_back(&mut self, used: Vec<Filled>) {
        let buffers = used.into_iter().map(|full| full.buf);
        match self {
            Self::Inline { free, .. } => free.extend(buffers),
            #[cfg(feature = "drive")]
            Self::Threads(crew) => crew.give_back(buffers),
        }
    }

    /// Returns how long copying took, where it ran beside the calling thread.
    pub(crate) fn took(&self) -> Option<Duration> {
        match self {
            Self::Inline { .. } => None,
            #[cfg(feature = "drive")]
            Self::Threads(crew) => Some(crew.took()),
        }
    }

    /// Returns about how much was copied.
    pub(crate) fn done(&self) -> ByteLen {
        let batches = match self {
            Self::Inline { next, .. } => *next,
            #[cfg(feature = "drive")]
            Self::Threads(crew) => crew.done(),
        };
        ByteLen(
            u64::try_from(batches)
                .unwrap_or(u64::MAX)
                .saturating_mul(BATCH_BYTES),
        )
    }

    /// Returns what was copied.
    pub(crate) fn take(&mut self) -> Vec<Filled> {
        match self {
            Self::Inline { filled, .. } => std::mem::take(filled),
            #[cfg(feature = "drive")]
            Self::Threads(crew) => crew.take(),
        }
    }
}

/// Reads one batch into `buf`.
pub(crate) fn fill<R: PageSource + ?Sized>(
    reader: &R,
    batches: &Batches,
    batch: usize,
    mut buf: Vec<u8>,
    page_size: PageSize,
) -> Result<Filled, Errno> {
    let ranges = batches.get(batch);
    let len = ByteLen(ranges.iter().map(|range| range.len().0).sum()).as_usize();
    if buf.len() < len {
        buf.resize(len, 0);
    }
    let mut missed = Vec::new();
    read_batch(
        reader,
        ranges,
        &mut buf,
        page_size,
        Missing::TryEach,
        &mut missed,
    )?;
    Ok(Filled { batch, buf, missed })
}

#[cfg(test)]
mod tests {
    use space::Vaddr;

    use super::*;

    /// Every page begins with its address.
    struct Addresses;

    impl PageSource for Addresses {
        fn read(&self, ranges: &[PageRange], buf: &mut [u8]) -> Result<ByteLen, Errno> {
            let mut done = 0;
            for range in ranges {
                for page in range.chunks(ByteLen(4096)) {
                    buf[done..done + 8].copy_from_slice(&page.start().0.to_le_bytes());
                    done += 4096;
                }
            }
            Ok(ByteLen(done as u64))
        }
    }

    /// Copies more than there is memory for, and looks at every page.
    fn copies_all(threads: usize, most: ByteLen) {
        let len = 5 * BATCH_BYTES + 8192;
        let all = PageRange::new(Vaddr(1 << 20), Vaddr((1 << 20) + len)).unwrap();
        let set = [all].into_iter().collect();
        let batches = Arc::new(Batches::cut(&set, ByteLen(BATCH_BYTES)));
        let size = PageSize::new(4096).unwrap();
        let room = ByteLen(2 * BATCH_BYTES);
        let mut copier = Copier::new(Arc::new(Addresses), threads, size, room, most);
        copier.start(&batches);
        let (mut seen, mut full) = (Vec::new(), 0);
        loop {
            let copied = copier.wait(|_| Duration::from_secs(60));
            let filled = copier.take();
            for Filled { batch, buf, .. } in &filled {
                for range in batches.get(*batch) {
                    let pages = range.chunks(ByteLen(4096)).zip(buf.chunks(4096));
                    for (page, bytes) in pages {
                        assert_eq!(bytes[..8], page.start().0.to_le_bytes());
                        seen.push(page);
                    }
                }
            }
            match copied {
                Copied::All => break,
                Copied::Full => full += 1,
                Copied::TimedOut | Copied::Failed(_) => panic!("{copied:?}"),
            }
            copier.give_back(filled);
        }
        seen.sort_unstable();
        assert_eq!(seen, all.chunks(ByteLen(4096)).collect::<Vec<_>>());
        assert_eq!(full > 0, most.0 < len, "{threads} threads, {most:?}");
    }

    #[test]
    fn what_does_not_fit_is_taken_in_between() {
        for most in [1, BATCH_BYTES, 3 * BATCH_BYTES, 1 << 30] {
            copies_all(0, ByteLen(most));
            #[cfg(feature = "drive")]
            copies_all(2, ByteLen(most));
        }
    }

    #[test]
    fn no_time_left_ends_it() {
        let set = [PageRange::new(Vaddr(4096), Vaddr(8192)).unwrap()];
        let batches = Arc::new(Batches::cut(
            &set.into_iter().collect(),
            ByteLen(BATCH_BYTES),
        ));
        let size = PageSize::new(4096).unwrap();
        let mut copier = Copier::new(Arc::new(Addresses), 0, size, ByteLen(0), ByteLen(1));
        copier.start(&batches);
        assert_eq!(copier.wait(|_| Duration::ZERO), Copied::TimedOut);
    }
}
