use super::*;
use crate::file::FileId;

fn file_owner() -> Owner {
    Owner::File {
        file: FileId(0),
        index: 0,
    }
}

#[test]
fn the_last_reference_frees() {
    let mut frames = Frames::new(4096);
    let pfn = frames.alloc(0, file_owner());
    frames.frame_mut(pfn).content.write(0, b"x", 4096);
    frames.get(pfn, 1);
    frames.put(pfn, 1);
    assert_eq!(frames.in_use(), 2);
    frames.put(pfn, 1);
    assert_eq!(frames.in_use(), 1);
    assert_eq!(frames.alloc(0, Owner::Kernel), pfn);
    assert!(frames.frame(pfn).content.is_plainly_zero());
}

#[test]
fn blocks_are_aligned() {
    let mut frames = Frames::new(4096);
    let huge = frames.alloc(9, file_owner());
    assert_eq!(huge.0 % 512, 0);
    assert_eq!(frames.folio(huge.plus(511)).first, huge);
    assert_ne!(frames.alloc(0, Owner::Kernel), huge);
}

#[test]
fn a_pin_of_one_page_is_a_thousand_references() {
    let mut frames = Frames::new(4096);
    let pfn = frames.alloc(0, file_owner());
    assert!(!frames.folio(pfn).maybe_pinned());
    frames.pin(pfn);
    assert!(frames.folio(pfn).maybe_pinned());
    frames.unpin(pfn);
    assert_eq!(frames.folio(pfn).refcount, 1);
    let huge = frames.alloc(9, file_owner());
    frames.pin(huge.plus(3));
    assert_eq!(frames.folio(huge).refcount, 2);
    assert!(frames.folio(huge).maybe_pinned());
}

#[test]
fn a_split_shares_out_mappings() {
    let mut frames = Frames::new(4096);
    let huge = frames.alloc(9, file_owner());
    for page in 0..4 {
        frames.add_rmap(huge.plus(page));
        frames.get(huge, 1);
    }
    frames.split(huge);
    assert_eq!(frames.folio(huge).refcount, 2);
    assert_eq!(frames.folio(huge.plus(3)).refcount, 1);
    assert_eq!(frames.folio(huge.plus(4)).refcount, 0);
    assert_eq!(
        frames.folio(huge.plus(2)).owner,
        Owner::File {
            file: FileId(0),
            index: 2
        }
    );
}
