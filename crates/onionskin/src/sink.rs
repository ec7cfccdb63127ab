//! The store's writer as the engine wants it.

use engine::Verifier;
use space::{PageRange, PageSink};
use store::{WriteError, Writer};

/// A writer that can also compare what it took.
pub(crate) struct Sink(pub(crate) Writer);

impl PageSink for Sink {
    type Error = WriteError;

    fn put(&self, range: PageRange, bytes: &[u8]) -> Result<(), WriteError> {
        self.0.put(range, bytes)
    }

    fn put_zeros(&self, range: PageRange) -> Result<(), WriteError> {
        self.0.put_zeros(range)
    }

    fn discard(&self, range: PageRange) -> Result<(), WriteError> {
        self.0.discard(range)
    }
}

impl Verifier for Sink {
    fn differs(&self, range: PageRange, bytes: &[u8]) -> Result<Vec<PageRange>, WriteError> {
        Ok(self.0.differs(range, bytes)?)
    }
}
