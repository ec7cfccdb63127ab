//! Memory of our own to try things on.
#![expect(unsafe_code, reason = "system calls")]

use std::ptr::NonNull;

use space::{Errno, PageSize, Vaddr};

use super::check;

/// Private memory of our own that nobody else knows of.
#[derive(Debug)]
pub(crate) struct ScratchPages {
    start: NonNull<u8>,
    len: usize,
    page_size: PageSize,
}

impl ScratchPages {
    /// Maps `count` pages; huge ones where `huge` says so, of that size, from the pool.
    pub(crate) fn map(count: usize, page_size: PageSize, huge: bool) -> Result<Self, Errno> {
        const MAP_HUGE_SHIFT: u32 = 26;
        let mut flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        if huge {
            flags |= libc::MAP_HUGETLB | (page_size.shift() << MAP_HUGE_SHIFT).cast_signed();
        }
        let len = count * page_size.as_usize();
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping where the kernel chooses replaces nothing.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error().into());
        }
        let start = NonNull::new(start.cast()).expect("a mapping is never at zero");
        Ok(Self {
            start,
            len,
            page_size,
        })
    }

    /// Returns the address of a page.
    pub(crate) fn address(&self, page: usize) -> Vaddr {
        let offset = page * self.page_size.as_usize();
        let start = u64::try_from(self.start.as_ptr().expose_provenance());
        let offset = u64::try_from(offset).expect("lengths fit");
        Vaddr(start.expect("addresses fit") + offset)
    }

    /// Writes to a page.
    ///
    /// # Panics
    ///
    /// Panics if there is no such page.
    pub(crate) fn write(&self, page: usize, value: u8) {
        let offset = page * self.page_size.as_usize();
        assert!(offset < self.len, "the page is one of these");
        // SAFETY: the offset lies inside the mapping, as just checked.
        let at = unsafe { self.start.as_ptr().add(offset) };
        // SAFETY: 1. `at` is mapped for writing as long as `self` lives. 2. no reference into the
        // mapping is ever made.
        unsafe { at.write_volatile(value) };
    }

    /// Drops a page: what is read there next is zero.
    ///
    /// # Panics
    ///
    /// Panics if there is no such page.
    pub(crate) fn discard(&self, page: usize) -> Result<(), Errno> {
        self.advise(page, libc::MADV_DONTNEED)
    }

    /// Makes a page a guard page, which nothing may touch (Linux 6.13).
    ///
    /// # Panics
    ///
    /// Panics if there is no such page.
    #[cfg(test)]
    pub(crate) fn guard(&self, page: usize) -> Result<(), Errno> {
        const MADV_GUARD_INSTALL: libc::c_int = 102;
        self.advise(page, MADV_GUARD_INSTALL)
    }

    fn advise(&self, page: usize, advice: libc::c_int) -> Result<(), Errno> {
        let len = self.page_size.as_usize();
        let offset = page * len;
        assert!(offset < self.len, "the page is one of these");
        // SAFETY: the offset lies inside the mapping, as just checked.
        let at = unsafe { self.start.as_ptr().add(offset) };
        // SAFETY: 1. the page is ours. 2. no reference into the mapping is ever made.
        let answer = unsafe { libc::madvise(at.cast(), len, advice) };
        check(answer.into()).map(drop)
    }
}

impl Drop for ScratchPages {
    fn drop(&mut self) {
        // SAFETY: 1. the mapping is ours and was made with this length. 2. nothing points into
        // it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
