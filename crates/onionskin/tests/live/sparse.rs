//! A terabyte that is hardly used costs nothing.

use crate::common::{Ended, STRATEGIES, Target, Tool, ask, mix, number, pages_of, word};

#[test]
fn reserved_memory_costs_nothing() {
    let mut target = Target::start("sparse", &["--gib", "1024", "--pages", "4000"]);
    let (start, step) = (target.number("start"), target.number("step"));
    for strategy in STRATEGIES {
        let before = target.ask("report");
        let mut tool = Tool::on(&target);
        if !tool.can(strategy) {
            continue;
        }
        for round in 0..3 {
            let written = number(&target.ask("touch"), "pages");
            let (report, snapshot) = tool.must(&ask(strategy));
            let pages = pages_of(&snapshot);
            for page in [0, 1, written / 2, written - 1] {
                let bytes = pages
                    .page(start + page * step)
                    .expect("the page was touched");
                assert_eq!(word(&bytes, 0), mix(page), "{strategy:?}, page {page}");
                assert!(bytes[8..].iter().all(|&byte| byte == 0));
                assert_eq!(pages.page(start + page * step + report.page_size), None);
            }
            let bytes_max = (written + 5000) * report.page_size;
            assert!(
                report.bytes_read < bytes_max,
                "{strategy:?}: {} read",
                report.bytes_read
            );
            assert!(
                report.pages_total < written + 20_000,
                "{}",
                report.pages_total
            );
            if round > 0 && strategy == onionskin::Strategy::Precopy {
                let few = 2000 * report.page_size;
                assert!(
                    report.bytes_read < few,
                    "a layer read {}",
                    report.bytes_read
                );
            }
        }
        drop(tool);
        let after = target.ask("report");
        for what in ["rss_kb", "pte_kb"] {
            // The pages touched meanwhile, and a percent of what was there.
            let allowed = number(&before, what) * 101 / 100 + 3 * 12;
            assert!(
                number(&after, what) <= allowed,
                "{strategy:?}: {what} grew from {} to {}",
                before[what],
                after[what]
            );
        }
    }
    assert_eq!(target.finish(), Ended::Exit(0));
}
