//! What the machine and its administrator decided: pools, swap, policies.

use std::collections::BTreeMap;
use std::fs;

use space::{Errno, PageSize};

use super::raw;
use super::report::Finding;
use crate::procfs::Process;
use crate::raw::scratch::ScratchPages;

/// Number of the capability that lets one trace others' processes.
pub(crate) const CAP_SYS_PTRACE: u32 = 19;

/// Looks at all of them.
pub(super) fn probe(features: &mut BTreeMap<String, Finding>) {
    hugetlb(features);
    features.insert(
        "thp".into(),
        thp(read("/sys/kernel/mm/transparent_hugepage/enabled")),
    );
    features.insert("swap".into(), swap(read("/proc/swaps")));
    features.insert("io_uring".into(), io_uring());
    let may_trace = capable(CAP_SYS_PTRACE);
    let yama = read("/proc/sys/kernel/yama/ptrace_scope");
    features.insert("yama_ptrace_scope".into(), yama_scope(yama, may_trace));
    let unprivileged = read("/proc/sys/vm/unprivileged_userfaultfd");
    let finding = unprivileged_userfaultfd(unprivileged, may_trace);
    features.insert("unprivileged_userfaultfd".into(), finding);
}

/// Tells whether we have a capability, by its number. Without `/proc` we have none.
pub(crate) fn capable(number: u32) -> bool {
    let status = Process::open(std::process::id()).and_then(|process| process.status());
    status.is_ok_and(|status| status.capabilities & 1 << number != 0)
}

/// Reads a small file; `None` where it is not there or not for us.
fn read(path: &str) -> Option<String> {
    fs::read_to_string(path)
        .ok()
        .map(|text| text.trim_end().to_owned())
}

/// Maps a huge page of each size that there is a pool of, without touching it: that reserves one.
fn hugetlb(features: &mut BTreeMap<String, Finding>) {
    const POOLS: &str = "/sys/kernel/mm/hugepages";
    let Ok(pools) = fs::read_dir(POOLS) else {
        let none = Finding::missing(format!("{POOLS} is not there"));
        features.insert(
            "hugetlb".into(),
            none.fix("boot a kernel with CONFIG_HUGETLBFS=y"),
        );
        return;
    };
    for pool in pools.flatten() {
        let name = pool.file_name().to_string_lossy().into_owned();
        let Some(size) = name.strip_prefix("hugepages-") else {
            continue;
        };
        let count =
            |file: &str| read(&format!("{POOLS}/{name}/{file}")).unwrap_or_else(|| "?".to_owned());
        let counts = format!(
            "{} free of {}, {} of them reserved",
            count("free_hugepages"),
            count("nr_hugepages"),
            count("resv_hugepages")
        );
        features.insert(format!("hugetlb_{size}"), hugetlb_pool(size, &counts));
    }
}

fn hugetlb_pool(size: &str, counts: &str) -> Finding {
    let bytes = size
        .strip_suffix("kB")
        .and_then(|digits| digits.parse::<u64>().ok());
    let Some(page_size) = bytes.and_then(|kilobytes| PageSize::new(kilobytes * 1024)) else {
        return Finding::missing(format!("{size} is no size of a page"));
    };
    let fix = format!("echo 16 | sudo tee /sys/kernel/mm/hugepages/hugepages-{size}/nr_hugepages");
    match ScratchPages::map(1, page_size, true) {
        Ok(_) => Finding::works(format!("a page of {size} can be had: {counts}")),
        Err(Errno::ENOMEM) => {
            Finding::missing(format!("no page of {size} can be had: {counts}")).fix(fix)
        }
        Err(errno) => Finding::failed(&format!("mapping a page of {size}"), errno).fix(fix),
    }
}

/// The mode stands in brackets: `always [madvise] never`.
fn thp(text: Option<String>) -> Finding {
    let fix = "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled";
    let Some(text) = text else {
        return Finding::missing("the kernel has no transparent huge pages")
            .fix("boot a kernel with CONFIG_TRANSPARENT_HUGEPAGE=y");
    };
    let mode = text.split(['[', ']']).nth(1).unwrap_or("unknown");
    match mode {
        "always" | "madvise" => Finding::works(format!("the mode is {mode}")),
        _ => Finding::missing(format!("the mode is {mode}")).fix(fix),
    }
}

