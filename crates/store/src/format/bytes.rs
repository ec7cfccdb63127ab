//! Reading fixed-width fields out of bytes that nobody vouches for.

use std::io::Read;

/// What is wrong with a file of the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// It ends too early.
    #[error("it is cut short: {what} needs {needed} bytes, {found} are there")]
    Short {
        /// The part that is cut.
        what: &'static str,
        /// Bytes the part needs.
        needed: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// It is no file of this kind.
    #[error("it is no {0} of a snapshot store")]
    Magic(&'static str),
    /// It was written by a newer version.
    #[error("its format has version {found}, this program knows {known}: use a newer one")]
    Version {
        /// The version of the file.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// Its checksum does not match: bytes were changed.
    #[error("the checksum of {0} is wrong: bytes were changed")]
    Checksum(&'static str),
    /// A number in it is larger than allowed.
    #[error("{what} is {found}, allowed are {limit}")]
    TooLarge {
        /// The number.
        what: &'static str,
        /// Its value.
        found: u64,
        /// The largest allowed value.
        limit: u64,
    },
    /// It contradicts itself.
    #[error("it contradicts itself: {0}")]
    Inconsistent(&'static str),
    /// A compressed part can't be unpacked.
    #[error("{0} can't be unpacked")]
    Unpack(&'static str),
    /// Its description is no JSON of the expected shape.
    #[error("{what} can't be understood: {problem}")]
    Json {
        /// The part.
        what: &'static str,
        /// What the parser says.
        problem: String,
    },
}

/// A cursor over bytes whose length was not checked yet.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], FormatError> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(FormatError::Short {
                what: self.what,
                needed: len as u64,
                found: self.rest.len() as u64,
            });
        };
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, FormatError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Checks that `len` bytes are zero, so that they can get a meaning later.
    pub(super) fn reserved(&mut self, len: usize) -> Result<(), FormatError> {
        if self.take(len)?.iter().any(|&byte| byte != 0) {
            return Err(FormatError::Inconsistent("reserved bytes are not zero"));
        }
        Ok(())
    }

    pub(super) fn end(&self) -> Result<(), FormatError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(FormatError::Inconsistent("there are bytes behind its end"))
    }
}

/// Refuses numbers above a limit, and turns the others into an index type.
pub(super) fn limited(what: &'static str, found: u64, limit: u64) -> Result<usize, FormatError> {
    usize::try_from(found)
        .ok()
        .filter(|_| found <= limit)
        .ok_or(FormatError::TooLarge { what, found, limit })
}

/// The widest window a frame may ask for (8 MiB): what unpacking may take beside its result.
const WINDOW_LOG_MAX: u32 = 23;

/// Unpacks a zstd frame that must hold exactly `len` bytes, growing as data comes: a lying length
/// costs nothing. The frame may grow by `ratio_max` at most.
pub(super) fn unpack(
    what: &'static str,
    packed: &[u8],
    len: usize,
    ratio_max: usize,
) -> Result<Vec<u8>, FormatError> {
    const STEP: usize = 1 << 20;
    let broken = |_| FormatError::Unpack(what);
    limited(
        what,
        len as u64,
        (packed.len() as u64).saturating_mul(ratio_max as u64),
    )?;
    let mut decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(broken)?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(broken)?;
    let mut limited = decoder.take(len as u64 + 1);
    let mut bytes = Vec::with_capacity(len.min(STEP));
    limited.read_to_end(&mut bytes).map_err(broken)?;
    if bytes.len() != len {
        return Err(FormatError::Inconsistent(
            "a packed part has another length than said",
        ));
    }
    Ok(bytes)
}

/// Checks a BLAKE3 checksum.
pub(super) fn check_hash(what: &'static str, bytes: &[u8], hash: &[u8]) -> Result<(), FormatError> {
    if blake3::hash(bytes).as_bytes() != hash {
        return Err(FormatError::Checksum(what));
    }
    Ok(())
}
