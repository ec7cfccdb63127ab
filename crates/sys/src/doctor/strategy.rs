//! Which ways of taking a snapshot are open, from what was found.

use std::collections::BTreeMap;

use super::report::{Finding, Row, Status, Strategy};

/// Tells of each strategy whether it works, for the process that `rows` are about if there are any.
///
/// Stopping and reading are needed by all; the rest is what each adds.
pub(super) fn judge(
    features: &BTreeMap<String, Finding>,
    rows: &[Row],
) -> BTreeMap<String, Strategy> {
    let stop = ["ptrace", "process_vm_readv"];
    let protect = ["wp_async", "pagemap_scan_wp_matching", "pidfd_getfd"];
    let any = [
        "process",
        "kernel_thread",
        "zombie",
        "user",
        "tracer",
        "program",
        "shared_memory",
    ];
    let freeze = hindered(rows, &any)
        .unwrap_or_else(|| all(features, &stop, "stops the process and reads its memory"));
    let works = freeze.status == Status::Works;
    let fork = if works {
        hindered(rows, &["seccomp_fork", "seccomp_reap"])
            .unwrap_or_else(|| strategy(Status::Works, "a forked child holds the memory still"))
    } else {
        freeze.clone()
    };
    let protected = hindered(rows, &["seccomp_track"]).unwrap_or_else(|| {
        let works = "asynchronous write protection notices writes";
        all(features, &protect, works)
    });
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

/// The first of some things about the process that stands in the way, if one does.
fn hindered(rows: &[Row], names: &[&str]) -> Option<Strategy> {
    let row = rows
        .iter()
        .find(|row| names.contains(&row.name.as_str()) && !row.finding.is_good())?;
    Some(strategy(
        row.finding.status,
        &format!("{}: {}", row.name, row.finding.why),
    ))
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
        judge(
            &ALL.map(|name| (name.to_owned(), finding(name))).into(),
            &[],
        )
    }

    /// Which strategies are left where one thing about a process stands in the way.
    fn left(name: &str) -> [bool; 3] {
        let features = ALL[..5].iter();
        let features = features.map(|&name| (name.to_owned(), Finding::works("test")));
        let rows = [Row {
            name: name.to_owned(),
            finding: Finding::denied("test"),
        }];
        let strategies = judge(&features.collect(), &rows);
        ["precopy", "fork", "freeze"].map(|name| strategies[name].status == Status::Works)
    }

    #[test]
    fn what_a_process_leaves() {
        assert_eq!(left("tracer"), [false; 3]);
        assert_eq!(left("seccomp_track"), [false, true, true]);
        assert_eq!(left("seccomp_fork"), [true, false, true]);
        assert_eq!(left("seccomp_reap"), [true, false, true]);
        assert_eq!(left("uninterruptible"), [true; 3]);
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
