use super::*;
use crate::entry::Marker;

fn tables() -> PageTables {
    let geometry = Geometry {
        page_shift: 12,
        levels: 4,
    };
    PageTables::new(geometry, Codec::X86_64)
}

const PAGE: u64 = 4096;
const HUGE: u64 = 2 << 20;
const GUARD: Entry = Entry::Marker(Marker::GUARD);

#[test]
fn a_run_ends_with_its_table() {
    let mut tables = tables();
    assert_eq!(tables.next_run(0, 8 * HUGE), None);
    let slot = tables.alloc_to(3 * HUGE + 5 * PAGE, 0).unwrap();
    tables.set(slot, GUARD);
    let run = tables.next_run(0, 8 * HUGE).unwrap();
    assert_eq!((run.start, run.end), (3 * HUGE, 4 * HUGE));
    assert_eq!(run.slot.index, 0);
    assert_eq!(tables.next_run(run.end, 8 * HUGE), None);
    assert_eq!(tables.lookup(3 * HUGE + 5 * PAGE).1, GUARD);
}

#[test]
fn tables_are_kept_where_a_neighbour_needs_them() {
    let mut tables = tables();
    tables.alloc_to(HUGE, 0).unwrap();
    let used = tables.tables_used();
    tables.free_range(HUGE, HUGE + PAGE, HUGE - PAGE, HUGE + 2 * PAGE);
    assert_eq!(
        tables.tables_used(),
        used,
        "a mapping two pages on needs it"
    );
    tables.free_range(HUGE, HUGE + PAGE, 0, 2 * HUGE);
    assert_eq!(tables.tables_used(), used - 1);
    tables.free_range(HUGE, HUGE + PAGE, 0, u64::MAX);
    assert_eq!(tables.tables_used(), 1, "the root is left");
}

#[test]
fn a_huge_entry_is_in_the_way_of_a_table() {
    let mut tables = tables();
    let slot = tables.alloc_to(HUGE, PMD).unwrap();
    tables.set(slot, GUARD);
    assert_eq!(tables.alloc_to(HUGE + PAGE, 0), None);
    let run = tables.next_run(HUGE + PAGE, 4 * HUGE).unwrap();
    assert_eq!(
        (run.start, run.end, run.slot.level),
        (HUGE + PAGE, 2 * HUGE, PMD)
    );
}

#[test]
fn every_place_that_says_something_is_visited_in_order() {
    let mut tables = tables();
    let far = 1 << 40;
    for addr in [far, 3 * HUGE + 5 * PAGE, 3 * HUGE + 511 * PAGE] {
        let slot = tables.alloc_to(addr, 0).unwrap();
        tables.set(slot, GUARD);
    }
    let huge = tables.alloc_to(9 * HUGE, PMD).unwrap();
    tables.set(huge, GUARD);
    let mut seen = Vec::new();
    let visited = tables.visit_all(|addr, slot| {
        seen.push((addr, slot.level));
        Ok::<(), ()>(())
    });
    assert_eq!(visited, Ok(()));
    let expected = [
        (3 * HUGE + 5 * PAGE, 0),
        (3 * HUGE + 511 * PAGE, 0),
        (9 * HUGE, 1),
        (far, 0),
    ];
    assert_eq!(seen, expected);
}
