//! A manifest: one snapshot's description and its pages, or what of them changed.
//!
//! # On-disk layout
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | magic `ONIONMAN` |
//! | 8 | 4 | version |
//! | 12 | 4 | flags: bit 0, the manifest says everything itself (whole) |
//! | 16 | 16 | the snapshot's id |
//! | 32 | 16 | its parent's id, or zeros |
//! | 48 | 4 | depth: manifests under this one until a whole one; 0 if whole |
//! | 52 | 4 | base-two logarithm of the page size |
//! | 56 | 8 | extents in the manifests under this one, that one's whole included |
//! | 64 | 4, 4 | bytes of the summary (JSON), reserved |
//! | 72 | 8, 8 | bytes of the description (JSON): raw, packed |
//! | 88 | 4, 4 | entries of the tables: packs, chunks |
//! | 96 | 8 | bytes of the table of chunks, packed |
//! | 104 | 8 | extents |
//! | 112 | 8 | bytes of the extents, packed |
//! | 120 | n | the summary |
//! | | 32 | BLAKE3 of all before |
//! | | n | the description, zstd |
//! | | 16 each | packs |
//! | | n | chunks, zstd of 48 bytes each: hash (32), pack, offset, stored (u32 each), pages (u8), reserved (3) |
//! | | n | extents, zstd of 24 bytes each: first page (u64), pages, chunk (u32 each), skip, kind (u8 each), reserved (6) |
//! | | 32 | BLAKE3 of all before |

use std::sync::Arc;

use space::PageSize;

use super::{
    FormatError,
    bytes::{Fields, check_hash, limited, unpack},
    pack::{CHUNK_PAGES_MAX, PACK_BYTES_MAX, check_lengths},
};
use crate::{
    id::{PackId, SnapshotId},
    meta::{SnapshotMeta, Summary},
    page_map::{Chunk, Content, Extent, PageMap, index},
};

/// The longest manifest.
pub const MANIFEST_BYTES_MAX: u64 = 4 << 30;
/// How much of a manifest is read to get its head in one request (bytes, not a page size).
pub(crate) const HEAD_READ_BYTES: u64 = 4096;

const MAGIC: &[u8; 8] = b"ONIONMAN";
const VERSION: u32 = 1;
const FLAG_WHOLE: u32 = 1;
const FIXED_BYTES: usize = 120;
const HASH_BYTES: usize = 32;
const SUMMARY_BYTES_MAX: u64 = 16 << 10;
const META_BYTES_MAX: u64 = 512 << 20;
const PACKS_MAX: u64 = 1 << 20;
const CHUNKS_MAX: u64 = 1 << 26;
const EXTENTS_MAX: u64 = 1 << 26;
const DEPTH_MAX: u64 = 1 << 10;
const PAGE_SHIFT_MAX: u64 = 16;
const ADDRESS_BITS: u32 = 64;
const CHUNK_BYTES: usize = 48;
const EXTENT_BYTES: usize = 24;
/// How much the description may grow when unpacked: text full of zeros packs well.
const META_RATIO_MAX: usize = 1 << 14;
/// How much the tables may grow: chunks differ in their hash, extents in their start, so that
/// they pack badly.
const TABLE_RATIO_MAX: usize = 256;
const KIND_DATA: u8 = 0;
const KIND_ZEROS: u8 = 1;
const KIND_DISCARDED: u8 = 2;
const NO_CHUNK: u32 = u32::MAX;
/// Descriptions are packed harder than pages: they are small and written once.
const LEVEL: i32 = 3;

/// What stands at the front of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestHead {
    /// The snapshot in one line.
    pub summary: Summary,
    /// The manifest says everything itself: none is needed below it.
    pub whole: bool,
    /// Extents in all manifests that this one needs below it.
    pub extents_below: u64,
}

/// A decoded manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Its front.
    pub head: ManifestHead,
    /// The description.
    pub meta: SnapshotMeta,
    /// The layer: a resolved map if the manifest is whole.
    pub layer: Arc<PageMap>,
}

/// Numbers of the fixed part that only the decoder needs.
struct Sizes {
    summary: usize,
    meta: usize,
    meta_packed: usize,
    packs: usize,
    chunks: usize,
    chunks_packed: usize,
    extents: usize,
    extents_packed: usize,
    page_size: PageSize,
}

impl Sizes {
    /// Where the head ends: fixed part, summary and their hash.
    fn head_end(&self) -> usize {
        FIXED_BYTES + self.summary + HASH_BYTES
    }
}

