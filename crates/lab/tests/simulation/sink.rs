//! A sink that remembers two words of each page, in layers over what snapshots before it took.

use std::collections::BTreeMap;
use std::sync::Mutex;

use engine::Verifier;
use space::{ByteLen, PageRange, PageSink, PageSize};

/// What stands for a page's content: its first and its last word.
pub(crate) type Value = (u64, u64);

/// The value of a page's bytes.
pub(crate) fn value_of(bytes: &[u8]) -> Value {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    (word(0), word(bytes.len() - 8))
}

/// What the chain of finished snapshots holds, by address.
pub(crate) type Chain = BTreeMap<u64, Value>;

/// There is no more room.
#[derive(Debug)]
pub(crate) struct Full;

impl std::fmt::Display for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("full")
    }
}

pub(crate) struct Layer<'a> {
    chain: &'a Chain,
    page_size: PageSize,
    state: Mutex<State>,
}

struct State {
    /// `None` for discarded pages.
    pages: BTreeMap<u64, Option<Value>>,
    /// Calls until it is full.
    left: u64,
}

impl<'a> Layer<'a> {
    pub(crate) fn new(chain: &'a Chain, page_size: PageSize, calls: Option<u64>) -> Self {
        let state = State {
            pages: BTreeMap::new(),
            left: calls.unwrap_or(u64::MAX),
        };
        Self {
            chain,
            page_size,
            state: Mutex::new(state),
        }
    }

    /// The chain with this layer on top.
    pub(crate) fn finish(self) -> Chain {
        let mut chain = self.chain.clone();
        for (page, value) in self.state.into_inner().unwrap().pages {
            match value {
                Some(value) => chain.insert(page, value),
                None => chain.remove(&page),
            };
        }
        chain
    }

    fn pages(&self, range: PageRange) -> impl Iterator<Item = PageRange> + use<> {
        range.chunks(ByteLen(self.page_size.bytes()))
    }

    fn set(&self, range: PageRange, value: impl Fn(usize) -> Option<Value>) -> Result<(), Full> {
        let mut state = self.state.lock().unwrap();
        if state.left == 0 {
            return Err(Full);
        }
        state.left -= 1;
        for (index, page) in self.pages(range).enumerate() {
            state.pages.insert(page.start().0, value(index));
        }
        Ok(())
    }
}

impl PageSink for Layer<'_> {
    type Error = Full;

    fn put(&self, range: PageRange, bytes: &[u8]) -> Result<(), Full> {
        assert_eq!(bytes.len() as u64, range.len().0, "as many bytes as pages");
        let size = self.page_size.as_usize();
        self.set(range, |index| {
            Some(value_of(&bytes[index * size..][..size]))
        })
    }

    fn put_zeros(&self, range: PageRange) -> Result<(), Full> {
        self.set(range, |_| Some((0, 0)))
    }

    fn discard(&self, range: PageRange) -> Result<(), Full> {
        // Whole mappings may be discarded, of which next to nothing was ever held.
        let mut state = self.state.lock().unwrap();
        let (start, end) = (range.start().0, range.end().0);
        let held: Vec<u64> = self
            .chain
            .range(start..end)
            .map(|(&page, _)| page)
            .collect();
        let put: Vec<u64> = state
            .pages
            .range(start..end)
            .map(|(&page, _)| page)
            .collect();
        state
            .pages
            .extend(held.into_iter().chain(put).map(|page| (page, None)));
        Ok(())
    }
}

impl Verifier for Layer<'_> {
    fn differs(&self, range: PageRange, bytes: &[u8]) -> Result<Vec<PageRange>, Full> {
        let state = self.state.lock().unwrap();
        let pages = self
            .pages(range)
            .zip(bytes.chunks(self.page_size.as_usize()));
        let differing = pages.filter(|(page, bytes)| {
            let at = page.start().0;
            let known = match state.pages.get(&at) {
                Some(own) => *own,
                None => self.chain.get(&at).copied(),
            };
            known != Some(value_of(bytes))
        });
        Ok(differing.map(|(page, _)| page).collect())
    }
}
