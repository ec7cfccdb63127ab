//! A record of little-endian fields, built field by field.

/// Bytes of a C structure in the making.
#[derive(Default)]
pub(super) struct Record(Vec<u8>);

impl Record {
    /// Makes an empty record that will have `len` bytes.
    pub(super) fn with_len(len: usize) -> Self {
        Self(Vec::with_capacity(len))
    }

    /// Adds bytes as they are.
    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Adds `len` zero bytes.
    pub(super) fn zeros(mut self, len: usize) -> Self {
        self.0.resize(self.0.len() + len, 0);
        self
    }

    /// Adds 16-bit fields.
    pub(super) fn u16<const N: usize>(self, fields: [u16; N]) -> Self {
        self.bytes(fields.map(u16::to_le_bytes).as_flattened())
    }

    /// Adds 32-bit fields.
    pub(super) fn u32<const N: usize>(self, fields: [u32; N]) -> Self {
        self.bytes(fields.map(u32::to_le_bytes).as_flattened())
    }

    /// Adds 64-bit fields.
    pub(super) fn u64<const N: usize>(self, fields: [u64; N]) -> Self {
        self.bytes(fields.map(u64::to_le_bytes).as_flattened())
    }

    /// Adds a text field of `len` bytes: cut so that a zero byte remains at its end.
    pub(super) fn text(mut self, text: &[u8], len: usize) -> Self {
        let text = &text[..text.len().min(len - 1)];
        self.0.extend_from_slice(text);
        self.zeros(len - text.len())
    }

    /// Returns the record.
    ///
    /// # Panics
    ///
    /// Panics if it has not `len` bytes: a field was forgotten.
    pub(super) fn finish(self, len: usize) -> Vec<u8> {
        assert_eq!(self.0.len(), len, "the record has every field");
        self.0
    }
}
