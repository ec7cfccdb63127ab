//! The size of a page.

use space::PageSize;

/// Returns the base page size of this machine.
///
/// # Panics
///
/// Panics where the kernel's page size is none: a power of two from 4 KiB on.
pub fn base_page_size() -> PageSize {
    u64::try_from(rustix::param::page_size())
        .ok()
        .and_then(PageSize::new)
        .expect("a page is a power of two from 4 KiB on")
}