/// Encodes a manifest.
pub(crate) fn encode_manifest(manifest: &Manifest) -> Result<Vec<u8>, FormatError> {
    let Manifest { head, meta, layer } = manifest;
    let summary = json("the summary", &head.summary)?;
    let meta_raw = json("the description", meta)?;
    limited(
        "the length of the summary",
        summary.len() as u64,
        SUMMARY_BYTES_MAX,
    )?;
    limited(
        "the length of the description",
        meta_raw.len() as u64,
        META_BYTES_MAX,
    )?;
    limited("the number of packs", layer.packs.len() as u64, PACKS_MAX)?;
    limited(
        "the number of chunks",
        layer.chunks.len() as u64,
        CHUNKS_MAX,
    )?;
    limited(
        "the number of extents",
        layer.extents.len() as u64,
        EXTENTS_MAX,
    )?;
    let meta_packed = pack(&meta_raw)?;
    let chunks = pack(
        &layer
            .chunks
            .iter()
            .flat_map(encode_chunk)
            .collect::<Vec<_>>(),
    )?;
    let extents = pack(
        &layer
            .extents
            .iter()
            .flat_map(encode_extent)
            .collect::<Vec<_>>(),
    )?;

    let sizes = Sizes {
        summary: summary.len(),
        meta: meta_raw.len(),
        meta_packed: meta_packed.len(),
        packs: layer.packs.len(),
        chunks: layer.chunks.len(),
        chunks_packed: chunks.len(),
        extents: layer.extents.len(),
        extents_packed: extents.len(),
        page_size: layer.page_size,
    };
    let mut out = encode_fixed(head, &sizes);
    debug_assert_eq!(out.len(), FIXED_BYTES);
    out.extend_from_slice(&summary);
    let hash = blake3::hash(&out);
    out.extend_from_slice(hash.as_bytes());
    out.extend_from_slice(&meta_packed);
    layer
        .packs
        .iter()
        .for_each(|pack| out.extend_from_slice(&pack.0));
    out.extend_from_slice(&chunks);
    out.extend_from_slice(&extents);
    let hash = blake3::hash(&out);
    out.extend_from_slice(hash.as_bytes());
    limited(
        "the length of the manifest",
        out.len() as u64,
        MANIFEST_BYTES_MAX,
    )?;
    Ok(out)
}

/// Decodes the front of a manifest out of its first bytes (as many as there are, or at least
/// 20 KiB of them).
///
/// # Errors
///
/// Any [`FormatError`]; [`FormatError::Short`] names the bytes that are needed.
pub fn decode_head(bytes: &[u8]) -> Result<ManifestHead, FormatError> {
    decode_front(bytes).map(|(head, _)| head)
}

/// Decodes a manifest, checking every number in it.
///
/// # Errors
///
/// Any [`FormatError`].
pub fn decode_manifest(bytes: &[u8]) -> Result<Manifest, FormatError> {
    limited(
        "the length of the manifest",
        bytes.len() as u64,
        MANIFEST_BYTES_MAX,
    )?;
    let (head, sizes) = decode_front(bytes)?;
    let body_end = bytes
        .len()
        .checked_sub(HASH_BYTES)
        .ok_or(FormatError::Short {
            what: "a manifest",
            needed: HASH_BYTES as u64,
            found: bytes.len() as u64,
        })?;
    check_hash("a manifest", &bytes[..body_end], &bytes[body_end..])?;
    let mut fields = Fields::new(&bytes[..body_end], "a manifest");
    fields.take(sizes.head_end())?;
    let meta_packed = fields.take(sizes.meta_packed)?;
    let packs_raw = fields.take(sizes.packs * 16)?;
    let chunks_packed = fields.take(sizes.chunks_packed)?;
    let extents_packed = fields.take(sizes.extents_packed)?;
    fields.end()?;

    let meta = unpack("the description", meta_packed, sizes.meta, META_RATIO_MAX)?;
    let meta: SnapshotMeta = from_json("the description", &meta)?;
    let packs = packs_raw
        .chunks_exact(16)
        .map(|id| Fields::new(id, "a pack's id").array());
    let packs = packs
        .map(|id| id.map(PackId))
        .collect::<Result<Vec<_>, _>>()?;
    let chunks_raw = sizes.chunks * CHUNK_BYTES;
    let chunks_raw = unpack("the chunks", chunks_packed, chunks_raw, TABLE_RATIO_MAX)?;
    let chunks = chunks_raw.chunks_exact(CHUNK_BYTES);
    let chunks = chunks.map(|bytes| decode_chunk(bytes, packs.len(), sizes.page_size));
    let chunks = chunks.collect::<Result<Vec<_>, _>>()?;
    let extents_raw = sizes.extents * EXTENT_BYTES;
    let extents_raw = unpack("the extents", extents_packed, extents_raw, TABLE_RATIO_MAX)?;
    let mut extents: Vec<Extent> = Vec::with_capacity(sizes.extents);
    for bytes in extents_raw.chunks_exact(EXTENT_BYTES) {
        let extent = decode_extent(bytes, &chunks, sizes.page_size)?;
        if extents.last().is_some_and(|last| last.end() > extent.start) {
            return Err(FormatError::Inconsistent(
                "extents overlap or are not sorted",
            ));
        }
        if head.whole && extent.content == Content::Discarded {
            return Err(FormatError::Inconsistent("a whole manifest discards pages"));
        }
        extents.push(extent);
    }
    let layer = Arc::new(PageMap {
        page_size: sizes.page_size,
        packs,
        chunks,
        extents,
    });
    Ok(Manifest { head, meta, layer })
}

