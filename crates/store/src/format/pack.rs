//! A pack: chunks one behind the other, then an index of them, then a trailer.
//!
//! # On-disk layout
//!
//! | bytes | what |
//! |---|---|
//! | n | the chunks' stored bytes |
//! | 48 each | the index, in order of offset: hash (32), offset, stored length, raw length (u32 each), reserved (4) |
//! | 32 | BLAKE3 of the index |
//! | 4, 4, 8 | entries (u32), version (u32), magic `ONIONPCK` |

use super::{
    FormatError,
    bytes::{Fields, check_hash, limited},
};

/// The most pages a chunk holds.
pub const CHUNK_PAGES_MAX: u32 = 16;
/// The most raw bytes a chunk holds: 16 pages of 64 KiB.
pub const CHUNK_BYTES_MAX: u32 = 1 << 20;
/// The longest pack.
pub const PACK_BYTES_MAX: u64 = 64 << 20;
/// Bytes of the part at the end that says how long the index is.
pub const TRAILER_BYTES: usize = 48;

/// Bytes of an index entry.
pub(crate) const ENTRY_BYTES: usize = 48;
/// The smallest chunk: one page of 4 KiB.
const RAW_BYTES_MIN: u32 = 1 << 12;
const MAGIC: &[u8; 8] = b"ONIONPCK";
const VERSION: u32 = 1;

/// Where a chunk lies in its pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackEntry {
    /// BLAKE3 of the raw bytes.
    pub hash: [u8; 32],
    /// Byte offset in the pack.
    pub offset: u32,
    /// Stored bytes; equal to `raw` where the chunk is not compressed.
    pub stored: u32,
    /// Raw bytes.
    pub raw: u32,
}

/// What a pack says it holds, in order of offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackIndex {
    /// The chunks.
    pub entries: Vec<PackEntry>,
}

