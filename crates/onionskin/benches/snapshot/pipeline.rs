//! The bare pipeline: reads, hashes and compresses on all cores, and keeps nothing, or writes what
//! came out to files and has them synced, without which nothing is safe.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use space::{AddressSpace, ByteLen, PageRange, PageSource};

/// Bytes read at once.
const PIECE: usize = 1 << 20;
/// Pages that are hashed and compressed together, as the store does.
const CHUNK_PAGES: usize = 16;

/// Runs it over memory of a process, and writes to files in `folder` if there is one; returns how
/// long it took.
pub(crate) fn run(pid: u32, memory: PageRange, folder: Option<&Path>) -> Result<Duration> {
    let target = sys::Target::open(pid)?;
    let reader = target.reader();
    let chunk = target.page_size().as_usize() * CHUNK_PAGES;
    let pieces = pieces(memory)?;
    let threads = std::thread::available_parallelism()?.get();
    let next = AtomicUsize::new(0);
    let (next, pieces, reader) = (&next, &pieces, &*reader);
    let ready = std::sync::Barrier::new(threads + 1);
    let ready = &ready;
    std::thread::scope(|scope| {
        let crew: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(move || -> Result<()> {
                    let mut compressor = zstd::bulk::Compressor::new(1)?;
                    let mut piece = vec![1; PIECE];
                    let mut packed = vec![1; zstd::zstd_safe::compress_bound(chunk)];
                    let mut file = folder.map(tempfile::tempfile_in).transpose()?;
                    ready.wait();
                    while let Some(&range) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let bytes = &mut piece[..range.len().as_usize()];
                        reader.read(&[range], bytes)?;
                        for chunk in bytes.chunks(chunk) {
                            std::hint::black_box(blake3::hash(chunk));
                            let len = compressor.compress_to_buffer(chunk, &mut packed[..])?;
                            if let Some(file) = &mut file {
                                file.write_all(&packed[..len])?;
                            }
                            std::hint::black_box(&packed);
                        }
                    }
                    file.as_ref().map_or(Ok(()), File::sync_all)?;
                    Ok(())
                })
            })
            .collect();
        ready.wait();
        let began = Instant::now();
        for thread in crew {
            thread
                .join()
                .ok()
                .context("a thread of the pipeline panicked")??;
        }
        Ok(began.elapsed())
    })
}

fn pieces(memory: PageRange) -> Result<Vec<PageRange>> {
    let mut pieces = Vec::new();
    let mut start = memory.start();
    while start < memory.end() {
        let end = start
            .checked_add(ByteLen(PIECE as u64))
            .context("within the memory")?;
        let piece = PageRange::new(start, end.min(memory.end())).context("not empty")?;
        start = piece.end();
        pieces.push(piece);
    }
    Ok(pieces)
}
