//! The audits themselves: they hold for memory that stands still, and notice memory that moves.

use std::time::{Duration, Instant};

use space::PageSize;

use crate::common::{
    Ended, LiveMemory, Pages, Target, audit_bank, audit_slots, compare_areas, go_on, stop,
};

fn page_size() -> PageSize {
    PageSize::new(rustix::param::page_size() as u64).expect("a page size")
}

#[test]
fn a_bank_that_stands_still_balances() {
    let target = Target::start("bank", &["--mib", "4", "--hugetlb"]);
    let memory = LiveMemory::open(target.pid());
    let pages = Pages::new(&memory, page_size());
    let mut before = 0;
    let until = Instant::now() + Duration::from_secs(60);
    for _ in 0..20 {
        // A machine under load may not have let it run at once.
        let transfers = loop {
            std::thread::sleep(Duration::from_millis(5));
            stop(target.pid());
            let transfers = audit_bank(&target.ready, &pages).unwrap();
            go_on(target.pid());
            if transfers > before {
                break transfers;
            }
            assert!(Instant::now() < until, "the bank stands still");
        };
        before = transfers;
    }
    assert_eq!(target.finish(), Ended::Exit(0));
}

#[test]
fn a_bank_that_is_read_while_it_works_does_not_balance() {
    let target = Target::start("bank", &["--mib", "4"]);
    let memory = LiveMemory::open(target.pid());
    let pages = Pages::new(&memory, page_size());
    let torn = (0..5)
        .filter(|_| audit_bank(&target.ready, &pages).is_err())
        .count();
    assert!(torn > 0, "the audit notices nothing");
}

#[test]
fn a_storm_of_mappings_holds_its_patterns() {
    let target = Target::start("storm", &["--mode", "map"]);
    let memory = LiveMemory::open(target.pid());
    let pages = Pages::new(&memory, page_size());
    let mut good = 0;
    for _ in 0..20 {
        stop(target.pid());
        good += audit_slots(&target.ready, &pages).unwrap();
        go_on(target.pid());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(good > 100, "only {good} pages were looked at");
    let torn = (0..50)
        .filter(|_| audit_slots(&target.ready, &pages).is_err())
        .count();
    assert!(torn > 0, "the audit notices nothing");
    assert_eq!(target.finish(), Ended::Exit(0));
}

#[test]
fn areas_hold_what_their_targets_say() {
    for (name, args) in [("hidden", &[][..]), ("special", &["--hugetlb"])] {
        let mut target = Target::start(name, args);
        let memory = LiveMemory::open(target.pid());
        let pages = Pages::new(&memory, page_size());
        let ready = target.ready.clone();
        for (area, told) in ready["areas"].as_object().unwrap() {
            compare_areas(area, told, &pages).unwrap();
            let mut wrong = told.clone();
            wrong["fill"][1] = 255.into();
            compare_areas(area, &wrong, &pages).unwrap_err();
        }
        if name == "hidden" {
            let changed = target.ask("all 50");
            for (area, told) in changed["areas"].as_object().unwrap() {
                compare_areas(area, told, &pages).unwrap();
                compare_areas(area, &ready["areas"][area], &pages).unwrap_err();
            }
        }
        assert_eq!(target.finish(), Ended::Exit(0));
    }
}
