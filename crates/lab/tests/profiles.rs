//! The conformance cases on modelled machines of other kernels and architectures than the one that
//! the model is compared with. What differs there has a reason, and shows nowhere else. What a kernel
//! lacks is no difference: it is found by trying, and the cases that need it are skipped.
#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::collections::BTreeSet;
use std::sync::OnceLock;

use lab::conform::{Ground, Modelled, Verdict, cases, judge};
use mm::{Arch, Kernel};

/// A way in which a machine differs from the one that the cases are written for: part of the
/// case's name and of what it shows.
#[derive(Clone, Copy)]
struct Difference {
    case: &'static str,
    shows: &'static str,
    why: &'static str,
}

const fn differs(case: &'static str, shows: &'static str, why: &'static str) -> Difference {
    Difference { case, shows, why }
}

const LARGE_PAGES: [Difference; 7] = [
    differs(
        "/collapse.anon",
        "512p collapse",
        "512 pages are no huge page",
    ),
    differs(
        "/fault-around.shmem",
        "is -, not PF",
        "64 KiB around a fault are fewer pages",
    ),
    differs(
        "/dontneed-file-private",
        "page 512",
        "512 pages are no huge page",
    ),
    differs(
        "/hpage.first-half",
        "@256p..",
        "256 pages are no half of a huge page",
    ),
    differs(
        "uffd-unit-tests/poison.",
        " lsb 1",
        "a lost page is as large as a page is",
    ),
    differs(
        "memory-failure/madv-hard.",
        " lsb 1",
        "a lost page is as large as a page is",
    ),
    differs(
        "hugetlb",
        "copy=0xfffffffffffffff2",
        "what a program copies from is not as large as a huge page",
    ),
];

const LARGE_HUGE_PAGES: [Difference; 2] = [
    differs(
        "uffd-unit-tests/poison.hugetlb",
        " lsb 2",
        LARGE_PAGES[4].why,
    ),
    differs(
        "uffd-unit-tests/wp-fork.shmem",
        "is -, not PF",
        LARGE_PAGES[1].why,
    ),
];

/// The cases that fail, as `family/name: why`, and how many pass.
fn run(mut ground: Modelled) -> (BTreeSet<String>, usize) {
    let mut failed = BTreeSet::new();
    let mut passed = 0;
    for case in cases(ground.geometry()).unwrap() {
        let found = judge(&case, &mut ground);
        match found.result {
            Verdict::Fail => {
                failed.insert(format!("{}/{}: {}", found.family, found.name, found.why));
            }
            Verdict::Pass => passed += 1,
            Verdict::Skip => {}
        }
    }
    (failed, passed)
}

fn name(failure: &str) -> &str {
    failure.split(": ").next().unwrap()
}

/// Runs all cases and compares what fails with what may: every failure has a reason, and every
/// reason a failure. `at_least` so many pass.
fn differs_only_by(kernel: Kernel, arch: Arch, reasons: &[&[Difference]], at_least: usize) {
    // What the model lacks anywhere is the affair of the test beside the cases.
    static LACKING: OnceLock<BTreeSet<String>> = OnceLock::new();
    let lacking = LACKING.get_or_init(|| run(Modelled::default()).0);
    let lacking: BTreeSet<&str> = lacking.iter().map(|failure| name(failure)).collect();
    let (failed, passed) = run(Modelled::new(kernel, arch));
    let mut unused: Vec<&Difference> = reasons.iter().copied().flatten().collect();
    let mut strange = Vec::new();
    for failure in failed
        .iter()
        .filter(|failure| !lacking.contains(name(failure)))
    {
        let fits = |reason: &&Difference| {
            name(failure).contains(reason.case) && failure.contains(reason.shows)
        };
        if !reasons
            .iter()
            .copied()
            .flatten()
            .any(|reason| fits(&reason))
        {
            strange.push(failure);
        }
        unused.retain(|reason| !fits(reason));
    }
    assert!(strange.is_empty(), "{kernel:?} {arch:?}: {strange:#?}");
    let unused: Vec<&str> = unused.iter().map(|reason| reason.why).collect();
    assert!(unused.is_empty(), "{kernel:?} {arch:?}: {unused:#?}");
    assert!(passed >= at_least, "{kernel:?} {arch:?}: {passed}");
}

#[test]
fn linux_6_1() {
    differs_only_by(Kernel::V6_1, Arch::X86_64, &[], 250);
}

#[test]
fn linux_6_12() {
    differs_only_by(Kernel::V6_12, Arch::X86_64, &[], 440);
}

#[test]
fn linux_7_3() {
    differs_only_by(Kernel::V7_3, Arch::X86_64, &[], 500);
}

#[test]
fn arm64_with_pages_of_4_kib() {
    differs_only_by(Kernel::V6_18, Arch::Arm64Page4K, &[], 480);
}

#[test]
fn arm64_with_pages_of_16_kib() {
    let reasons = [&LARGE_PAGES[..], &LARGE_HUGE_PAGES[..1]];
    differs_only_by(Kernel::V6_18, Arch::Arm64Page16K, &reasons, 460);
}

#[test]
fn arm64_with_pages_of_64_kib() {
    let reasons = [&LARGE_PAGES[..], &LARGE_HUGE_PAGES[..]];
    differs_only_by(Kernel::V6_18, Arch::Arm64Page64K, &reasons, 460);
}
