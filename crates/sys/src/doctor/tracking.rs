//! Probes of write tracking: arm a page, write it, look.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use space::{Errno, PageFlags, PageSize, Vaddr};

use super::child::ProbeChild;
use super::raw::Order;
use super::report::Finding;
use super::userfault;
use crate::raw::scratch::ScratchPages;
use crate::uapi::pagemap::{PM_SCAN_WP_MATCHING, PM_SOFT_DIRTY, PageRegion, PmScanArg};
use crate::uapi::userfaultfd::{
    UFFD_API, UFFD_FEATURE_WP_ASYNC, UFFDIO_REGISTER_MODE_WP, UffdioApi, UffdioRange,
    UffdioRegister,
};

const NEWER: &str = "boot Linux 6.7 or newer, with CONFIG_PTE_MARKER_UFFD_WP=y";

/// Probes all ways to notice writes.
pub(super) fn probe(
    features: &mut BTreeMap<String, Finding>,
    page_size: PageSize,
    child: Result<&ProbeChild, Errno>,
) {
    let scan = scans(page_size);
    let async_protection = match &scan {
        Ok(()) => armed_page(page_size),
        Err(_) => Err(
            Finding::missing("nothing to look with: PAGEMAP_SCAN is missing")
                .fix("boot Linux 6.7 or newer"),
        ),
    };
    let works = |result: Result<(), Finding>, why: &str| match result {
        Ok(()) => Finding::works(why),
        Err(finding) => finding,
    };
    features.insert(
        "pagemap_scan".into(),
        works(scan, "a scan reports a page that is there"),
    );
    features.insert(
        "pagemap_scan_wp_matching".into(),
        works(
            async_protection.clone(),
            "a scan arms the pages that it reports",
        ),
    );
    features.insert(
        "wp_async".into(),
        works(
            async_protection,
            "an armed page that is written is reported, and only that one",
        ),
    );
    let soft_dirty = child.map_or_else(
        |errno| Err(Finding::failed("no child to try it on", errno)),
        |child| soft_dirty(child, page_size),
    );
    features.insert(
        "soft_dirty".into(),
        works(soft_dirty, "bit 55 of pagemap follows writes of a child"),
    );
}

/// Our own page tables, and what a scan of the scratch pages tells.
struct Scanner {
    pagemap: File,
    pages: ScratchPages,
}

/// How many scratch pages are looked at.
const PAGES: usize = 2;

impl Scanner {
    fn new(page_size: PageSize) -> Result<Self, Errno> {
        let pages = ScratchPages::map(PAGES, page_size, false)?;
        for page in 0..PAGES {
            pages.write(page, 1);
        }
        Ok(Self {
            pagemap: File::open("/proc/self/pagemap")?,
            pages,
        })
    }

    /// Tells of each page whether it has `wanted`.
    fn scan(&self, wanted: PageFlags, flags: u64) -> Result<[bool; PAGES], Errno> {
        let mut regions = [PageRegion::default(); PAGES];
        let mut arg = PmScanArg {
            flags,
            start: self.pages.address(0).0,
            end: self.pages.address(PAGES).0,
            category_mask: wanted.bits(),
            return_mask: wanted.bits(),
            ..PmScanArg::default()
        };
        let count = crate::raw::pagemap::scan(self.pagemap.as_fd(), &mut arg, &mut regions)?;
        Ok(std::array::from_fn(|page| {
            let address = self.pages.address(page).0;
            let found = |region: &PageRegion| (region.start..region.end).contains(&address);
            regions.iter().take(count).any(found)
        }))
    }
}

/// Tells whether a plain scan sees pages that are there.
fn scans(page_size: PageSize) -> Result<(), Finding> {
    let failed = |errno| Finding::failed("PAGEMAP_SCAN of /proc/self/pagemap", errno);
    let scanner = Scanner::new(page_size).map_err(failed)?;
    match scanner.scan(PageFlags::PRESENT, 0) {
        Ok(seen) if seen == [true; PAGES] => Ok(()),
        Ok(_) => Err(Finding::missing(
            "PAGEMAP_SCAN did not report a page that is there",
        )),
        // The ioctl is unknown, or the number means another one.
        Err(errno @ (Errno::ENOTTY | Errno::EINVAL)) => {
            Err(failed(errno).fix("boot Linux 6.7 or newer"))
        }
        Err(errno) => Err(failed(errno)),
    }
}

