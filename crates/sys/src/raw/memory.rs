//! Reading and writing another process's memory.
#![expect(unsafe_code, reason = "system calls")]

use space::{Errno, PageRange, Vaddr};

use super::check;

/// The most ranges that one call may name (`UIO_MAXIOV`).
pub(crate) const RANGES_MAX: usize = 1024;

/// `process_vm_readv`: reads `ranges` one behind the other into the start of `buf`, and returns
/// how many bytes were read. At most [`RANGES_MAX`] ranges.
pub(crate) fn read(pid: u32, ranges: &[PageRange], buf: &mut [u8]) -> Result<usize, Errno> {
    let remote: Vec<libc::iovec> = ranges
        .iter()
        .map(|range| remote_iovec(range.start(), range.len().as_usize()))
        .collect();
    let local = libc::iovec {
        iov_base: buf.as_mut_ptr().cast(),
        iov_len: buf.len(),
    };
    let count = remote.len().min(RANGES_MAX);
    // SAFETY: 1. `local` describes `buf`, which is ours to write, and any bytes are valid there.
    // 2. `remote` holds `count` descriptions or more; the kernel checks their addresses against
    // the other process's memory. 3. nothing of ours is read or written but `buf`.
    let read = check(unsafe {
        libc::process_vm_readv(
            pid.cast_signed(),
            &raw const local,
            1,
            remote.as_ptr(),
            count as u64,
            0,
        )
    } as libc::c_long)?;
    Ok(usize::try_from(read).expect("no more than the buffer"))
}

/// Reads `buf.len()` bytes at `address`, which need not be page-aligned.
pub(crate) fn read_at(pid: u32, address: Vaddr, buf: &mut [u8]) -> Result<usize, Errno> {
    let remote = remote_iovec(address, buf.len());
    let local = libc::iovec {
        iov_base: buf.as_mut_ptr().cast(),
        iov_len: buf.len(),
    };
    // SAFETY: as in `read`, with one range.
    let read = check(unsafe {
        libc::process_vm_readv(
            pid.cast_signed(),
            &raw const local,
            1,
            &raw const remote,
            1,
            0,
        )
    } as libc::c_long)?;
    Ok(usize::try_from(read).expect("no more than the buffer"))
}

/// `process_vm_writev`: writes `bytes` at `address` of a stopped process, and returns how many
/// bytes were written.
pub(crate) fn write_at(pid: u32, address: Vaddr, bytes: &[u8]) -> Result<usize, Errno> {
    let remote = remote_iovec(address, bytes.len());
    let local = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: 1. the kernel only reads `bytes`. 2. it writes to the other process's memory alone,
    // and the callers name ranges that are dead there.
    let written = check(unsafe {
        libc::process_vm_writev(
            pid.cast_signed(),
            &raw const local,
            1,
            &raw const remote,
            1,
            0,
        )
    } as libc::c_long)?;
    Ok(usize::try_from(written).expect("no more than the bytes"))
}

fn remote_iovec(start: Vaddr, len: usize) -> libc::iovec {
    let base = usize::try_from(start.0).expect("addresses fit usize");
    libc::iovec {
        iov_base: std::ptr::without_provenance_mut(base),
        iov_len: len,
    }
}
