//! Which memory is still the memory it was.

use space::{Mapping, PageRange, RangeSet};

/// What has to be equal for memory to count as still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Continuity {
    /// The same addresses of the same file, or private memory in both. Mappings may grow, shrink,
    /// split, merge and change their protection: registrations follow the pages.
    Pages,
    /// The very same mapping. Soft-dirty bits of a mapping can be lost when it merges.
    Mappings,
}

/// Returns the addresses at which `new` may show the same memory as `old`. Memory that was
/// replaced by another of the same kind is not told apart here, but by its lost registration.
pub(crate) fn continuing(old: &[Mapping], new: &[Mapping], how: Continuity) -> RangeSet {
    let mut shared = Vec::new();
    let (mut left, mut right) = (0, 0);
    while let (Some(a), Some(b)) = (old.get(left), new.get(right)) {
        if let Some(both) = a.range.intersection(b.range)
            && same_memory(a, b, how)
        {
            shared.push(both);
        }
        if a.range.end() <= b.range.end() {
            left += 1;
        } else {
            right += 1;
        }
    }
    shared.into_iter().collect()
}

fn same_memory(a: &Mapping, b: &Mapping, how: Continuity) -> bool {
    let origin = |mapping: &Mapping| mapping.file_offset.wrapping_sub(mapping.range.start().0);
    a.sharing == b.sharing
        && a.has_file() == b.has_file()
        && a.page_size == b.page_size
        && (!a.has_file() || ((a.device, a.inode) == (b.device, b.inode) && origin(a) == origin(b)))
        && (how == Continuity::Pages || a.same_place(b))
}

/// Returns the parts of `ranges` (sorted) that lie in `set`, none reaching over a range's end.
pub(crate) fn within<'a>(
    ranges: impl Iterator<Item = PageRange> + 'a,
    set: &'a RangeSet,
) -> impl Iterator<Item = PageRange> + 'a {
    ranges.flat_map(move |range| {
        let first = set
            .ranges()
            .partition_point(|own| own.end() <= range.start());
        set.ranges()[first..]
            .iter()
            .map_while(move |own| own.intersection(range))
    })
}

#[cfg(test)]
mod tests {
    use space::{MappingFlags, PageSize, Protection, Sharing, Vaddr};

    use super::*;

    fn mapping(start: u64, end: u64, inode: u64, file_offset: u64) -> Mapping {
        Mapping {
            range: PageRange::new(Vaddr(start), Vaddr(end)).unwrap(),
            protection: Protection::READ,
            sharing: Sharing::Private,
            file_offset,
            device: (0, 0),
            inode,
            name: String::new(),
            flags: MappingFlags::empty(),
            page_size: PageSize::new(4096).unwrap(),
        }
    }

    #[test]
    fn private_memory_goes_on_where_it_grew_or_was_split() {
        let old = [mapping(0x1000, 0x5000, 0, 0)];
        let new = [mapping(0x1000, 0x2000, 0, 0), mapping(0x3000, 0x9000, 0, 0)];
        let same = continuing(&old, &new, Continuity::Pages);
        assert_eq!(
            same.ranges(),
            [new[0].range, mapping(0x3000, 0x5000, 0, 0).range]
        );
        assert!(continuing(&old, &new, Continuity::Mappings).is_empty());
        assert_eq!(
            continuing(&old, &old, Continuity::Mappings).ranges(),
            [old[0].range]
        );
    }

    #[test]
    fn a_file_goes_on_only_at_the_same_offset() {
        let old = [mapping(0x1000, 0x5000, 7, 0)];
        let cut = [mapping(0x3000, 0x5000, 7, 0x2000)];
        assert_eq!(
            continuing(&old, &cut, Continuity::Pages).ranges(),
            [cut[0].range]
        );
        for other in [
            mapping(0x3000, 0x5000, 7, 0),
            mapping(0x1000, 0x5000, 8, 0),
            mapping(0x1000, 0x5000, 0, 0),
        ] {
            assert!(continuing(&old, &[other], Continuity::Pages).is_empty());
        }
    }
}