/// Arms two pages by a scan, writes one of them, and tells whether just that one is reported.
fn armed_page(page_size: PageSize) -> Result<(), Finding> {
    let failed = |what: &str, errno| Finding::failed(what, errno).fix(NEWER);
    let scanner = Scanner::new(page_size).map_err(|errno| failed("scratch pages", errno))?;
    // Closed at the end: that takes the protection away.
    let uffd = userfault::any().map_err(|errno| {
        Finding::failed("userfaultfd(2)", errno).fix("see the row of userfaultfd_user_mode")
    })?;
    let mut api = UffdioApi {
        api: UFFD_API,
        features: UFFD_FEATURE_WP_ASYNC,
        ioctls: 0,
    };
    crate::raw::userfaultfd::api(uffd.as_fd(), &mut api)
        .map_err(|errno| failed("the handshake with WP_ASYNC", errno))?;
    let (start, end) = (scanner.pages.address(0).0, scanner.pages.address(PAGES).0);
    let mut register = UffdioRegister {
        range: UffdioRange {
            start,
            len: end - start,
        },
        mode: UFFDIO_REGISTER_MODE_WP,
        ioctls: 0,
    };
    crate::raw::userfaultfd::register(uffd.as_fd(), &mut register)
        .map_err(|errno| failed("registering for write protection", errno))?;
    let scan = |wanted, flags| {
        scanner
            .scan(wanted, flags)
            .map_err(|errno| failed("PAGEMAP_SCAN with WP_MATCHING", errno))
    };
    scan(PageFlags::PRESENT, PM_SCAN_WP_MATCHING)?;
    let armed = scan(PageFlags::WRITTEN, 0)?;
    scanner.pages.write(0, 2);
    let written = scan(PageFlags::WRITTEN, 0)?;
    match (armed, written) {
        ([false, false], [true, false]) => Ok(()),
        seen => Err(Finding::missing(format!(
            "pages reported as written before and after the first was: {seen:?}"
        ))
        .fix(NEWER)),
    }
}

/// Clears the child's bits, has it write its page, and watches bit 55 of that page. Clearing
/// succeeds even where the kernel has no such bits.
fn soft_dirty(child: &ProbeChild, page_size: PageSize) -> Result<(), Finding> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |errno| Finding::failed(&what, errno)
    };
    let write = || child.order(Order::Write).map_err(failed("the child"));
    let pid = child.pid();
    let pagemap = File::open(format!("/proc/{pid}/pagemap"))
        .map_err(|error| failed("pagemap of a child")(error.into()))?;
    let bit =
        || soft_dirty_bit(&pagemap, child.page(), page_size).map_err(failed("pagemap of a child"));
    write()?;
    OpenOptions::new()
        .write(true)
        .open(format!("/proc/{pid}/clear_refs"))
        .and_then(|mut file| file.write_all(b"4"))
        .map_err(|error| failed("clear_refs of a child")(error.into()))?;
    let cleared = bit()?;
    write()?;
    let written = bit()?;
    match (cleared, written) {
        (false, true) => Ok(()),
        (false, false) => Err(
            Finding::missing("bit 55 of pagemap stays clear after a write")
                .fix("boot a kernel with CONFIG_MEM_SOFT_DIRTY=y (x86, s390, powerpc)"),
        ),
        (true, _) => Err(Finding::missing("bit 55 of pagemap can't be cleared")),
    }
}

fn soft_dirty_bit(pagemap: &File, address: Vaddr, page_size: PageSize) -> Result<bool, Errno> {
    let mut entry = [0; size_of::<u64>()];
    let offset = (address.0 >> page_size.shift()) * size_of_val(&entry) as u64;
    pagemap.read_exact_at(&mut entry, offset)?;
    Ok(u64::from_ne_bytes(entry) & PM_SOFT_DIRTY != 0)
}
