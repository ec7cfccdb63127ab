//! Probes of what this kernel and this user can do, by behaviour.
//!
//! A feature exists if a probe of it works, not if a version says so or a call returns 0. Each
//! probe is tried on memory of our own that nobody else knows of, or on a child that is made for
//! it and ended: a clone without exit signal, so that the program we are part of sees nothing of
//! it, which carries out orders from a pipe by bare system calls and dies with us. No probe waits
//! longer than two seconds for an answer.

mod child;
mod process;
pub(crate) mod raw;
mod report;
mod strategy;
mod system;
#[cfg(test)]
mod tests;
mod tracing;
mod tracking;
mod userfault;

use std::collections::BTreeMap;

pub use report::{Doctor, Finding, Row, Status, Strategy};
pub(crate) use system::{CAP_SYS_PTRACE, capable};

use crate::procfs::base_page_size;
use child::ProbeChild;

/// Probes the kernel, and looks at process `pid` if one is given: then the strategies are those for
/// that process. It is not touched, but stands still for a moment if it has seccomp filters.
pub fn probe(pid: Option<u32>) -> Doctor {
    let page_size = base_page_size();
    let mut features = BTreeMap::new();
    userfault::probe(&mut features);
    system::probe(&mut features);
    let child = ProbeChild::start(page_size);
    let child = child.as_ref().map_err(|errno| *errno);
    tracking::probe(&mut features, page_size, child);
    tracing::probe(&mut features, child);
    let process = pid.map(process::examine);
    let name = rustix::system::uname();
    Doctor {
        kernel: name.release().to_string_lossy().into_owned(),
        arch: name.machine().to_string_lossy().into_owned(),
        page_size: page_size.bytes(),
        strategies: strategy::judge(&features, process.as_deref().unwrap_or_default()),
        features,
        process,
    }
}
