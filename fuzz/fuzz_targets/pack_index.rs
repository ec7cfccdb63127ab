//! Indexes of packs: any bytes give an index that covers the pack, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use store::format::{TRAILER_BYTES, checksum, decode_pack_index, decode_trailer};

fuzz_target!(|data: &[u8]| {
    check(data);
    let mut mended = data.to_vec();
    if let Ok(footer) = decode_trailer(&mended)
        && let Some(start) = mended.len().checked_sub(footer)
    {
        let trailer = mended.len() - TRAILER_BYTES;
        let hash = checksum(&mended[start..trailer]);
        mended[trailer..trailer + hash.len()].copy_from_slice(&hash);
        check(&mended);
    }
});

fn check(bytes: &[u8]) {
    let len = bytes.len() as u64;
    if let Ok(index) = decode_pack_index(bytes, len) {
        let stored: u64 = index
            .entries
            .iter()
            .map(|entry| u64::from(entry.stored))
            .sum();
        assert!(stored < len);
    }
}
