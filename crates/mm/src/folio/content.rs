//! What stands in a page.

/// The bytes of one base page. A page of one repeated byte is kept as that byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// All bytes are this one.
    Fill(u8),
    /// The bytes themselves.
    Bytes(Box<[u8]>),
}

impl Default for Content {
    fn default() -> Self {
        Self::Fill(0)
    }
}

impl Content {
    /// A page of zeros.
    pub const ZERO: Self = Self::Fill(0);

    /// Tells whether every byte is zero, without looking at each: a page that was written may
    /// be called not zero although it is.
    #[cfg(test)]
    pub(crate) fn is_plainly_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// Copies bytes out, from `offset` on.
    pub fn read(&self, offset: usize, buf: &mut [u8]) {
        match self {
            Self::Fill(byte) => buf.fill(*byte),
            Self::Bytes(bytes) => buf.copy_from_slice(&bytes[offset..offset + buf.len()]),
        }
    }

    /// Copies bytes in, from `offset` on, in a page of `page_size` bytes.
    pub fn write(&mut self, offset: usize, bytes: &[u8], page_size: usize) {
        if let Self::Fill(old) = *self {
            if bytes.iter().all(|&byte| byte == old) {
                return;
            }
            if bytes.len() == page_size && bytes.iter().all(|&byte| byte == bytes[0]) {
                *self = Self::Fill(bytes[0]);
                return;
            }
            *self = Self::Bytes(vec![old; page_size].into_boxed_slice());
        }
        if let Self::Bytes(page) = self {
            page[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
    }

    /// Makes every byte from `offset` on the same.
    pub fn fill(&mut self, offset: usize, len: usize, byte: u8, page_size: usize) {
        if len == page_size {
            *self = Self::Fill(byte);
        } else if *self != Self::Fill(byte) {
            let old = match self {
                Self::Fill(old) => *old,
                Self::Bytes(page) => {
                    page[offset..offset + len].fill(byte);
                    return;
                }
            };
            let mut page = vec![old; page_size].into_boxed_slice();
            page[offset..offset + len].fill(byte);
            *self = Self::Bytes(page);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_repeated_byte_takes_no_page() {
        let mut content = Content::default();
        content.write(100, &[0; 8], 4096);
        assert_eq!(content, Content::Fill(0));
        content.write(0, &[7; 4096], 4096);
        assert_eq!(content, Content::Fill(7));
        content.write(4095, &[9], 4096);
        let mut last = [0; 2];
        content.read(4094, &mut last);
        assert_eq!(last, [7, 9]);
        content.fill(0, 4096, 0, 4096);
        assert!(content.is_plainly_zero());
    }
}
