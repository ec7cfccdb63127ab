use super::hole::topdown;
use super::*;

pub(crate) fn vma(start: u64, end: u64) -> Vma {
    Vma {
        start,
        end,
        flags: VmaFlags::READ,
        pgoff: start >> 12,
        file: None,
        anon_vma: None,
        chain: Vec::new(),
        uffd: None,
        page_shift: 12,
        reserve: None,
        reserve_lost: false,
    }
}

#[test]
fn lookups_respect_bounds() {
    let mut map = VmaMap::default();
    map.insert(vma(0x5000, 0x8000));
    map.insert(vma(0x1000, 0x3000));
    assert!(map.lookup(0x3000).is_none());
    assert_eq!(map.find(0x3000).unwrap().start, 0x5000);
    assert_eq!(map.lookup(0x2fff).unwrap().start, 0x1000);
    assert_eq!(map.overlapping(0x2000, 0x5000).len(), 1);
    assert_eq!(map.overlapping(0x2000, 0x5001).len(), 2);
    assert!(!map.intersects(0x3000, 0x5000));
}

#[test]
fn holes_are_found_from_the_top() {
    let mut map = VmaMap::default();
    map.insert(vma(0x5000, 0x8000));
    map.insert(vma(0x9000, 0xa000));
    assert_eq!(topdown(&map, 0x1000, 0x1000, 0x1000, 0xa000), Some(0x8000));
    assert_eq!(topdown(&map, 0x2000, 0x1000, 0x1000, 0xa000), Some(0x3000));
    assert_eq!(topdown(&map, 0x2000, 0x2000, 0x1000, 0xa000), Some(0x2000));
    assert_eq!(topdown(&map, 0x5000, 0x1000, 0x1000, 0xa000), None);
    assert_eq!(topdown(&map, 0x1000, 0x1000, 0x1000, 0x9800), Some(0x8000));
}