fn decode_front(bytes: &[u8]) -> Result<(ManifestHead, Sizes), FormatError> {
    let mut fields = Fields::new(bytes, "the head of a manifest");
    if fields.take(MAGIC.len())? != MAGIC {
        return Err(FormatError::Magic("manifest"));
    }
    let version = fields.u32()?;
    if version != VERSION {
        return Err(FormatError::Version {
            found: version,
            known: VERSION,
        });
    }
    let flags = fields.u32()?;
    let id = SnapshotId(fields.array()?);
    let parent = Some(SnapshotId(fields.array()?)).filter(|parent| parent.0 != [0; 16]);
    let depth = fields.u32()?;
    limited("the number of layers", u64::from(depth), DEPTH_MAX)?;
    let shift = u64::from(fields.u32()?);
    limited("the page size's logarithm", shift, PAGE_SHIFT_MAX)?;
    let page_size = PageSize::new(1 << shift).ok_or(FormatError::Inconsistent(
        "the page size is less than 4 KiB",
    ))?;
    let extents_below = fields.u64()?;
    let summary = limited(
        "the summary's length",
        u64::from(fields.u32()?),
        SUMMARY_BYTES_MAX,
    )?;
    fields.reserved(4)?;
    let sizes = Sizes {
        summary,
        meta: limited("the description's length", fields.u64()?, META_BYTES_MAX)?,
        meta_packed: limited(
            "the description's packed length",
            fields.u64()?,
            META_BYTES_MAX,
        )?,
        packs: limited("the number of packs", u64::from(fields.u32()?), PACKS_MAX)?,
        chunks: limited("the number of chunks", u64::from(fields.u32()?), CHUNKS_MAX)?,
        chunks_packed: limited("the chunks' length", fields.u64()?, MANIFEST_BYTES_MAX)?,
        extents: limited("the number of extents", fields.u64()?, EXTENTS_MAX)?,
        extents_packed: limited("the extents' length", fields.u64()?, MANIFEST_BYTES_MAX)?,
        page_size,
    };
    let summary = fields.take(sizes.summary)?;
    let hash = fields.take(HASH_BYTES)?;
    check_hash(
        "the head of a manifest",
        &bytes[..FIXED_BYTES + sizes.summary],
        hash,
    )?;
    let summary: Summary = from_json("the summary", summary)?;
    let whole = flags == FLAG_WHOLE;
    let same = summary.id == id
        && summary.parent == parent
        && summary.depth == depth
        && summary.page_size == page_size;
    if !same || flags > FLAG_WHOLE || whole != (depth == 0) || (!whole && parent.is_none()) {
        return Err(FormatError::Inconsistent(
            "a manifest's head and summary differ",
        ));
    }
    let head = ManifestHead {
        summary,
        whole,
        extents_below,
    };
    Ok((head, sizes))
}

/// Encodes the fixed part. The sizes are within their limits.
fn encode_fixed(head: &ManifestHead, sizes: &Sizes) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(MAGIC);
    let u32_of = |len: usize| u32::try_from(len).expect("limited before").to_le_bytes();
    let u64_of = |len: usize| (len as u64).to_le_bytes();
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&(if head.whole { FLAG_WHOLE } else { 0 }).to_le_bytes());
    out.extend_from_slice(&head.summary.id.0);
    out.extend_from_slice(&head.summary.parent.map_or([0; 16], |parent| parent.0));
    out.extend_from_slice(&head.summary.depth.to_le_bytes());
    out.extend_from_slice(&sizes.page_size.shift().to_le_bytes());
    out.extend_from_slice(&head.extents_below.to_le_bytes());
    out.extend_from_slice(&u32_of(sizes.summary));
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&u64_of(sizes.meta));
    out.extend_from_slice(&u64_of(sizes.meta_packed));
    out.extend_from_slice(&u32_of(sizes.packs));
    out.extend_from_slice(&u32_of(sizes.chunks));
    out.extend_from_slice(&u64_of(sizes.chunks_packed));
    out.extend_from_slice(&u64_of(sizes.extents));
    out.extend_from_slice(&u64_of(sizes.extents_packed));
    out
}

