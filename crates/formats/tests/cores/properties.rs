//! Random mappings and captured pages, written and read back.

use std::collections::BTreeMap;

use formats::core::{CoreMapping, Dumped};
use proptest::prelude::*;
use space::Protection;

use crate::parser::Core;
use crate::support::*;

/// One mapping of a random process, in pages.
#[derive(Clone, Debug)]
struct Piece {
    gap: u64,
    pages: u64,
    dumped: Dumped,
    has_file: bool,
    protection: u8,
    /// For each page nothing (not captured), zero, or the byte that it holds.
    contents: Vec<Option<u8>>,
}

fn piece() -> impl Strategy<Value = Piece> {
    let dumped = prop_oneof![
        3 => Just(Dumped::Whole),
        3 => Just(Dumped::Captured),
        1 => Just(Dumped::FirstPage),
        1 => Just(Dumped::Nothing),
    ];
    let contents = prop::collection::vec(prop::option::of(0_u8..4), 1..40);
    (0_u64..5, dumped, any::<bool>(), 0_u8..8, contents).prop_map(
        |(gap, dumped, has_file, protection, contents)| Piece {
            gap,
            pages: contents.len() as u64,
            dumped,
            has_file,
            protection,
            contents,
        },
    )
}

/// Makes the mappings and the pages of a random process.
fn build(pieces: &[Piece]) -> (Vec<CoreMapping>, Pages) {
    let mut at = 0x1_0000;
    let mut pages = BTreeMap::new();
    let mut mappings = Vec::new();
    for piece in pieces {
        at += piece.gap * PAGE;
        let end = at + piece.pages * PAGE;
        let mut mapping = if piece.has_file {
            of_file(at, end, "/some/file", 0)
        } else {
            anonymous(at, end)
        };
        mapping.protection = Protection::from_bits_truncate(piece.protection);
        mappings.push(dumped(mapping, piece.dumped));
        for (page, content) in (at..).step_by(4096).zip(&piece.contents) {
            if let Some(byte) = content {
                pages.insert(page, vec![*byte; 4096]);
            }
        }
        at = end;
    }
    (mappings, Pages(pages))
}

/// What the core must hold of the page at `address`.
fn wanted(mapping: &CoreMapping, pages: &Pages, address: u64) -> Option<Vec<u8>> {
    let page = pages.0.get(&address).cloned();
    match mapping.dumped {
        Dumped::Whole => Some(page.unwrap_or(vec![0; 4096])),
        Dumped::Captured => page,
        Dumped::FirstPage if address == mapping.mapping.range.start().0 => page,
        Dumped::FirstPage | Dumped::Nothing => None,
    }
}

fn check_page(core: &Core, mapping: &CoreMapping, pages: &Pages, address: u64) {
    let segment = core.segment(address);
    let flags = [
        (Protection::READ, 4),
        (Protection::WRITE, 2),
        (Protection::EXEC, 1),
    ];
    let want: u32 = flags
        .iter()
        .filter(|(held, _)| mapping.mapping.protection.contains(*held))
        .map(|(_, flag)| flag)
        .sum();
    assert_eq!(segment.flags, want);
    let range = mapping.mapping.range;
    assert!(range.start().0 <= segment.address && segment.addresses().end <= range.end().0);
    let want = wanted(mapping, pages, address);
    assert_eq!(core.memory(address, PAGE), want.as_deref(), "{address:#x}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_back(pieces in prop::collection::vec(piece(), 1..20)) {
        let (mappings, pages) = build(&pieces);
        let (file, summary) = write(&mappings, &pages).unwrap();
        prop_assert_eq!(summary.file_len.0, file.len() as u64);
        let core = Core::parse(file);
        prop_assert_eq!(summary.segments, core.loads.len() as u64 + 1);

        let covered: u64 = core.loads.iter().map(|load| load.memory_len).sum();
        let mapped: u64 = mappings.iter().map(|mapping| mapping.mapping.range.len().0).sum();
        prop_assert_eq!(covered, mapped, "segments and mappings cover the same");
        prop_assert!(core.loads.is_sorted_by_key(|load| load.address));
        prop_assert!(core.loads.iter().all(|load| load.offset % PAGE == 0));

        let mut in_core = 0;
        let mut written = 0;
        for mapping in &mappings {
            let range = mapping.mapping.range;
            for address in (range.start().0..range.end().0).step_by(4096) {
                check_page(&core, mapping, &pages, address);
                let held = wanted(mapping, &pages, address).and(pages.0.get(&address));
                in_core += held.map_or(0, |_| PAGE);
                written += held.map_or(0, |page| if page[0] == 0 { 0 } else { PAGE });
            }
        }
        prop_assert_eq!(summary.left_out.0, pages.captured().len().0 - in_core);
        prop_assert_eq!(summary.written.0, written);
    }
}

#[test]
fn runs_longer_than_the_buffer_are_copied_whole() {
    let pages = (0..700).map(|nth| (0x10_0000 + nth * PAGE, page_of(nth)));
    let pages = Pages(
        pages
            .filter(|(at, _)| !(at / PAGE).is_multiple_of(301))
            .collect(),
    );
    let mapping = dumped(anonymous(0x10_0000, 0x10_0000 + 700 * PAGE), Dumped::Whole);
    let core = written(std::slice::from_ref(&mapping), &pages);
    for nth in 0..700 {
        check_page(&core, &mapping, &pages, 0x10_0000 + nth * PAGE);
    }
}
