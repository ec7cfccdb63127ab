//! Lengths and addresses of programs, in pages rather than bytes, so that a program means the same
//! on every page size.

use std::fmt;

use super::field::{Field, FieldError, number};

/// The sizes that amounts are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of a base page.
    pub page: u64,
    /// Bytes of a huge page: what one entry of the second level maps.
    pub huge: u64,
}

impl Geometry {
    /// Four-KiB pages and two-MiB huge pages.
    pub const X86_64: Self = Self {
        page: 1 << 12,
        huge: 1 << 21,
    };
}

/// A number of bytes as a sum of huge pages, pages and bytes: `1h+2p-8`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Huge pages.
    pub huge: i64,
    /// Base pages.
    pub pages: i64,
    /// Bytes.
    pub bytes: i64,
}

impl Amount {
    /// This many pages.
    pub const fn pages(pages: i64) -> Self {
        Self {
            huge: 0,
            pages,
            bytes: 0,
        }
    }

    /// This many huge pages.
    pub const fn huge(huge: i64) -> Self {
        Self {
            huge,
            pages: 0,
            bytes: 0,
        }
    }

    /// This many bytes.
    pub const fn bytes(bytes: i64) -> Self {
        Self {
            huge: 0,
            pages: 0,
            bytes,
        }
    }

    /// The number of bytes, as a program's argument: it may wrap.
    pub fn resolve(self, geometry: Geometry) -> u64 {
        let huge = geometry.huge.wrapping_mul(self.huge.cast_unsigned());
        let pages = geometry.page.wrapping_mul(self.pages.cast_unsigned());
        huge.wrapping_add(pages)
            .wrapping_add(self.bytes.cast_unsigned())
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut empty = true;
        for (count, unit) in [(self.huge, "h"), (self.pages, "p"), (self.bytes, "")] {
            if count == 0 {
                continue;
            }
            let sign = match (count < 0, empty) {
                (true, _) => "-",
                (false, true) => "",
                (false, false) => "+",
            };
            let size = count.unsigned_abs();
            if size >= 1 << 16 {
                write!(f, "{sign}{size:#x}{unit}")?;
            } else {
                write!(f, "{sign}{size}{unit}")?;
            }
            empty = false;
        }
        if empty { f.write_str("0") } else { Ok(()) }
    }
}

impl Field for Amount {
    const WHAT: &'static str = "an amount, as 2p or 1h+3p-8";

    fn parse(word: &str) -> Result<Self, FieldError> {
        let wrong = || FieldError::new::<Self>(word);
        let mut amount = Self::default();
        let mut rest = word;
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let (negative, term) = match rest.strip_prefix('-') {
                Some(term) => (true, term),
                None => (false, rest.strip_prefix('+').unwrap_or(rest)),
            };
            let end = term.find(['+', '-']).unwrap_or(term.len());
            let (term, behind) = term.split_at(end);
            rest = behind;
            let (digits, slot) = if let Some(digits) = term.strip_suffix('h') {
                (digits, &mut amount.huge)
            } else if let Some(digits) = term.strip_suffix('p') {
                (digits, &mut amount.pages)
            } else {
                (term, &mut amount.bytes)
            };
            let count = number(digits).ok_or_else(wrong)?.cast_signed();
            *slot = slot.wrapping_add(if negative {
                count.wrapping_neg()
            } else {
                count
            });
        }
        Ok(amount)
    }

    fn simpler(&self) -> Vec<Self> {
        let mut simpler = Vec::new();
        if self.bytes != 0 {
            simpler.push(Self { bytes: 0, ..*self });
        }
        if self.pages > 0 {
            simpler.push(Self {
                pages: self.pages / 2,
                ..*self
            });
            simpler.push(Self {
                pages: self.pages - 1,
                ..*self
            });
        }
        if self.huge > 0 {
            simpler.push(Self {
                huge: self.huge - 1,
                ..*self
            });
        }
        simpler
    }
}

/// Where in memory: in the arena (`@3p`), at a raw address that the kernel refuses, or one of the
/// runs of known bytes that can be copied from (`=0x5a`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// Behind the arena's start.
    Arena(Amount),
    /// An address as it is.
    Raw(u64),
    /// Pages filled with a byte: a source for copies.
    Pattern(u8),
    /// What the step of this number returned, and an amount behind it: an address that the kernel
    /// chose.
    Chosen(u32, Amount),
}

impl Address {
    /// Pages behind the arena's start.
    pub const fn page(page: i64) -> Self {
        Self::Arena(Amount::pages(page))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arena(amount) => write!(f, "@{amount}"),
            Self::Raw(address) => write!(f, "{address:#x}"),
            Self::Pattern(byte) => write!(f, "={byte:#04x}"),
            Self::Chosen(step, amount) => write!(f, "${step}:{amount}"),
        }
    }
}

impl Field for Address {
    fn map_address(self, replace: &mut dyn FnMut(Address) -> Address) -> Self {
        replace(self)
    }

    const WHAT: &'static str = "an address, as @3p, =0x5a, $4:1p or 0xffff000000000000";

    fn parse(word: &str) -> Result<Self, FieldError> {
        let wrong = || FieldError::new::<Self>(word);
        if let Some(amount) = word.strip_prefix('@') {
            return Amount::parse(amount).map(Self::Arena).map_err(|_| wrong());
        }
        if let Some(byte) = word.strip_prefix('=') {
            let byte = number(byte).and_then(|byte| u8::try_from(byte).ok());
            return byte.map(Self::Pattern).ok_or_else(wrong);
        }
        if let Some(chosen) = word.strip_prefix('$') {
            let (step, amount) = chosen.split_once(':').ok_or_else(wrong)?;
            let step = step.parse().map_err(|_| wrong())?;
            let amount = Amount::parse(amount).map_err(|_| wrong())?;
            return Ok(Self::Chosen(step, amount));
        }
        number(word).map(Self::Raw).ok_or_else(wrong)
    }

    fn simpler(&self) -> Vec<Self> {
        match self {
            Self::Arena(amount) => amount.simpler().into_iter().map(Self::Arena).collect(),
            Self::Chosen(step, amount) => {
                let simpler = amount.simpler().into_iter();
                simpler.map(|amount| Self::Chosen(*step, amount)).collect()
            }
            Self::Raw(_) | Self::Pattern(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_and_written() {
        for text in [
            "0",
            "3p",
            "1h+2p",
            "1h-1p",
            "-8",
            "2p+1",
            "0xffffffffffff",
            "1h+2p-8",
        ] {
            assert_eq!(Amount::parse(text).unwrap().to_string(), text);
        }
        let amount = Amount::parse("1h+2p-8").unwrap();
        assert_eq!(amount.resolve(Geometry::X86_64), 0x20_1FF8);
        assert_eq!(
            Amount::parse("-1p").unwrap().resolve(Geometry::X86_64),
            u64::MAX - 4095
        );
        for text in ["", "p", "1q", "1h+", "++1"] {
            assert!(Amount::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_are_read_and_written() {
        for text in ["@0", "@3p+8", "=0x5a", "0x1000", "$4:1p"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "@", "=0x100", "$x:1", "$1", "here"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }
}
