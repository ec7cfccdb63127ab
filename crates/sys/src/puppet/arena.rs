//! The addresses that a puppet may name.

/// A run of bytes that an operation names, as wrong as programs name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first address.
    pub start: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// The part of a puppet's address space that programs work in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arena;

impl Arena {
    /// The first address.
    pub const START: u64 = 0x10_0000_0000;
    /// The first address behind it.
    pub const END: u64 = Self::START + (1 << 30);

    /// Below this nothing can be mapped on any sane machine (`vm.mmap_min_addr`).
    const LOWEST: u64 = 0x1_0000;
    /// At and above this lies no user memory that nobody asked for there (four-level page tables).
    const HIGHEST: u64 = if cfg!(target_arch = "aarch64") {
        1 << 48
    } else {
        1 << 47
    };

    /// Tells whether a puppet may name the span: it lies in the arena (or in `extra`, where the
    /// kernel put something for the program), or the kernel can only refuse it.
    pub fn allows(span: Span, extra: &[Span]) -> bool {
        let Some(end) = span.start.checked_add(span.len) else {
            // A sum that wraps is refused before anything is looked up.
            return true;
        };
        if span.start >= Self::START && end <= Self::END {
            return true;
        }
        if span.len == 0 || end <= Self::LOWEST || span.start >= Self::HIGHEST {
            return true;
        }
        extra.iter().any(|known| {
            let known_end = known.start.saturating_add(known.len);
            span.start >= known.start && end <= known_end
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(start: u64, len: u64) -> bool {
        Arena::allows(Span { start, len }, &[])
    }

    #[test]
    fn the_arena_and_what_the_kernel_refuses_are_allowed() {
        assert!(allows(Arena::START, 1 << 30));
        assert!(allows(Arena::START + 5, 0));
        assert!(allows(Arena::START, u64::MAX));
        assert!(allows(0, 4096));
        assert!(allows(Arena::HIGHEST, 4096));
    }

    #[test]
    fn everything_else_is_refused() {
        assert!(!allows(Arena::START - 1, 2));
        assert!(!allows(Arena::START, (1 << 30) + 1));
        assert!(!allows(0, 1 << 40));
        assert!(!allows(0x5555_5555_0000, 4096));
        assert!(!allows(Arena::HIGHEST - 4096, 4096));
    }

    #[test]
    fn what_the_kernel_chose_is_allowed_too() {
        let chosen = Span {
            start: 0x7f00_0000_0000,
            len: 8192,
        };
        let inside = Span {
            start: 0x7f00_0000_1000,
            len: 4096,
        };
        let beyond = Span {
            start: 0x7f00_0000_1000,
            len: 8192,
        };
        assert!(Arena::allows(inside, &[chosen]));
        assert!(!Arena::allows(beyond, &[chosen]));
    }
}