fn encode_chunk(chunk: &Chunk) -> [u8; CHUNK_BYTES] {
    let mut out = [0; CHUNK_BYTES];
    out[..32].copy_from_slice(&chunk.hash);
    out[32..36].copy_from_slice(&chunk.pack.to_le_bytes());
    out[36..40].copy_from_slice(&chunk.offset.to_le_bytes());
    out[40..44].copy_from_slice(&chunk.stored.to_le_bytes());
    out[44] = chunk.pages;
    out
}

fn decode_chunk(bytes: &[u8], packs: usize, page_size: PageSize) -> Result<Chunk, FormatError> {
    let mut fields = Fields::new(bytes, "a chunk");
    let chunk = Chunk {
        hash: fields.array()?,
        pack: fields.u32()?,
        offset: fields.u32()?,
        stored: fields.u32()?,
        pages: fields.u8()?,
    };
    fields.reserved(3)?;
    limited(
        "the pages of a chunk",
        u64::from(chunk.pages),
        u64::from(CHUNK_PAGES_MAX),
    )?;
    let raw = u64::from(chunk.pages) << page_size.shift();
    check_lengths(
        chunk.stored,
        u32::try_from(raw).expect("16 pages of 64 KiB at most"),
    )?;
    let end = u64::from(chunk.offset) + u64::from(chunk.stored);
    limited("the end of a chunk in its pack", end, PACK_BYTES_MAX)?;
    if index(chunk.pack) >= packs {
        return Err(FormatError::Inconsistent(
            "a chunk's pack is not in the table",
        ));
    }
    Ok(chunk)
}

fn encode_extent(extent: &Extent) -> [u8; EXTENT_BYTES] {
    let (chunk, skip, kind) = match extent.content {
        Content::Data { chunk, skip } => (chunk, skip, KIND_DATA),
        Content::Zeros => (NO_CHUNK, 0, KIND_ZEROS),
        Content::Discarded => (NO_CHUNK, 0, KIND_DISCARDED),
    };
    let mut out = [0; EXTENT_BYTES];
    out[..8].copy_from_slice(&extent.start.to_le_bytes());
    out[8..12].copy_from_slice(&extent.pages.to_le_bytes());
    out[12..16].copy_from_slice(&chunk.to_le_bytes());
    out[16] = skip;
    out[17] = kind;
    out
}

fn decode_extent(
    bytes: &[u8],
    chunks: &[Chunk],
    page_size: PageSize,
) -> Result<Extent, FormatError> {
    let mut fields = Fields::new(bytes, "an extent");
    let (start, pages, chunk) = (fields.u64()?, fields.u32()?, fields.u32()?);
    let (skip, kind) = (fields.u8()?, fields.u8()?);
    fields.reserved(6)?;
    let content = match kind {
        KIND_DATA => {
            let found = chunks.get(index(chunk));
            let found = found.ok_or(FormatError::Inconsistent("an extent's chunk is missing"))?;
            if u64::from(skip) + u64::from(pages) > u64::from(found.pages) {
                return Err(FormatError::Inconsistent(
                    "an extent is longer than its chunk",
                ));
            }
            Content::Data { chunk, skip }
        }
        KIND_ZEROS | KIND_DISCARDED if chunk != NO_CHUNK || skip != 0 => {
            return Err(FormatError::Inconsistent(
                "an extent without data names a chunk",
            ));
        }
        KIND_ZEROS => Content::Zeros,
        KIND_DISCARDED => Content::Discarded,
        _ => return Err(FormatError::Inconsistent("an extent is of an unknown kind")),
    };
    let end = start.checked_add(u64::from(pages));
    let last = (1 << (ADDRESS_BITS - page_size.shift())) - 1;
    if pages == 0 || end.is_none_or(|end| end > last) {
        return Err(FormatError::Inconsistent(
            "an extent is empty or past the last address",
        ));
    }
    Ok(Extent {
        start,
        pages,
        content,
    })
}

fn json<T: serde::Serialize>(what: &'static str, value: &T) -> Result<Vec<u8>, FormatError> {
    serde_json::to_vec(value).map_err(|error| json_error(what, &error))
}

fn from_json<T: serde::de::DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, FormatError> {
    serde_json::from_slice(bytes).map_err(|error| json_error(what, &error))
}

fn json_error(what: &'static str, error: &serde_json::Error) -> FormatError {
    FormatError::Json {
        what,
        problem: error.to_string(),
    }
}

fn pack(bytes: &[u8]) -> Result<Vec<u8>, FormatError> {
    zstd::bulk::compress(bytes, LEVEL).map_err(|_| FormatError::Unpack("a part of a manifest"))
}
