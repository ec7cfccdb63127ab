//! The extended state of `x86_64`, laid out as debuggers expect it.
//!
//! Where the parts of the extended state lie is up to the processor. Debuggers conclude it from
//! the feature bits (at offset 464) and from the size; those of 2026 know few pairs, and gdb
//! before 14 knows only Intel's layout. AMD's AVX-512 processors leave no room for the bounds
//! registers that they don't have, so that all behind lies elsewhere, and gdb shows half of each
//! vector register as unavailable, in a core of the kernel too. Such a state is laid out anew:
//!
//! | part | feature bit | size | AMD's offset | Intel's |
//! |---|---|---|---|---|
//! | legacy, header, AVX | 0 to 2 | 832 | 0 | 0 |
//! | mask registers | 5 | 64 | 832 | 1088 |
//! | upper halves of ZMM0 to 15 | 6 | 512 | 896 | 1152 |
//! | ZMM16 to 31 | 7 | 1024 | 1408 | 1664 |
//! | protection keys | 9 | 8 | 2432 | 2688 |

use std::borrow::Cow;

/// Offset of the feature bits that the kernel adds, in bytes.
const FEATURES_AT: usize = 464;
/// x87, SSE, AVX and the three parts of AVX-512.
const FEATURES: u64 = 0xe7;
/// The same with protection keys.
const FEATURES_WITH_KEYS: u64 = 0x2e7;
/// Where AMD's layout begins to differ.
const SAME_LEN: usize = 832;
/// How far behind AMD's place Intel's place of a part is, in bytes.
const SHIFT: usize = 256;

/// Returns the state in Intel's layout if it is one of those that are known to be in AMD's, else
/// as it is.
pub(super) fn for_debuggers(state: &[u8]) -> Cow<'_, [u8]> {
    let features = state.get(FEATURES_AT..FEATURES_AT + 8);
    let features = features.and_then(|bytes| bytes.try_into().ok());
    match (features.map(u64::from_le_bytes), state.len()) {
        (Some(FEATURES), 2432) | (Some(FEATURES_WITH_KEYS), 2440) => {
            let (same, shifted) = state.split_at(SAME_LEN);
            Cow::Owned([same, &[0; SHIFT], shifted].concat())
        }
        _ => Cow::Borrowed(state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(features: u64, len: usize) -> Vec<u8> {
        let mut state: Vec<u8> = (0..len).map(|at| (at / 8 % 251).to_le_bytes()[0]).collect();
        state[FEATURES_AT..FEATURES_AT + 8].copy_from_slice(&features.to_le_bytes());
        state
    }

    #[test]
    fn amds_parts_move_to_intels_places() {
        for (features, len) in [(0xe7, 2432), (0x2e7, 2440)] {
            let from = state(features, len);
            let to = for_debuggers(&from);
            assert_eq!(to.len(), len + 256);
            assert_eq!(to[..832], from[..832]);
            for (size, amd, intel) in [(64, 832, 1088), (512, 896, 1152), (1024, 1408, 1664)] {
                assert_eq!(to[intel..intel + size], from[amd..amd + size]);
            }
            assert_eq!(to[2688..], from[2432..]);
        }
    }

    #[test]
    fn other_states_stay_as_they_are() {
        let cases = [
            (0xe7, 2688),
            (0x2e7, 2696),
            (7, 832),
            (7, 2432),
            (0x6_02e7, 11008),
        ];
        for (features, len) in cases {
            let from = state(features, len);
            assert_eq!(*for_debuggers(&from), from);
        }
        assert!(for_debuggers(&[]).is_empty());
        assert_eq!(*for_debuggers(&[1; 470]), [1; 470]);
    }
}
