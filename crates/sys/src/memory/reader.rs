//! Reading page contents, from any thread.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, RwLock};

use space::{ByteLen, Errno, PageRange, PageSize, PageSource};

use super::anchor::{Anchor, Found};
use super::files::SharedFiles;
use crate::raw::memory::{self, RANGES_MAX};

/// Reads the memory of a process.
///
/// Shared memory whose file we may open is read through the file, so that nothing is added to the
/// process's page tables; all else with `process_vm_readv`, unless the process has other memory by
/// now; what the process itself may not read (`PROT_NONE`) through `/proc/PID/mem`.
#[derive(Debug)]
pub struct MemoryReader {
    pid: u32,
    page_size: PageSize,
    mem: File,
    /// By what the memory is known; `None` if it can't be.
    anchor: Option<Anchor>,
    files: RwLock<Arc<SharedFiles>>,
}

impl MemoryReader {
    /// Makes a reader of process `pid`; `mem` is its `/proc/PID/mem`, `anchor` in the same memory.
    pub(crate) fn new(pid: u32, page_size: PageSize, mem: File, anchor: Option<Anchor>) -> Self {
        Self {
            pid,
            page_size,
            mem,
            anchor,
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
        let read = self.read_by_id(ranges, buf)?;
        // Asked behind the reading: what comes after does not matter.
        let found = self.anchor.map(|anchor| anchor.look(self.pid, &self.mem));
        match found.unwrap_or(Found::Nothing) {
            Found::Same => Ok(read),
            Found::Other => Err(Errno::ESRCH),
            Found::Nothing => self.read_by_file(ranges, buf),
        }
    }

    /// Reads through `/proc/PID/mem` alone, which is slower.
    fn read_by_file(&self, ranges: &[PageRange], buf: &mut [u8]) -> Result<usize, Errno> {
        let mut done = 0;
        for range in ranges {
            let end = done + range.len().as_usize();
            while done < end {
                let at = range.end().0 - (end - done) as u64;
                match self.mem.read_at(&mut buf[done..end], at) {
                    Ok(0) => return Err(Errno::ESRCH),
                    Ok(read) if read >= self.page_size.as_usize() => {
                        done += read & !(self.page_size.as_usize() - 1);
                    }
                    Ok(_) | Err(_) => return Ok(done),
                }
            }
        }
        Ok(done)
    }

    /// Reads from whatever memory the process has.
    fn read_by_id(&self, ranges: &[PageRange], buf: &mut [u8]) -> Result<usize, Errno> {
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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::procfs::Process;

    /// A shell that becomes another program at a line of input.
    struct Shell(Child);

    impl Shell {
        fn start() -> Self {
            let shell = Command::new("sh")
                .args(["-c", "read line; exec sleep 1000"])
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            Self(shell)
        }

        fn process(&self) -> Process {
            Process::open(self.0.id()).unwrap()
        }

        /// Waits until it runs a program of that name.
        fn becomes(&self, name: &str) {
            let begun = Instant::now();
            let is_so_far = || {
                let name_now = self.process().stat().unwrap().name;
                name_now == name && Anchor::find(self.0.id()).is_ok()
            };
            while !is_so_far() {
                assert!(begun.elapsed() < Duration::from_secs(60), "it does not");
            }
        }

        /// The first page of its main program, and the last of its main stack.
        fn pages(&self) -> [PageRange; 2] {
            let page_size = crate::procfs::base_page_size();
            let mut mappings = Vec::new();
            let process = self.process();
            process
                .maps(page_size, &mut Vec::new(), &mut mappings)
                .unwrap();
            let stack = mappings.iter().find(|mapping| mapping.name == "[stack]");
            let (first, last) = (mappings[0].range.start(), stack.unwrap().range.end());
            let page =
                |start| PageRange::from_pages(start, space::PageCount(1), page_size).unwrap();
            [page(first), page(space::Vaddr(last.0 - page_size.bytes()))]
        }

        fn reader(&self, anchor: Option<Anchor>) -> MemoryReader {
            let pid = self.0.id();
            let mem = File::open(format!("/proc/{pid}/mem")).unwrap();
            MemoryReader::new(pid, crate::procfs::base_page_size(), mem, anchor)
        }
    }

    impl Drop for Shell {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn another_program_of_the_same_process_is_not_read() {
        let mut shell = Shell::start();
        shell.becomes("sh");
        let known = shell.reader(Some(Anchor::find(shell.0.id()).unwrap()));
        let unknown = shell.reader(None);
        let page_size = crate::procfs::base_page_size().as_usize();
        let (mut one, mut other) = (vec![0; 2 * page_size], vec![1; 2 * page_size]);
        let whole = ByteLen(2 * page_size as u64);
        assert_eq!(known.read(&shell.pages(), &mut one), Ok(whole));
        assert_eq!(unknown.read(&shell.pages(), &mut other), Ok(whole));
        assert!(one == other, "both ways lead to the same");
        writeln!(shell.0.stdin.as_mut().unwrap()).unwrap();
        shell.becomes("sleep");
        let pages = shell.pages();
        assert_eq!(known.read(&pages, &mut one), Err(Errno::ESRCH));
        assert_eq!(unknown.read(&pages, &mut one), Err(Errno::ESRCH));
        let now = shell.reader(Some(Anchor::find(shell.0.id()).unwrap()));
        assert_eq!(now.read(&pages, &mut one), Ok(whole));
    }
}
