use space::{Protection, Vaddr};

use super::*;

const PAGE: u64 = 4096;
const R: Protection = Protection::READ;

fn size(bytes: u64) -> PageSize {
    PageSize::new(bytes).unwrap()
}

fn range(start: u64, end: u64) -> PageRange {
    PageRange::new(Vaddr(start * PAGE), Vaddr(end * PAGE)).unwrap()
}

/// Private anonymous memory of ten pages.
fn anonymous() -> Mapping {
    Mapping {
        range: range(10, 20),
        protection: R | Protection::WRITE,
        sharing: Sharing::Private,
        file_offset: 0,
        device: (0, 0),
        inode: 0,
        name: String::new(),
        flags: MappingFlags::empty(),
        page_size: size(PAGE),
    }
}

fn file(flags: MappingFlags) -> Mapping {
    Mapping {
        protection: R,
        inode: 9,
        name: "/lib/x".to_owned(),
        flags,
        ..anonymous()
    }
}

fn shared(flags: MappingFlags) -> Mapping {
    Mapping {
        sharing: Sharing::Shared,
        ..file(flags)
    }
}

fn named(name: &str) -> Mapping {
    Mapping {
        name: name.to_owned(),
        ..anonymous()
    }
}

fn chosen(selection: Selection, mapping: &Mapping) -> Option<(u64, Class)> {
    let parts = select(
        selection,
        std::slice::from_ref(mapping),
        &RangeSet::new(),
        size(PAGE),
    );
    assert!(parts.len() <= 1);
    let part = parts.first()?;
    Some((part.range.len().0 / PAGE, part.class))
}

fn by_filter(filter: u32, mapping: &Mapping) -> Option<(u64, Class)> {
    chosen(Selection::CoredumpFilter(filter), mapping)
}

#[test]
fn each_bit_of_the_filter_selects_its_kind() {
    let own = MappingFlags::HAS_OWN_PAGES;
    let huge = MappingFlags::HUGETLB;
    let kinds = [
        (0, anonymous(), Class::Private),
        (0, file(own), Class::PrivateFile),
        (1, shared(MappingFlags::UNLINKED), Class::Volatile),
        (2, file(MappingFlags::empty()), Class::PrivateFile),
        (3, shared(MappingFlags::empty()), Class::Volatile),
        (5, file(huge), Class::Volatile),
        (6, shared(huge), Class::Volatile),
    ];
    for (bit, mapping, class) in kinds {
        for other in 0..7 {
            let wanted = match other {
                _ if other == bit => Some((10, class)),
                // The whole file counts as wanted too if its bit is set.
                2 if class == Class::PrivateFile => Some((10, class)),
                _ => None,
            };
            // The first page is a matter of its own.
            if other != 4 {
                assert_eq!(
                    by_filter(1 << other, &mapping),
                    wanted,
                    "{other} {mapping:?}"
                );
            }
        }
    }
}

#[test]
fn headers_are_one_page_of_what_could_be_a_program() {
    let headers = |mapping: &Mapping| by_filter(1 << 4, mapping);
    let one = Some((1, Class::PrivateFile));
    assert_eq!(headers(&file(MappingFlags::ELF_HEADER)), one);
    let exec = Mapping {
        protection: R | Protection::EXEC,
        ..file(MappingFlags::empty())
    };
    assert_eq!(headers(&exec), one);
    assert_eq!(headers(&file(MappingFlags::empty())), None);
    let later = Mapping {
        file_offset: PAGE,
        ..exec.clone()
    };
    assert_eq!(headers(&later), None);
    let unreadable = Mapping {
        protection: Protection::EXEC,
        ..exec
    };
    assert_eq!(headers(&unreadable), None);
}

#[test]
fn the_vdso_is_always_taken_and_devices_never() {
    let whole = Some((10, Class::Volatile));
    assert_eq!(by_filter(0, &named("[vdso]")), whole);
    for name in ["[vvar]", "[vvar_vclock]", "[vsyscall]"] {
        assert_eq!(by_filter(0x7f, &named(name)), None);
        assert_eq!(chosen(Selection::All, &named(name)), None);
    }
    for flag in [MappingFlags::IO, MappingFlags::PFN_MAP] {
        assert_eq!(chosen(Selection::All, &shared(flag)), None);
    }
}

#[test]
fn all_is_what_can_be_read_or_is_the_process_own() {
    let all = |mapping: &Mapping| chosen(Selection::All, mapping);
    let marked = Mapping {
        flags: MappingFlags::DONT_DUMP,
        ..anonymous()
    };
    assert_eq!(by_filter(0x7f, &marked), None);
    assert_eq!(all(&marked), Some((10, Class::Private)));
    let closed = |mapping: Mapping| Mapping {
        protection: Protection::empty(),
        ..mapping
    };
    assert_eq!(all(&closed(anonymous())), Some((10, Class::Private)));
    assert_eq!(all(&closed(file(MappingFlags::empty()))), None);
    assert!(all(&closed(file(MappingFlags::HAS_OWN_PAGES))).is_some());
}

#[test]
fn memory_of_a_foreign_handler_is_set_apart() {
    let waits = Mapping {
        flags: MappingFlags::USERFAULT | MappingFlags::USERFAULT_WAITS,
        ..anonymous()
    };
    assert_eq!(by_filter(0x33, &waits), Some((10, Class::Foreign)));
    // Our own registration does not wait.
    let ours = Mapping {
        flags: MappingFlags::USERFAULT,
        ..anonymous()
    };
    assert_eq!(by_filter(0x33, &ours), Some((10, Class::Private)));
    assert_eq!(
        by_filter(0x33, &named("/[aio] (deleted)")),
        Some((10, Class::Volatile))
    );
}

#[test]
fn pinned_pages_become_parts_of_their_own() {
    let pinned: RangeSet = [range(5, 11), range(12, 14), range(19, 30)]
        .into_iter()
        .collect();
    let parts = select(Selection::All, &[anonymous()], &pinned, size(PAGE));
    let found: Vec<_> = parts.iter().map(|part| (part.range, part.class)).collect();
    assert_eq!(
        found,
        [
            (range(10, 11), Class::Volatile),
            (range(11, 12), Class::Private),
            (range(12, 14), Class::Volatile),
            (range(14, 19), Class::Private),
            (range(19, 20), Class::Volatile),
        ]
    );
}

#[test]
fn pinned_addresses_are_widened_to_pages_of_the_mapping() {
    let large = Mapping {
        range: range(0x200, 0x240),
        page_size: size(16 * PAGE),
        ..anonymous()
    };
    let pinned: RangeSet = [range(0x211, 0x212)].into_iter().collect();
    let parts = select(Selection::All, &[large], &pinned, size(PAGE));
    let found: Vec<_> = parts.iter().map(|part| (part.range, part.class)).collect();
    assert_eq!(
        found,
        [
            (range(0x200, 0x210), Class::Private),
            (range(0x210, 0x220), Class::Volatile),
            (range(0x220, 0x240), Class::Private),
        ]
    );
}
