//! Chunks: any bytes give the content that has their hash, or an error. The first two bytes are the
//! length that the content is to have; the hash is that of the next half, so that some are right.
#![no_main]

use libfuzzer_sys::fuzz_target;
use store::format::{checksum, unpack_checked};

fuzz_target!(|data: &[u8]| {
    let Some((len, rest)) = data.split_at_checked(2) else {
        return;
    };
    let len = usize::from(u16::from_le_bytes([len[0], len[1]]));
    let (wanted, stored) = rest.split_at(rest.len() / 2);
    let hash = checksum(wanted);
    let mut raw = vec![0; len];
    if unpack_checked(&hash, stored, &mut raw).is_ok() {
        assert_eq!(raw, wanted);
    }
});
