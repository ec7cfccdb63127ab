//! Leases: any bytes give a lease, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use store::format::Lease;

fuzz_target!(|data: &[u8]| {
    if let Ok(lease) = Lease::decode(data) {
        assert_eq!(lease.version, 1);
    }
});
