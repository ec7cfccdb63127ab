//! A process with a userfaultfd of its own: no fault waits for its frozen handler.

use std::time::{Duration, Instant};

use crate::common::{Ended, STRATEGIES, Target, Tool, ask, mix, number, pages_of, skip, word};

#[test]
fn pages_that_nobody_served_are_left_alone() {
    let mut target = Target::start("uffd", &[]);
    if let Some(reason) = target.skipped() {
        skip(reason);
        return;
    }
    let (start, count) = (target.number("start"), target.number("pages"));
    let served = target.number("served");
    let waiting = target.ask(&format!("touch {}", count - 1));
    assert_eq!(
        number(&waiting, "waiting"),
        1,
        "the fault is not served yet"
    );
    for strategy in STRATEGIES {
        let begun = Instant::now();
        let mut tool = Tool::on(&target);
        if !tool.can(strategy) {
            continue;
        }
        for _ in 0..3 {
            let (_, snapshot) = tool.must(&ask(strategy));
            let pages = pages_of(&snapshot);
            for page in 0..count {
                let bytes = pages.page(start + page * snapshot.page_size().bytes());
                match bytes {
                    Some(bytes) if page < served => assert_eq!(word(&bytes, 64), mix(page)),
                    None if page >= served => {}
                    _ => panic!("{strategy:?}: page {page} of {served} served ones"),
                }
            }
        }
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{strategy:?} waited"
        );
        assert_eq!(
            number(&target.ask("report"), "waiting"),
            1,
            "{strategy:?} served the fault"
        );
    }
    let after = target.ask("serve-all");
    assert_eq!(
        number(&after, "touched"),
        1,
        "the fault got its page in the end"
    );
    let mut tool = Tool::on(&target);
    for strategy in STRATEGIES {
        if tool.can(strategy) {
            let (_, snapshot) = tool.must(&ask(strategy));
            let last = pages_of(&snapshot).word(start + (count - 1) * snapshot.page_size().bytes());
            assert_eq!(last, Ok(mix(count - 1)), "{strategy:?}");
        }
    }
    drop(tool);
    assert_eq!(target.finish(), Ended::Exit(0));
}