/// A heading, then a line for each.
fn swap(text: Option<String>) -> Finding {
    let count = text.as_deref().unwrap_or_default().lines().skip(1).count();
    match count {
        0 => Finding::missing("nothing is swapped out on this machine, for lack of swap").fix(
            "sudo fallocate -l 1G /swapfile && sudo chmod 600 /swapfile && \
             sudo mkswap /swapfile && sudo swapon /swapfile",
        ),
        _ => Finding::works(format!(
            "{count} in use; pages out there are read with the others"
        )),
    }
}

fn io_uring() -> Finding {
    match raw::io_uring() {
        Ok(_) => Finding::works("a ring can be made"),
        Err(errno @ (Errno::EPERM | Errno::EACCES)) => Finding::failed("io_uring_setup", errno)
            .fix("sudo sysctl -w kernel.io_uring_disabled=0"),
        Err(errno) => {
            Finding::failed("io_uring_setup", errno).fix("boot a kernel with CONFIG_IO_URING=y")
        }
    }
}

fn yama_scope(text: Option<String>, may_trace: bool) -> Finding {
    let fix = "sudo sysctl -w kernel.yama.ptrace_scope=0";
    match (text.as_deref(), may_trace) {
        (None, _) => Finding::works("the kernel has no Yama: one may trace one's own processes"),
        (Some("0"), _) => Finding::works("0: one may trace one's own processes"),
        (Some(scope @ ("1" | "2")), true) => {
            Finding::works(format!("{scope}, but we have CAP_SYS_PTRACE"))
        }
        (Some("1"), false) => {
            Finding::denied("1: only one's own descendants may be traced").fix(fix)
        }
        (Some("2"), false) => Finding::denied("2: tracing takes CAP_SYS_PTRACE").fix(fix),
        (Some(scope), _) => Finding::denied(format!("{scope}: nobody may trace until a reboot"))
            .fix("reboot with kernel.yama.ptrace_scope=0"),
    }
}

fn unprivileged_userfaultfd(text: Option<String>, may_trace: bool) -> Finding {
    match (text.as_deref(), may_trace) {
        (None, _) => Finding::missing("the kernel has no such setting")
            .fix("boot Linux 5.2 or newer, with CONFIG_USERFAULTFD=y"),
        (Some("0"), false) => Finding::denied("0: without privilege only USER_MODE_ONLY is given")
            .fix("sudo sysctl -w vm.unprivileged_userfaultfd=1"),
        (Some("0"), true) => Finding::works("0, but we have CAP_SYS_PTRACE"),
        (Some(value), _) => Finding::works(format!("{value}: everybody gets a full one")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Status;
    use super::*;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn modes_of_huge_pages() {
        assert_eq!(thp(some("always [madvise] never")).status, Status::Works);
        assert_eq!(thp(some("[always] madvise never")).status, Status::Works);
        assert_eq!(thp(some("always madvise [never]")).status, Status::Missing);
        assert_eq!(thp(some("rubbish")).status, Status::Missing);
        assert_eq!(thp(None).status, Status::Missing);
    }

    #[test]
    fn swap_has_a_heading() {
        let heading = "Filename\tType\tSize\tUsed\tPriority";
        assert_eq!(swap(some(heading)).status, Status::Missing);
        let one = format!("{heading}\n/dev/sda2 partition 1 0 -2");
        assert_eq!(swap(Some(one)).status, Status::Works);
        assert_eq!(swap(None).status, Status::Missing);
    }

    #[test]
    fn policies_bind_those_without_privilege() {
        for (scope, plain, privileged) in [
            (None, Status::Works, Status::Works),
            (some("0"), Status::Works, Status::Works),
            (some("1"), Status::Denied, Status::Works),
            (some("2"), Status::Denied, Status::Works),
            (some("3"), Status::Denied, Status::Denied),
        ] {
            assert_eq!(yama_scope(scope.clone(), false).status, plain, "{scope:?}");
            assert_eq!(
                yama_scope(scope.clone(), true).status,
                privileged,
                "{scope:?}"
            );
        }
        assert_eq!(
            unprivileged_userfaultfd(some("0"), false).status,
            Status::Denied
        );
        assert_eq!(
            unprivileged_userfaultfd(some("0"), true).status,
            Status::Works
        );
        assert_eq!(
            unprivileged_userfaultfd(some("1"), false).status,
            Status::Works
        );
        assert_eq!(unprivileged_userfaultfd(None, true).status, Status::Missing);
    }
}
