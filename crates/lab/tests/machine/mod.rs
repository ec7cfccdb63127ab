//! The machine that the model is compared with.

use std::fs;

use lab::oracle::Subject;

use crate::common::skip;

/// The releases that the model has a profile for.
const COMPARED: [&str; 3] = ["6.1.", "6.12.", "6.18."];

/// Returns the machine, if it is one that the model is compared with.
pub(crate) fn subject(test: &str) -> Option<Subject> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    if !COMPARED.iter().any(|known| release.starts_with(known)) {
        let known = COMPARED.join(" or ");
        skip(test, &format!("a kernel of version {known}"));
        return None;
    }
    let pool = fs::OpenOptions::new()
        .write(true)
        .open("/proc/sys/vm/nr_hugepages");
    if pool.is_err() {
        skip(test, "root");
        return None;
    }
    Some(Subject::of_this_machine(None).unwrap())
}
