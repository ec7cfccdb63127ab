//! Which ways of taking a snapshot are open, from what was found.

use std::collections::BTreeMap;

use super::report::{Finding, Status, Strategy};

/// Tells of each strategy whether it works.
///
/// Stopping and reading are needed by all; the rest is what each adds.
pub(super) fn judge(features: &BTreeMap<String, Finding>) -> BTreeMap<String, Strategy> {
    let stop = ["ptrace", "process_vm_readv"];
    let protect = ["wp_async", "pagemap_scan_wp_matching", "pidfd_getfd"];
    let freeze = all(features, &stop, "stops the process and reads its memory");
    let works = freeze.status == Status::Works;
    let fork = if works {
        strategy(Status::Works, "a forked child holds the memory still")
    } else {
        freeze.clone()
    };
    let protected = all(
        features,
        &protect,
        "asynchronous write protection notices writes",
    );
    let soft_dirty = all(
        features,
        &["soft_dirty"],
        "soft-dirty bits notice writes, in a stop",
    );
    let precopy = if !works {
        freeze.clone()
    } else if soft_dirty.status == Status::Works && protected.status != Status::Works {
        soft_dirty
    } else {
        protected
    };
    [("precopy", precopy), ("fork", fork), ("freeze", freeze)]
        .map(|(name, strategy)| (name.to_owned(), strategy))
        .into()
}

/// Works if all of `needed` do; else says what the first that does not lacks.
fn all(features: &BTreeMap<String, Finding>, needed: &[&str], works: &str) -> Strategy {
    for name in needed {
        match features.get(*name) {
            Some(finding) if finding.is_good() => {}
            Some(finding) => return strategy(finding.status, &format!("{name}: {}", finding.why)),
            None => return strategy(Status::Missing, &format!("{name} was not probed")),
        }
    }
    strategy(Status::Works, works)
}

fn strategy(status: Status, why: &str) -> Strategy {
    Strategy {
        status,
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 6] = [
        "ptrace",
        "process_vm_readv",
        "wp_async",
        "pagemap_scan_wp_matching",
        "pidfd_getfd",
        "soft_dirty",
    ];

    fn without(missing: &[&str]) -> BTreeMap<String, Strategy> {
        let finding = |name| match missing.contains(&name) {
            true => Finding::denied("test"),
            false => Finding::works("test"),
        };
        judge(&ALL.map(|name| (name.to_owned(), finding(name))).into())
    }

    fn works(missing: &[&str]) -> [bool; 3] {
        let strategies = without(missing);
        ["precopy", "fork", "freeze"].map(|name| strategies[name].status == Status::Works)
    }

    #[test]
    fn what_each_way_needs() {
        assert_eq!(works(&["ptrace"]), [false; 3]);
        assert_eq!(works(&["process_vm_readv"]), [false; 3]);
        assert_eq!(works(&["wp_async", "soft_dirty"]), [false, true, true]);
        assert_eq!(works(&["wp_async"]), [true; 3]);
        assert_eq!(works(&[]), [true; 3]);
        assert!(without(&["ptrace"])["fork"].why.starts_with("ptrace: "));
    }
}
