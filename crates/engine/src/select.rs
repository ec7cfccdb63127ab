//! What belongs in a snapshot, and how far its page tables can be trusted.
//!
//! Linux reference: `vma_dump_size` in `fs/coredump.c`, and `core(5)` for the filter's bits.

use serde::{Deserialize, Serialize};
use space::{Mapping, MappingFlags, PageRange, PageSize, Protection, RangeSet, Sharing};

/// Which mappings belong in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Selection {
    /// Those that the kernel's own dump would take with this `/proc/PID/coredump_filter`.
    CoredumpFilter(u32),
    /// Every mapping that can be read, those marked `MADV_DONTDUMP` too.
    All,
}

impl Default for Selection {
    /// The kernel's default filter: private and shared anonymous memory, ELF headers, private
    /// huge pages.
    fn default() -> Self {
        Self::CoredumpFilter(0x33)
    }
}

/// How the content of memory is got at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Private anonymous memory: tracked page by page.
    Private,
    /// A private mapping of a file: the process's own copies of pages are tracked, the file's
    /// pages are read in the freeze, since a write to the file changes them unseen.
    PrivateFile,
    /// Memory that is written without its page tables showing it: shared memory, rings of
    /// asynchronous I/O, pinned buffers, the vDSO, private huge pages (a dropped one comes back
    /// from zeros with its protection in place). Read in the freeze, whole.
    Volatile,
    /// Memory of somebody's userfaultfd, where reading a missing page waits for its handler: only
    /// pages in the page tables are read, in the freeze.
    Foreign,
}

/// A part of a mapping that belongs in the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The addresses. Parts are sorted and disjoint.
    pub range: PageRange,
    /// How their content is got at.
    pub class: Class,
    /// Which of the mappings it is a part of.
    pub mapping: usize,
}

const ANON_PRIVATE: u32 = 1;
const ANON_SHARED: u32 = 1 << 1;
const MAPPED_PRIVATE: u32 = 1 << 2;
const MAPPED_SHARED: u32 = 1 << 3;
const ELF_HEADERS: u32 = 1 << 4;
const HUGETLB_PRIVATE: u32 = 1 << 5;
const HUGETLB_SHARED: u32 = 1 << 6;

/// How much of a mapping is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Nothing,
    FirstPage,
    Whole,
}

/// Returns the parts of `mappings` that `selection` takes, in order of address.
///
/// `volatile` holds addresses that are written without the page tables showing it, as pinned
/// buffers: they become parts of their own, widened to whole pages of their mapping.
pub fn select(
    selection: Selection,
    mappings: &[Mapping],
    volatile: &RangeSet,
    page_size: PageSize,
) -> Vec<Part> {
    let mut parts = Vec::with_capacity(mappings.len());
    for (index, mapping) in mappings.iter().enumerate() {
        let extent = if never(mapping) {
            Extent::Nothing
        } else {
            match selection {
                Selection::CoredumpFilter(filter) => dumped(filter, mapping),
                Selection::All => readable(mapping),
            }
        };
        let range = match extent {
            Extent::Nothing => continue,
            Extent::FirstPage => first_page(mapping.range, page_size),
            Extent::Whole => mapping.range,
        };
        split(&mut parts, index, mapping, range, volatile);
    }
    parts
}

/// Tells whether reading the mapping is impossible, dangerous or without meaning.
fn never(mapping: &Mapping) -> bool {
    mapping
        .flags
        .intersects(MappingFlags::IO | MappingFlags::PFN_MAP)
        || mapping.name.starts_with("[vvar")
        || mapping.name == "[vsyscall]"
}

fn is_vdso(mapping: &Mapping) -> bool {
    mapping.name == "[vdso]"
}

/// What is taken with [`Selection::All`].
fn readable(mapping: &Mapping) -> Extent {
    let own = !mapping.has_file() || mapping.flags.contains(MappingFlags::HAS_OWN_PAGES);
    let private = mapping.sharing == Sharing::Private;
    if mapping.protection.contains(Protection::READ) || (private && own) {
        Extent::Whole
    } else {
        Extent::Nothing
    }
}

/// What the kernel's dump takes with `filter`.
fn dumped(filter: u32, mapping: &Mapping) -> Extent {
    let shared = mapping.sharing == Sharing::Shared;
    let has = |flag| mapping.flags.contains(flag);
    let whole_if = |bit| {
        if filter & bit == 0 {
            Extent::Nothing
        } else {
            Extent::Whole
        }
    };
    if is_vdso(mapping) {
        return Extent::Whole;
    }
    if has(MappingFlags::DONT_DUMP) {
        return Extent::Nothing;
    }
    if has(MappingFlags::HUGETLB) {
        return whole_if(if shared {
            HUGETLB_SHARED
        } else {
            HUGETLB_PRIVATE
        });
    }
    if shared {
        return whole_if(if has(MappingFlags::UNLINKED) {
            ANON_SHARED
        } else {
            MAPPED_SHARED
        });
    }
    let own = !mapping.has_file() || has(MappingFlags::HAS_OWN_PAGES);
    if own && filter & ANON_PRIVATE != 0 {
        return Extent::Whole;
    }
    if !mapping.has_file() {
        return Extent::Nothing;
    }
    if filter & MAPPED_PRIVATE != 0 {
        return Extent::Whole;
    }
    let header = mapping.file_offset == 0
        && mapping.protection.contains(Protection::READ)
        && (mapping.protection.contains(Protection::EXEC) || has(MappingFlags::ELF_HEADER));
    if filter & ELF_HEADERS != 0 && header {
        Extent::FirstPage
    } else {
        Extent::Nothing
    }
}

fn class_of(mapping: &Mapping) -> Class {
    if mapping.flags.contains(MappingFlags::USERFAULT_WAITS) {
        Class::Foreign
    } else if mapping.sharing == Sharing::Shared
        || mapping.name.starts_with("/[aio]")
        || is_vdso(mapping)
        || mapping.flags.contains(MappingFlags::HUGETLB)
    {
        Class::Volatile
    } else if mapping.has_file() {
        Class::PrivateFile
    } else {
        Class::Private
    }
}

fn first_page(range: PageRange, page_size: PageSize) -> PageRange {
    range
        .chunks(space::ByteLen(page_size.bytes()))
        .next()
        .expect("a range holds a page")
}

/// Adds `range` of `mapping` to `parts`, with its volatile addresses apart.
fn split(
    parts: &mut Vec<Part>,
    index: usize,
    mapping: &Mapping,
    range: PageRange,
    volatile: &RangeSet,
) {
    let class = class_of(mapping);
    let mut push = |range, class| {
        parts.push(Part {
            range,
            class,
            mapping: index,
        });
    };
    if matches!(class, Class::Volatile | Class::Foreign) {
        return push(range, class);
    }
    let first = volatile
        .ranges()
        .partition_point(|pinned| pinned.end() <= range.start());
    let mut at = range.start();
    for pinned in &volatile.ranges()[first..] {
        if pinned.start() >= range.end() {
            break;
        }
        let start = pinned.start().align_down(mapping.page_size).max(at);
        let end = pinned
            .end()
            .align_up(mapping.page_size)
            .map_or(range.end(), |end| end.min(range.end()));
        if let Some(before) = PageRange::new(at, start) {
            push(before, class);
        }
        if let Some(inside) = PageRange::new(start, end) {
            push(inside, Class::Volatile);
        }
        at = at.max(end);
    }
    if let Some(rest) = PageRange::new(at, range.end()) {
        push(rest, class);
    }
}

#[cfg(test)]
mod tests;
