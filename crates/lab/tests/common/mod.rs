//! What the tests share: how one says that it can't be run here.

use std::fs;
use std::io::Write;

use lab::program::Geometry;

/// Says that a test, or a part of one behind a `/`, can't be run here, and why.
pub(crate) fn skip(name: &str, why: &str) {
    println!("skipped: {name}: {why}");
    if let Some(path) = std::env::var_os("ONIONSKIN_SKIPS") {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        writeln!(file, "{name}: {why}").unwrap();
    }
}

/// Tells whether the machine's pages have the size that programs are made for; says so where not.
pub(crate) fn page_size_fits(test: &str) -> bool {
    let (page, wanted) = (sys::puppet::page_size(), Geometry::X86_64.page);
    if page != wanted {
        skip(
            test,
            &format!("programs are made for pages of {wanted} bytes, not {page}"),
        );
    }
    page == wanted
}
