//! The bytes of the store's files: encoding and checked decoding. No I/O.
//!
//! All numbers are little-endian. Every decoder checks magic, version, checksum and limits before
//! it allocates, and returns a [`FormatError`] for anything it did not write itself: it never
//! panics. `docs/snapshot-format.md` describes every byte.

mod bytes;
mod lease;
mod manifest;
mod pack;

pub use crate::fetch::unpack_checked;
pub use bytes::FormatError;
pub use lease::Lease;
pub use manifest::{MANIFEST_BYTES_MAX, Manifest, ManifestHead, decode_head, decode_manifest};
pub use pack::{
    CHUNK_BYTES_MAX, CHUNK_PAGES_MAX, PACK_BYTES_MAX, PackEntry, PackIndex, TRAILER_BYTES,
    decode_pack_index, decode_trailer,
};

/// Computes the checksum that all files of the store use: BLAKE3, 32 bytes.
pub fn checksum(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

pub(crate) use manifest::{HEAD_READ_BYTES, encode_manifest};
pub(crate) use pack::{ENTRY_BYTES, encode_pack_footer};
