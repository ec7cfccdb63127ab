//! Memory of every kind.

use onionskin::SnapshotOptions;

use crate::common::{
    Ended, STRATEGIES, Target, Tool, ask, ask_all, compare_areas, hugetlb_mib, is_slow, mix,
    number, pages_of, skip, skip_part,
};

fn start() -> Target {
    if hugetlb_mib(64) {
        Target::start("special", &["--hugetlb"])
    } else {
        skip_part("hugetlb", "there are no huge pages to be had");
        Target::start("special", &[])
    }
}

#[test]
fn what_a_dump_would_take_is_taken() {
    let mut target = start();
    for strategy in STRATEGIES {
        let mut tool = Tool::on(&target);
        if !tool.can(strategy) {
            continue;
        }
        for round in 0..2 {
            let (report, snapshot) = tool.must(&SnapshotOptions {
                verify: true,
                ..ask(strategy)
            });
            assert_eq!(report.verify.map(|verify| verify.differing_pages), Some(0));
            let pages = pages_of(&snapshot);
            for (name, area) in target.ready["areas"].as_object().unwrap() {
                if area["core"] == true {
                    compare_areas(name, area, &pages)
                        .unwrap_or_else(|error| panic!("{strategy:?}, {round}: {error}"));
                } else {
                    let first = pages.page(number(area, "start"));
                    assert_eq!(first, None, "{strategy:?}: {name} is not for a dump");
                }
            }
        }
        drop(tool);
        assert_eq!(target.ask("check")["ok"], true, "after {strategy:?}");
    }
    assert_eq!(target.finish(), Ended::Exit(0));
}

#[test]
fn all_that_can_be_read_is_taken_on_request() {
    let mut target = start();
    for strategy in STRATEGIES {
        let mut tool = Tool::on(&target);
        if !tool.can(strategy) {
            continue;
        }
        let (_, snapshot) = tool.must(&ask_all(strategy));
        let pages = pages_of(&snapshot);
        for (name, area) in target.ready["areas"].as_object().unwrap() {
            compare_areas(name, area, &pages)
                .unwrap_or_else(|error| panic!("{strategy:?}: {error}"));
        }
        drop(tool);
        assert_eq!(target.ask("check")["ok"], true, "after {strategy:?}");
    }
    assert_eq!(target.finish(), Ended::Exit(0));
}

#[test]
fn thousands_of_mappings_are_taken() {
    let mappings = if is_slow() { "3000" } else { "12000" };
    let target = Target::start("special", &["--mappings", mappings]);
    let count = number(&target.ready["mappings"], "count");
    let start = number(&target.ready["mappings"], "start");
    assert!(count > 1000, "only {count} mappings could be made");
    for strategy in STRATEGIES {
        let mut tool = Tool::on(&target);
        if !tool.can(strategy) {
            continue;
        }
        let (_, snapshot) = tool.must(&ask(strategy));
        assert!(snapshot.meta().mappings.len() as u64 >= count);
        let pages = pages_of(&snapshot);
        let size = snapshot.page_size().bytes();
        let bytes = pages.read(start, count * size).unwrap();
        for page in 0..count {
            let found = crate::common::word(&bytes, page * size);
            assert_eq!(found, mix(page), "{strategy:?}, page {page}");
        }
    }
    assert_eq!(target.finish(), Ended::Exit(0));
}

#[test]
fn swapped_pages_are_taken() {
    for strategy in STRATEGIES {
        let mut target = Target::start("swapped", &[]);
        if number(&target.ask("write 1"), "swapped") == 0 {
            skip("nothing is swapped out here");
            return;
        }
        let mut tool = Tool::on(&target);
        if !tool.can(strategy) {
            continue;
        }
        let mut seen = 0;
        for round in 0..6 {
            let told = target.ask(&format!("write {}", 40 * round));
            seen += number(&told, "swapped");
            // What comes back in by itself is as little written as what stays out.
            for told in [told, target.ask("touch")] {
                let (report, snapshot) = tool.must(&SnapshotOptions {
                    verify: true,
                    ..ask(strategy)
                });
                assert_eq!(report.verify.map(|verify| verify.differing_pages), Some(0));
                compare_areas("swapped", &told["area"], &pages_of(&snapshot))
                    .unwrap_or_else(|error| panic!("{strategy:?}, {round}: {error}"));
            }
        }
        assert!(seen > 0, "nothing was swapped out while it was tracked");
        assert_eq!(target.finish(), Ended::Exit(0));
    }
}
