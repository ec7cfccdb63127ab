//! Bytes of a snapshot, by address.

use space::{PageRange, PageSize, PageSource, Vaddr};

/// How many bytes are read at a time.
const PIECE: u64 = 1 << 20;

/// A reader of what was taken, for tests: whole ranges and single words.
pub(crate) struct Pages<'a> {
    source: &'a dyn PageSource,
    page_size: PageSize,
}

impl<'a> Pages<'a> {
    pub(crate) fn new(source: &'a dyn PageSource, page_size: PageSize) -> Self {
        Self { source, page_size }
    }

    pub(crate) fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// Reads a range of whole pages; an error names the first page that is not there.
    pub(crate) fn read(&self, start: u64, len: u64) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < len {
            let at = start + bytes.len() as u64;
            let piece = PIECE.min(start + len - at);
            let range = PageRange::new(Vaddr(at), Vaddr(at + piece)).expect("whole pages");
            let done = bytes.len();
            bytes.resize(done + range.len().as_usize(), 0);
            let read = self.source.read(&[range], &mut bytes[done..]);
            match read {
                Ok(read) if read == range.len() => {}
                Ok(read) => return Err(format!("{:#x} is not there", at + read.0)),
                Err(errno) => return Err(format!("{at:#x} can't be read: {errno}")),
            }
        }
        Ok(bytes)
    }

    /// Reads one page, or `None` where it is not there.
    pub(crate) fn page(&self, start: u64) -> Option<Vec<u8>> {
        self.read(start, self.page_size.bytes()).ok()
    }

    /// Reads one word.
    pub(crate) fn word(&self, address: u64) -> Result<u64, String> {
        let start = Vaddr(address).align_down(self.page_size).0;
        let page = self.read(start, self.page_size.bytes())?;
        Ok(word(&page, address - start))
    }
}

/// Returns the word at an offset.
pub(crate) fn word(bytes: &[u8], at: u64) -> u64 {
    let at = usize::try_from(at).expect("an offset in a buffer");
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// The hash that the targets fill memory with (`mix` in `common.h`).
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
