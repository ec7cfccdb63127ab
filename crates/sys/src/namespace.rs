//! Which namespaces we are in.
//!
//! Linux reference (6.18): `include/linux/proc_ns.h` (the inodes of the first namespaces, the same on
//! every system).

use std::fs;
use std::os::unix::fs::MetadataExt;

/// The inode of the pid namespace that the system began with.
const FIRST_PID_NAMESPACE: u64 = 0xefff_fffc;
/// The inode of the user namespace that the system began with.
const FIRST_USER_NAMESPACE: u64 = 0xefff_fffd;

/// Tells whether we are in another pid namespace than the system's first.
pub(crate) fn is_inside_pid() -> bool {
    is_inside("pid", FIRST_PID_NAMESPACE)
}

/// Tells whether we are in another user namespace than the system's first.
pub(crate) fn is_inside_user() -> bool {
    is_inside("user", FIRST_USER_NAMESPACE)
}

/// A kernel without such namespaces has no such file, and nothing to hide.
fn is_inside(kind: &str, first: u64) -> bool {
    let namespace = fs::metadata(format!("/proc/self/ns/{kind}"));
    namespace.is_ok_and(|namespace| namespace.ino() != first)
}
