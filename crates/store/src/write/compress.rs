//! Compressing chunks, into memory that is used again.
//!
//! What is compressed waits in a pack until that is written, and its memory would then go back to
//! the system and come anew, page by page: a tenth of the time that a first snapshot takes.

use std::{
    cell::RefCell,
    io::Cursor,
    sync::{Arc, Mutex},
};

use bytes::Bytes;

use crate::store::lock;

/// zstd's level: the fastest of the ordinary ones.
const LEVEL: i32 = 1;

/// As many are kept as a pack of half compressible pages takes, twice.
const KEPT_MAX: usize = 32;

/// Memory of packs that were written, for the next ones.
#[derive(Default)]
pub(super) struct Buffers {
    free: Mutex<Vec<Vec<u8>>>,
}

/// Memory in use: it goes back to the others once nobody reads it any more.
struct Lent {
    buf: Vec<u8>,
    home: Arc<Buffers>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buf
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut free = lock(&self.home.free);
        if free.len() < KEPT_MAX {
            free.push(std::mem::take(&mut self.buf));
        }
    }
}

thread_local! {
    static CONTEXT: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
}

impl Buffers {
    /// Compresses chunks one behind the other into one piece of memory, of which each is a part:
    /// what is stored is written once, and not copied. A chunk that does not become shorter is
    /// copied.
    pub(super) fn compress(self: &Arc<Self>, chunks: &[&[u8]]) -> Vec<Bytes> {
        let mut packed = Cursor::new(self.take(room(chunks)));
        let mut ends = Vec::with_capacity(chunks.len());
        CONTEXT.with_borrow_mut(|context| {
            if context.is_none() {
                *context = zstd::bulk::Compressor::new(LEVEL).ok();
            }
            for chunk in chunks {
                let start = packed.get_ref().len();
                packed.set_position(start as u64);
                let len = context
                    .as_mut()
                    .and_then(|context| context.compress_to_buffer(chunk, &mut packed).ok());
                if len.is_none_or(|len| len >= chunk.len()) {
                    packed.get_mut().truncate(start);
                    packed.get_mut().extend_from_slice(chunk);
                }
                ends.push(packed.get_ref().len());
            }
        });
        let lent = Lent {
            buf: packed.into_inner(),
            home: Arc::clone(self),
        };
        // Little in a large buffer, which may have been full before, would hold memory for nothing.
        let packed = if lent.buf.len() < lent.buf.capacity() / 4 {
            Bytes::copy_from_slice(&lent.buf)
        } else {
            Bytes::from_owner(lent)
        };
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let parts = starts.zip(&ends);
        parts
            .map(|(start, &end)| packed.slice(start..end))
            .collect()
    }

    /// Frees what is kept: nothing is compressed any more.
    pub(super) fn give_back(&self) {
        lock(&self.free).clear();
    }

    /// Returns an empty buffer with room for `len` bytes.
    fn take(&self, len: usize) -> Vec<u8> {
        let mut buf = lock(&self.free).pop().unwrap_or_default();
        buf.clear();
        buf.reserve_exact(len);
        buf
    }
}

/// The room that chunks take at most. What is not written to is no memory yet.
fn room(chunks: &[&[u8]]) -> usize {
    let bounds = chunks
        .iter()
        .map(|chunk| zstd::zstd_safe::compress_bound(chunk.len()));
    bounds.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_compressed_or_kept_as_they_are() {
        let mut random = [0; 4096];
        getrandom::fill(&mut random).unwrap();
        let chunks: [&[u8]; 4] = [&[7; 65536], &random, &[], &[1, 2, 3]];
        let stored = Arc::new(Buffers::default()).compress(&chunks);
        assert_eq!(stored.len(), chunks.len());
        assert!(stored[0].len() < 1000);
        assert_eq!(
            zstd::bulk::decompress(&stored[0], 65536).unwrap(),
            chunks[0]
        );
        for (stored, chunk) in stored.iter().zip(chunks).skip(1) {
            assert_eq!(stored, chunk);
        }
    }

    #[test]
    fn memory_is_used_again_once_nobody_reads_it() {
        let mut random = [0; 4096];
        getrandom::fill(&mut random).unwrap();
        let buffers = Arc::new(Buffers::default());
        let free = || lock(&buffers.free).len();
        let one = buffers.compress(&[&random, &random]);
        let two = buffers.compress(&[&random]);
        assert_eq!(free(), 0);
        drop(two);
        let part = one.into_iter().next_back();
        assert_eq!(free(), 1, "a part of the other is read still");
        drop(part);
        assert_eq!(free(), 2);
        let again = buffers.compress(&[&random]);
        assert_eq!(free(), 1);
        assert_eq!(again[0], random[..]);
    }

    #[test]
    fn little_holds_no_large_buffer_and_few_are_kept() {
        let mut random = [0; 4096];
        getrandom::fill(&mut random).unwrap();
        let buffers = Arc::new(Buffers::default());
        let free = || lock(&buffers.free).len();
        let little = buffers.compress(&[&[4; 4096]]);
        assert_eq!(free(), 1);
        let page = zstd::bulk::decompress(&little[0], 4096).unwrap();
        assert_eq!(page, [4; 4096]);
        let many: Vec<_> = (0..2 * KEPT_MAX)
            .map(|_| buffers.compress(&[&random]))
            .collect();
        drop(many);
        assert_eq!(free(), KEPT_MAX);
    }
}
