//! A sink that remembers one number a page, in layers over what snapshots before it took.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use engine::Verifier;
use space::{PageRange, PageSink};

use crate::fake::Ticker;
use crate::world::{PAGE, number_of};

/// What the chain of finished snapshots holds, by page number.
pub(crate) type Chain = BTreeMap<u64, u64>;

#[derive(Debug)]
pub(crate) struct Full;

impl std::fmt::Display for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("full")
    }
}

pub(crate) struct Layer<'a> {
    chain: &'a Chain,
    state: Mutex<State>,
    forgetful: bool,
    /// Microseconds that pass with each call.
    slow: Option<(Ticker, u64)>,
}

struct State {
    /// `None` for discarded pages.
    pages: BTreeMap<u64, Option<u64>>,
    /// Calls until it is full.
    left: u64,
}

impl<'a> Layer<'a> {
    pub(crate) fn new(chain: &'a Chain, calls: Option<u64>, forgetful: bool) -> Self {
        let state = State {
            pages: BTreeMap::new(),
            left: calls.unwrap_or(u64::MAX),
        };
        Self {
            chain,
            state: Mutex::new(state),
            forgetful,
            slow: None,
        }
    }

    /// Lets so much time pass with each call.
    pub(crate) fn slow(mut self, clock: &Ticker, micros: u64) -> Self {
        self.slow = Some((clock.clone(), micros));
        self
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        if let Some((clock, micros)) = &self.slow {
            clock.pass(*micros);
        }
        self.state.lock().unwrap()
    }

    /// The chain with this layer on top.
    pub(crate) fn finish(self) -> Chain {
        let mut chain = self.chain.clone();
        for (page, number) in self.state.into_inner().unwrap().pages {
            match number {
                Some(number) => chain.insert(page, number),
                None => chain.remove(&page),
            };
        }
        chain
    }

    fn set(&self, range: PageRange, number: impl Fn(usize) -> Option<u64>) -> Result<(), Full> {
        let mut state = self.lock();
        if state.left == 0 {
            return Err(Full);
        }
        state.left -= 1;
        for (index, page) in pages(range).enumerate() {
            if self.forgetful && page % 5 == 0 {
                continue;
            }
            state.pages.insert(page, number(index));
        }
        Ok(())
    }
}

impl PageSink for Layer<'_> {
    type Error = Full;

    fn put(&self, range: PageRange, bytes: &[u8]) -> Result<(), Full> {
        assert_eq!(bytes.len() as u64, range.len().0, "as many bytes as pages");
        let page = usize::try_from(PAGE).unwrap();
        self.set(range, |index| {
            Some(number_of(&bytes[index * page..][..page]))
        })
    }

    fn put_zeros(&self, range: PageRange) -> Result<(), Full> {
        self.set(range, |_| Some(0))
    }

    fn discard(&self, range: PageRange) -> Result<(), Full> {
        self.set(range, |_| None)
    }
}

impl Verifier for Layer<'_> {
    fn differs(&self, range: PageRange, bytes: &[u8]) -> Result<Vec<PageRange>, Full> {
        let state = self.lock();
        let page_len = usize::try_from(PAGE).unwrap();
        let differing = pages(range)
            .zip(bytes.chunks(page_len))
            .filter(|(page, bytes)| {
                let known = match state.pages.get(page) {
                    Some(own) => *own,
                    None => self.chain.get(page).copied(),
                };
                known != Some(number_of(bytes))
            });
        Ok(differing
            .map(|(page, _)| crate::world::range(page, page + 1))
            .collect())
    }
}

pub(crate) fn pages(range: PageRange) -> impl Iterator<Item = u64> {
    range.start().0 / PAGE..range.end().0 / PAGE
}
