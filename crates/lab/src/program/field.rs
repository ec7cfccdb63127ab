//! What an operation's arguments have in common: a text form, and simpler values to try when a
//! program is shrunk.

use std::fmt;

use super::Address;

/// A kind of argument.
pub trait Field: Copy + fmt::Display + Sized {
    /// What it is, for messages.
    const WHAT: &'static str;

    /// Reads it from one word.
    ///
    /// # Errors
    ///
    /// Fails if the word is none.
    fn parse(word: &str) -> Result<Self, FieldError>;

    /// Replaces it if it is an address.
    #[must_use]
    fn map_address(self, _replace: &mut dyn FnMut(Address) -> Address) -> Self {
        self
    }

    /// Values that are simpler than this one.
    fn simpler(&self) -> Vec<Self> {
        Vec::new()
    }
}

/// A word that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{word}' is not {what}")]
pub struct FieldError {
    word: String,
    what: &'static str,
}

impl FieldError {
    /// The word is no `F`.
    pub fn new<F: Field>(word: &str) -> Self {
        Self {
            word: word.to_owned(),
            what: F::WHAT,
        }
    }
}

/// Reads a number, decimal or with `0x`.
pub(super) fn number(word: &str) -> Option<u64> {
    let digits = |text: &str, radix| {
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        plain
            .then(|| u64::from_str_radix(text, radix).ok())
            .flatten()
    };
    match word.strip_prefix("0x") {
        Some(hex) => digits(hex, 16),
        None => digits(word, 10),
    }
}

/// A plain number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Number(pub u64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1 << 10 {
            write!(f, "{}", self.0)
        } else {
            write!(f, "{:#x}", self.0)
        }
    }
}

impl Field for Number {
    const WHAT: &'static str = "a number";

    fn parse(word: &str) -> Result<Self, FieldError> {
        number(word)
            .map(Self)
            .ok_or_else(|| FieldError::new::<Self>(word))
    }

    fn simpler(&self) -> Vec<Self> {
        match self.0 {
            0 => Vec::new(),
            value => vec![Self(0), Self(value / 2)],
        }
    }
}

/// A byte of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Byte(pub u8);

impl fmt::Display for Byte {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#04x}", self.0)
    }
}

impl Field for Byte {
    const WHAT: &'static str = "a byte, as 0x41";

    fn parse(word: &str) -> Result<Self, FieldError> {
        number(word)
            .and_then(|value| u8::try_from(value).ok())
            .map(Self)
            .ok_or_else(|| FieldError::new::<Self>(word))
    }
}

/// Defines numbered things with a letter: `f0`.
macro_rules! slots {
    ($($(#[$doc:meta])* $name:ident = $letter:literal, $what:literal, $count:literal;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
            pub struct $name(pub u8);

            impl $name {
                /// How many there may be.
                pub const COUNT: u8 = $count;
            }

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    write!(f, concat!($letter, "{}"), self.0)
                }
            }

            impl Field for $name {
                const WHAT: &'static str = $what;

                fn parse(word: &str) -> Result<Self, FieldError> {
                    word.strip_prefix($letter)
                        .and_then(|digits| digits.parse().ok())
                        .filter(|number| *number < $count)
                        .map(Self)
                        .ok_or_else(|| FieldError::new::<Self>(word))
                }
            }
        )*
    };
}

slots! {
    /// A memory file.
    FileSlot = "f", "a file from f0 to f7", 8;
    /// A userfaultfd.
    Context = "u", "a userfaultfd from u0 to u7", 8;
    /// A pipe.
    Pipe = "p", "a pipe from p0 to p7", 8;
    /// An io_uring.
    Ring = "r", "a ring from r0 to r3", 4;
    /// A process or thread: the program starts on l0.
    LaneSlot = "l", "a lane from l0 to l7", 8;
}

/// A memory file, or none (`-`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaybeFile(pub Option<FileSlot>);

impl fmt::Display for MaybeFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(slot) => slot.fmt(f),
            None => f.write_str("-"),
        }
    }
}

impl Field for MaybeFile {
    const WHAT: &'static str = "a file from f0 to f7, or -";

    fn parse(word: &str) -> Result<Self, FieldError> {
        if word == "-" {
            return Ok(Self(None));
        }
        let slot = FileSlot::parse(word).map_err(|_| FieldError::new::<Self>(word))?;
        Ok(Self(Some(slot)))
    }
}

/// Anything that can be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Closeable {
    /// A memory file.
    File(FileSlot),
    /// A userfaultfd.
    Context(Context),
    /// Both ends of a pipe.
    Pipe(Pipe),
    /// An io_uring.
    Ring(Ring),
}

impl fmt::Display for Closeable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(slot) => slot.fmt(f),
            Self::Context(slot) => slot.fmt(f),
            Self::Pipe(slot) => slot.fmt(f),
            Self::Ring(slot) => slot.fmt(f),
        }
    }
}

impl Field for Closeable {
    const WHAT: &'static str = "a file, userfaultfd, pipe or ring, as f0 or u1";

    fn parse(word: &str) -> Result<Self, FieldError> {
        let wrong = || FieldError::new::<Self>(word);
        match word.as_bytes().first() {
            Some(b'f') => FileSlot::parse(word).map(Self::File),
            Some(b'u') => Context::parse(word).map(Self::Context),
            Some(b'p') => Pipe::parse(word).map(Self::Pipe),
            Some(b'r') => Ring::parse(word).map(Self::Ring),
            _ => Err(wrong()),
        }
        .map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_written() {
        assert_eq!(Number::parse("0x10").unwrap(), Number(16));
        assert_eq!(Number(4096).to_string(), "0x1000");
        assert_eq!(Byte::parse("0x41").unwrap().to_string(), "0x41");
        assert_eq!(MaybeFile::parse("-").unwrap().to_string(), "-");
        assert_eq!(Closeable::parse("u3").unwrap().to_string(), "u3");
        for wrong in ["", "-1", "0x", "x", "0x1_0", "+1"] {
            assert!(Number::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Byte::parse("256").is_err());
        assert!(FileSlot::parse("f8").is_err());
        assert!(Closeable::parse("l0").is_err());
    }
}
