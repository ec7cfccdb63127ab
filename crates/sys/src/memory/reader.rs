//! Reading page contents, from any thread.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, RwLock};

use space::{ByteLen, Errno, PageRange, PageSize, PageSource};

use super::files::SharedFiles;
use crate::raw::memory::{self, RANGES_MAX};

/// Reads the memory of a process.
///
/// Shared memory whose file we may open is read through the file, so that nothing is added to the
/// process's page tables; all else with `process_vm_readv`; what the process itself may not read
/// (`PROT_NONE`) through `/proc/PID/mem`.
#[derive(Debug)]
pub struct MemoryReader {
    pid: u32,
    page_size: PageSize,
    mem: File,
    files: RwLock<Arc<SharedFiles>>,
}

impl MemoryReader {
    /// Makes a reader of process `pid`; `mem` is its `/proc/PID/mem`.
    pub(crate) fn new(pid: u32, page_size: PageSize, mem: File) -> Self {
        Self {
            pid,
            page_size,
            mem,
            files: RwLock::default(),
        }
    }

    /// Has the shared memory that `files` knows read through them.
    pub(crate) fn use_files(&self, files: Arc<SharedFiles>) {
        *self.files.write().expect("nobody panics with this lock") = files;
    }

    /// Reads ranges that no file is known for; returns the bytes read before the first page that
    /// can't be.
    fn read_private(&self, ranges: &[PageRange], buf: &mut [u8]) -> Result<usize, Errno> {
        let mut done = 0;
        for batch in ranges.chunks(RANGES_MAX) {
            let wanted: usize = batch.iter().map(|range| range.len().as_usize()).sum();
            let mut read = self.read_batch(batch, &mut buf[done..done + wanted])?;
            while read < wanted {
                let Some((range, at)) = position(batch, read, self.page_size) else {
                    break;
                };
                let more =
                    self.read_forbidden(range, &mut buf[done + read..][..range.len().as_usize()]);
                if more == 0 {
                    return Ok(done + read);
                }
                read += more;
                let rest = rest_of(batch, at, range, more, self.page_size);
                if !rest.is_empty() {
                    read += self.read_batch(&rest, &mut buf[done + read..done + wanted])?;
                }
            }
            done += read;
        }
        Ok(done)
    }

    /// Reads whole pages of a batch; a batch whose first page can't be read gives 0.
    fn read_batch(&self, batch: &[PageRange], buf: &mut [u8]) -> Result<usize, Errno> {
        // One call moves at most 2 GiB, and stops at a page that it can't read.
        let mut done = 0;
        loop {
            let rest;
            let (ranges, buf) = if done == 0 {
                (batch, &mut *buf)
            } else {
                let Some((range, at)) = position(batch, done, self.page_size) else {
                    return Ok(done);
                };
                rest = std::iter::once(range)
                    .chain(batch[at + 1..].iter().copied())
                    .collect::<Vec<_>>();
                (rest.as_slice(), &mut buf[done..])
            };
            match memory::read(self.pid, ranges, buf) {
                Ok(read) => {
                    let whole = read & !(self.page_size.as_usize() - 1);
                    if whole == 0 {
                        return Ok(done);
                    }
                    done += whole;
                }
                Err(Errno::EFAULT) => return Ok(done),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Reads pages that the process may not read itself; 0 where nobody can.
    fn read_forbidden(&self, range: PageRange, buf: &mut [u8]) -> usize {
        let read = self.mem.read_at(buf, range.start().0).unwrap_or(0);
        read & !(self.page_size.as_usize() - 1)
    }
}

impl PageSource for MemoryReader {
    fn read(&self, ranges: &[PageRange], buf: &mut [u8]) -> Result<ByteLen, Errno> {
        let files = self
            .files
            .read()
            .expect("nobody panics with this lock")
            .clone();
        let mut done = 0;
        let mut rest = ranges;
        while let Some(&first) = rest.first() {
            let through_file = files.find(first);
            let same = rest
                .iter()
                .position(|&range| files.find(range).is_some() != through_file.is_some())
                .unwrap_or(rest.len());
            let (now, later) = rest.split_at(same);
            let wanted: usize = now.iter().map(|range| range.len().as_usize()).sum();
            let buf = &mut buf[done..done + wanted];
            let read = match through_file {
                Some(_) => files.read(now, buf),
                None => self.read_private(now, buf)?,
            };
            done += read;
            if read < wanted {
                break;
            }
            rest = later;
        }
        if done == 0 && !ranges.is_empty() {
            return Err(Errno::EFAULT);
        }
        Ok(ByteLen(done as u64))
    }
}

/// The part of the batch that byte `offset` begins: the rest of its range, and that range's
/// index.
fn position(batch: &[PageRange], offset: usize, page_size: PageSize) -> Option<(PageRange, usize)> {
    debug_assert!(
        offset.is_multiple_of(page_size.as_usize()),
        "reads are of whole pages"
    );
    let mut before = 0;
    for (index, range) in batch.iter().enumerate() {
        let len = range.len().as_usize();
        if offset < before + len {
            let start = range
                .start()
                .checked_add(ByteLen((offset - before) as u64))?;
            return Some((PageRange::new(start, range.end())?, index));
        }
        before += len;
    }
    None
}

/// What is left of the batch behind `more` bytes of `range`, which is the rest of range `at`.
fn rest_of(
    batch: &[PageRange],
    at: usize,
    range: PageRange,
    more: usize,
    page_size: PageSize,
) -> Vec<PageRange> {
    debug_assert!(
        more.is_multiple_of(page_size.as_usize()),
        "reads are of whole pages"
    );
    let start = range.start().checked_add(ByteLen(more as u64));
    let first = start.and_then(|start| PageRange::new(start, range.end()));
    first
        .into_iter()
        .chain(batch[at + 1..].iter().copied())
        .collect()
}
