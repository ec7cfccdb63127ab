//! Pages from a source to places in a file: batched reads, holes instead of zeros.

use std::io::{self, Seek, SeekFrom, Write};

use space::{ByteLen, Errno, PageRange, PageSize, PageSource, RangeSet, Vaddr};

/// How much is read at once, in bytes; also the largest base page that is accepted.
pub(crate) const BUFFER: u64 = 1 << 20;

/// What a page is compared with, piece by piece, to find the ones that hold only zeros.
static ZEROS: [u8; 1024] = [0; 1024];

/// Why pages did not get from the source into the file.
#[derive(Debug)]
pub(crate) enum CopyError {
    /// The source has no content for a page that it was said to have.
    Missing(Vaddr),
    /// The source failed at this page or one behind it.
    Read(Vaddr, Errno),
    /// The file could not be written at this offset.
    Write(u64, io::Error),
}

/// Copies pages in batches, from one source to any number of files.
pub(crate) struct Copier<'a> {
    source: &'a dyn PageSource,
    page_size: PageSize,
    progress: &'a mut dyn FnMut(ByteLen),
    buffer: Vec<u8>,
    /// The pages to read next and the file offset of each range; at most a buffer full.
    batch: Vec<PageRange>,
    offsets: Vec<u64>,
    batched: u64,
    /// Bytes written, those in holes not counted.
    written: u64,
}

impl<'a> Copier<'a> {
    /// Makes a copier. `page_size` is at most [`BUFFER`].
    pub(crate) fn new(
        source: &'a dyn PageSource,
        page_size: PageSize,
        progress: &'a mut dyn FnMut(ByteLen),
    ) -> Self {
        assert!(page_size.bytes() <= BUFFER, "a page fits the buffer");
        Self {
            source,
            page_size,
            progress,
            buffer: vec![0; ByteLen(BUFFER).as_usize()],
            batch: Vec::new(),
            offsets: Vec::new(),
            batched: 0,
            written: 0,
        }
    }

    /// Returns how many bytes were written so far, those in holes not counted.
    pub(crate) fn written(&self) -> ByteLen {
        ByteLen(self.written)
    }

    /// Copies the pages of `captured` that lie in `range`; the first address of `range` goes to
    /// `offset` in the file. What is not captured, and what is zero, is left out.
    ///
    /// Pages may still be waiting afterwards: [`finish`](Self::finish) writes them.
    pub(crate) fn copy<W: Write + Seek>(
        &mut self,
        range: PageRange,
        offset: u64,
        captured: &RangeSet,
        out: &mut W,
    ) -> Result<(), CopyError> {
        for run in runs_within(captured, range) {
            let mut rest = Some(run);
            while let Some(run) = rest {
                let room = ByteLen(BUFFER - self.batched);
                let end = run.start().checked_add(room);
                let end = end.map_or(run.end(), |end| end.min(run.end()));
                if let Some(piece) = PageRange::new(run.start(), end) {
                    self.batch.push(piece);
                    self.offsets
                        .push(offset + (piece.start().0 - range.start().0));
                    self.batched += piece.len().0;
                }
                rest = PageRange::new(end, run.end());
                if rest.is_some() {
                    self.finish(out)?;
                }
            }
        }
        Ok(())
    }

    /// Writes the pages that wait.
    pub(crate) fn finish<W: Write + Seek>(&mut self, out: &mut W) -> Result<(), CopyError> {
        let Some(first) = self.batch.first() else {
            return Ok(());
        };
        let buffer = &mut self.buffer[..ByteLen(self.batched).as_usize()];
        let got = self
            .source
            .read(&self.batch, buffer)
            .map_err(|errno| CopyError::Read(first.start(), errno))?;
        if got.0 < self.batched {
            return Err(CopyError::Missing(address_behind(&self.batch, got)));
        }
        let mut at = 0;
        for (range, &offset) in self.batch.iter().zip(&self.offsets) {
            let len = range.len().as_usize();
            let bytes = &self.buffer[at..at + len];
            self.written += write_non_zero(out, offset, bytes, self.page_size)?;
            at += len;
        }
        (self.progress)(ByteLen(self.batched));
        self.batch.clear();
        self.offsets.clear();
        self.batched = 0;
        Ok(())
    }
}

/// Iterates over what of `set` lies in `range`, in order.
pub(crate) fn runs_within(set: &RangeSet, range: PageRange) -> impl Iterator<Item = PageRange> {
    let ranges = set.ranges();
    let first = ranges.partition_point(|run| run.end() <= range.start());
    ranges[first..]
        .iter()
        .map_while(move |run| run.intersection(range))
}

/// Writes the pages of `bytes` that hold more than zeros and returns how many bytes that were.
fn write_non_zero<W: Write + Seek>(
    out: &mut W,
    offset: u64,
    bytes: &[u8],
    page_size: PageSize,
) -> Result<u64, CopyError> {
    let page = page_size.as_usize();
    let mut written = 0;
    let mut at = 0;
    while at < bytes.len() {
        let zeros = run_of(bytes, at, page, true);
        let end = run_of(bytes, zeros, page, false);
        if zeros < end {
            let place = offset + offset_of(zeros);
            out.seek(SeekFrom::Start(place))
                .and_then(|_| out.write_all(&bytes[zeros..end]))
                .map_err(|error| CopyError::Write(place, error))?;
            written += offset_of(end - zeros);
        }
        at = end;
    }
    Ok(written)
}

/// Returns where the run of pages ends that begins at `at` and that are all zero, or all not.
fn run_of(bytes: &[u8], at: usize, page: usize, zero: bool) -> usize {
    let pages = bytes[at..].chunks(page);
    at + pages
        .take_while(|bytes| is_zero(bytes) == zero)
        .map(<[u8]>::len)
        .sum::<usize>()
}

/// Tells whether all bytes are zero.
fn is_zero(bytes: &[u8]) -> bool {
    bytes
        .chunks(ZEROS.len())
        .all(|piece| piece == &ZEROS[..piece.len()])
}

/// Returns an index into a buffer as a file offset.
fn offset_of(index: usize) -> u64 {
    u64::try_from(index).expect("an index fits 64 bits")
}

/// Returns the address of the byte that follows the first `len` bytes of `ranges`.
fn address_behind(ranges: &[PageRange], len: ByteLen) -> Vaddr {
    let mut rest = len.0;
    for range in ranges {
        if rest < range.len().0 {
            return Vaddr(range.start().0 + rest);
        }
        rest -= range.len().0;
    }
    ranges.last().map_or(Vaddr(0), |range| range.end())
}