/// Encodes index and trailer: what follows the chunks.
pub(crate) fn encode_pack_footer(entries: &[PackEntry]) -> Vec<u8> {
    let count = u32::try_from(entries.len()).expect("a pack has fewer than 2^32 chunks");
    let mut out = Vec::with_capacity(entries.len() * ENTRY_BYTES + TRAILER_BYTES);
    for entry in entries {
        out.extend_from_slice(&entry.hash);
        for number in [entry.offset, entry.stored, entry.raw, 0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
    let hash = blake3::hash(&out);
    out.extend_from_slice(hash.as_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(MAGIC);
    out
}

/// Reads the trailer, the last [`TRAILER_BYTES`] of a pack, and returns how many bytes index and
/// trailer take together at the end of the pack.
///
/// # Errors
///
/// Any [`FormatError`].
pub fn decode_trailer(trailer: &[u8]) -> Result<usize, FormatError> {
    let start = trailer
        .len()
        .checked_sub(TRAILER_BYTES)
        .ok_or(FormatError::Short {
            what: "the trailer of a pack",
            needed: TRAILER_BYTES as u64,
            found: trailer.len() as u64,
        })?;
    let mut fields = Fields::new(&trailer[start + 32..], "the trailer of a pack");
    let count = fields.u32()?;
    let version = fields.u32()?;
    if fields.take(MAGIC.len())? != MAGIC {
        return Err(FormatError::Magic("pack"));
    }
    if version != VERSION {
        return Err(FormatError::Version {
            found: version,
            known: VERSION,
        });
    }
    let most = PACK_BYTES_MAX / ENTRY_BYTES as u64;
    let count = limited("the number of chunks in a pack", u64::from(count), most)?;
    Ok(count * ENTRY_BYTES + TRAILER_BYTES)
}

/// Reads index and trailer, the end of a pack of `pack_len` bytes. `tail` may reach further to
/// the front than the index does.
///
/// # Errors
///
/// Any [`FormatError`].
pub fn decode_pack_index(tail: &[u8], pack_len: u64) -> Result<PackIndex, FormatError> {
    limited("the length of a pack", pack_len, PACK_BYTES_MAX)?;
    let footer_len = decode_trailer(tail)?;
    let start = tail
        .len()
        .checked_sub(footer_len)
        .filter(|_| footer_len as u64 <= pack_len)
        .ok_or(FormatError::Short {
            what: "the index of a pack",
            needed: footer_len as u64,
            found: (tail.len() as u64).min(pack_len),
        })?;
    let (index, trailer) = tail[start..].split_at(footer_len - TRAILER_BYTES);
    check_hash("the index of a pack", index, &trailer[..32])?;
    let chunks_end = pack_len - footer_len as u64;
    let mut entries = Vec::with_capacity(index.len() / ENTRY_BYTES);
    let mut at = 0;
    for bytes in index.chunks_exact(ENTRY_BYTES) {
        let entry = decode_entry(bytes)?;
        if u64::from(entry.offset) != at {
            return Err(FormatError::Inconsistent(
                "chunks of a pack leave gaps or overlap",
            ));
        }
        at += u64::from(entry.stored);
        entries.push(entry);
    }
    if at != chunks_end {
        return Err(FormatError::Inconsistent(
            "a pack's index is not for its length",
        ));
    }
    Ok(PackIndex { entries })
}

fn decode_entry(bytes: &[u8]) -> Result<PackEntry, FormatError> {
    let mut fields = Fields::new(bytes, "an entry of a pack's index");
    let entry = PackEntry {
        hash: fields.array()?,
        offset: fields.u32()?,
        stored: fields.u32()?,
        raw: fields.u32()?,
    };
    fields.reserved(4)?;
    check_lengths(entry.stored, entry.raw)?;
    Ok(entry)
}

/// Checks the lengths of a chunk, wherever they are written.
pub(super) fn check_lengths(stored: u32, raw: u32) -> Result<(), FormatError> {
    if raw > CHUNK_BYTES_MAX {
        return Err(FormatError::TooLarge {
            what: "the raw length of a chunk",
            found: u64::from(raw),
            limit: u64::from(CHUNK_BYTES_MAX),
        });
    }
    if raw < RAW_BYTES_MIN || !raw.is_multiple_of(RAW_BYTES_MIN) {
        return Err(FormatError::Inconsistent("a chunk is not whole pages"));
    }
    if stored == 0 || stored > raw {
        return Err(FormatError::Inconsistent(
            "a chunk is stored longer than it is, or empty",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Vec<PackEntry>, u64) {
        let entries = vec![
            PackEntry {
                hash: [1; 32],
                offset: 0,
                stored: 4096,
                raw: 4096,
            },
            PackEntry {
                hash: [2; 32],
                offset: 4096,
                stored: 100,
                raw: 65536,
            },
        ];
        (entries, 4196)
    }

    #[test]
    fn index_reads_back() {
        let (entries, chunk_bytes) = sample();
        let footer = encode_pack_footer(&entries);
        let len = chunk_bytes + footer.len() as u64;
        assert_eq!(decode_trailer(&footer), Ok(footer.len()));
        assert_eq!(decode_pack_index(&footer, len).unwrap().entries, entries);
        let mut more = vec![7; 10];
        more.extend_from_slice(&footer);
        assert_eq!(decode_pack_index(&more, len).unwrap().entries, entries);
        assert!(decode_pack_index(&footer, len + 1).is_err());
        assert!(decode_pack_index(&footer, 10).is_err());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let (entries, chunk_bytes) = sample();
        let footer = encode_pack_footer(&entries);
        let len = chunk_bytes + footer.len() as u64;
        for bit in 0..footer.len() * 8 {
            let mut wrong = footer.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_pack_index(&wrong, len).is_err(), "bit {bit}");
        }
        for cut in 1..=footer.len() {
            assert!(decode_pack_index(&footer[cut..], len).is_err(), "cut {cut}");
        }
    }
}
