//! The kernel's own constants and structures, as `include/uapi` has them, each checked against
//! its size and ioctl encoding at compile time.

#[cfg(target_arch = "aarch64")]
pub(crate) mod aarch64;
pub(crate) mod pagemap;
pub(crate) mod userfaultfd;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86_64;

/// Encodes an ioctl number that reads and writes its argument (`_IOWR`).
pub(crate) const fn iowr<T>(kind: u8, number: u8) -> u64 {
    ioc(3, kind, number, size_of::<T>())
}

/// `_IOC` of `include/uapi/asm-generic/ioctl.h`, which x86_64 and arm64 share.
const fn ioc(direction: u64, kind: u8, number: u8, size: usize) -> u64 {
    assert!(size < 1 << 14, "an ioctl argument has under 16 KiB");
    direction << 30 | (size as u64) << 16 | (kind as u64) << 8 | number as u64
}
