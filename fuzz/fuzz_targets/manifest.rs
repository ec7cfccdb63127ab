//! Manifests: any bytes give a manifest that makes sense, or an error.
//!
//! Random bytes never pass the checksums, so they are made right first; the bytes as they are get
//! their turn too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use store::format::{decode_head, decode_manifest};

const FIXED_BYTES: usize = 120;
const HASH_BYTES: usize = 32;

fuzz_target!(|data: &[u8]| {
    check(data);
    let mut mended = data.to_vec();
    if mend(&mut mended).is_some() {
        check(&mended);
    }
});

fn check(bytes: &[u8]) {
    let head = decode_head(bytes);
    if let Ok(manifest) = decode_manifest(bytes) {
        assert_eq!(head, Ok(manifest.head));
        let extents = &manifest.layer.extents;
        assert!(extents.windows(2).all(|two| two[0].end() <= two[1].start));
    }
}

fn mend(bytes: &mut [u8]) -> Option<()> {
    let body = bytes.len().checked_sub(HASH_BYTES)?;
    let summary = bytes.get(64..68)?.try_into().ok().map(u32::from_le_bytes)?;
    let head = FIXED_BYTES.checked_add(usize::try_from(summary).ok()?)?;
    if head.checked_add(HASH_BYTES)? <= body {
        let hash = store::format::checksum(&bytes[..head]);
        bytes[head..head + HASH_BYTES].copy_from_slice(&hash);
    }
    let hash = store::format::checksum(&bytes[..body]);
    bytes[body..].copy_from_slice(&hash);
    Some(())
}
