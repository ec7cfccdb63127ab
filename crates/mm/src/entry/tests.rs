use proptest::prelude::*;

use super::*;

const CODECS: [Codec; 4] = [
    Codec::X86_64,
    Codec::Arm64 { page_shift: 12 },
    Codec::Arm64 { page_shift: 14 },
    Codec::Arm64 { page_shift: 16 },
];

fn expressible(codec: Codec, entry: Entry) -> Entry {
    match entry {
        Entry::Present(present) if !codec.has_soft_dirty() => {
            Entry::Present(present.with(Bits::SOFT_DIRTY, false))
        }
        Entry::Swap { slot, bits } if !codec.has_soft_dirty() => Entry::Swap {
            slot,
            bits: bits - SwapBits::SOFT_DIRTY,
        },
        Entry::Migration { pfn, write, bits } => Entry::Migration {
            pfn,
            write,
            bits: if write {
                bits | SwapBits::EXCLUSIVE
            } else {
                bits
            } - if codec.has_soft_dirty() {
                SwapBits::empty()
            } else {
                SwapBits::SOFT_DIRTY
            },
        },
        other => other,
    }
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let pfn = (0..1_u32 << 28).prop_map(Pfn);
    let swap_bits = (0..8_u8).prop_map(SwapBits::from_bits_truncate);
    prop_oneof![
        (pfn.clone(), 0..512_u16).prop_map(|(pfn, bits)| Entry::Present(Present {
            pfn,
            bits: Bits::from_bits_truncate(bits)
        })),
        (0..SwapSlot::DEVICES_MAX, 0..1_u64 << 40, swap_bits.clone()).prop_map(
            |(device, offset, bits)| Entry::Swap {
                slot: SwapSlot { device, offset },
                bits
            }
        ),
        (1..8_u8).prop_map(|bits| Entry::Marker(Marker::from_bits_truncate(bits))),
        pfn.clone().prop_map(Entry::Hwpoison),
        (pfn, any::<bool>(), swap_bits).prop_map(|(pfn, write, bits)| Entry::Migration {
            pfn,
            write,
            bits
        }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(entry in any_entry()) {
        for codec in CODECS {
            let entry = expressible(codec, entry);
            let word = codec.encode(entry);
            prop_assert_ne!(word, 0);
            prop_assert_eq!(codec.decode(word), entry);
        }
    }

    #[test]
    fn what_is_not_there_never_looks_present(entry in any_entry()) {
        for codec in CODECS {
            let word = codec.encode(entry);
            let there = matches!(entry, Entry::Present(_));
            prop_assert_eq!(codec.decode_present(word).is_some(), there);
            // Bits that hardware or an erratum sets by itself are clear in a swap entry.
            if codec == Codec::X86_64 && !there {
                prop_assert_eq!(word & (1 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8), 0);
            }
        }
    }

    #[test]
    fn a_table_is_no_page(table in 0..1_u32 << 20, entry in any_entry()) {
        for codec in CODECS {
            let table = Entry::Table(TableId(table));
            prop_assert_eq!(codec.decode_upper(codec.encode(table)), table);
            let huge = match entry {
                Entry::Present(present) => Entry::Present(present.with(Bits::HUGE, true)),
                other => other,
            };
            let huge = expressible(codec, huge);
            prop_assert_eq!(codec.decode_upper(codec.encode(huge)), huge);
        }
    }
}

#[test]
fn positions_are_those_of_the_kernel() {
    let page = Present {
        pfn: Pfn(0x1234),
        bits: Bits::WRITE | Bits::DIRTY | Bits::YOUNG,
    };
    assert_eq!(Codec::X86_64.encode_present(page), 0x8000_0000_0123_4067);
    let protected = page.mkuffd_wp();
    let word = Codec::X86_64.encode_present(protected);
    assert_eq!(word, 0x8400_0000_0123_4425, "dirty moves to bit 58");
    let arm = Codec::Arm64 { page_shift: 12 };
    assert_ne!(arm.encode_present(protected) & 1 << 58, 0);
    let marker = Entry::Marker(Marker::UFFD_WP);
    assert_eq!(Codec::X86_64.encode(marker) >> 59, 31);
}
