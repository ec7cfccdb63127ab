//! Flags and named numbers of the kernel's interface: names joined by `|`, and `0x…` for the bits
//! or numbers that have none, since programs pass wrong ones too.

use std::fmt;

use super::field::{Field, FieldError, number};

/// Defines types whose bits have names.
macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident { $($text:literal = $bit:expr,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
            pub struct $name(pub u64);

            impl $name {
                /// The names of bits.
                pub const NAMES: &'static [(&'static str, u64)] = &[$(($text, $bit),)*];

                /// Returns the bits of these names.
                ///
                /// # Panics
                ///
                /// Panics at a name that does not exist.
                pub fn of(names: &[&str]) -> Self {
                    let bit = |name: &&str| {
                        let known = Self::NAMES.iter().find(|(known, _)| known == name);
                        known.expect("a name of the table").1
                    };
                    Self(names.iter().map(bit).fold(0, |all, bit| all | bit))
                }
            }

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    write_bits(f, self.0, Self::NAMES)
                }
            }

            impl Field for $name {
                const WHAT: &'static str = concat!("flags: ", $($text, "|",)* "0x...");

                fn parse(word: &str) -> Result<Self, FieldError> {
                    read_bits(word, Self::NAMES)
                        .map(Self)
                        .ok_or_else(|| FieldError::new::<Self>(word))
                }

                fn simpler(&self) -> Vec<Self> {
                    let bits = (0..64).map(|bit| 1_u64 << bit).filter(|bit| self.0 & bit != 0);
                    bits.map(|bit| Self(self.0 & !bit)).collect()
                }
            }
        )*
    };
}

/// Defines types whose values have names.
macro_rules! names {
    ($($(#[$doc:meta])* $name:ident { $($text:literal = $value:expr,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
            pub struct $name(pub u64);

            impl $name {
                /// The names of values.
                pub const NAMES: &'static [(&'static str, u64)] = &[$(($text, $value),)*];

                /// Returns the value of this name.
                ///
                /// # Panics
                ///
                /// Panics at a name that does not exist.
                pub fn of(name: &str) -> Self {
                    let known = Self::NAMES.iter().find(|(known, _)| *known == name);
                    Self(known.expect("a name of the table").1)
                }
            }

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    match Self::NAMES.iter().find(|(_, value)| *value == self.0) {
                        Some((text, _)) => f.write_str(text),
                        None => write!(f, "{:#x}", self.0),
                    }
                }
            }

            impl Field for $name {
                const WHAT: &'static str = concat!("one of ", $($text, " ",)* "or a number");

                fn parse(word: &str) -> Result<Self, FieldError> {
                    let known = Self::NAMES.iter().find(|(text, _)| *text == word);
                    known
                        .map(|(_, value)| *value)
                        .or_else(|| number(word))
                        .map(Self)
                        .ok_or_else(|| FieldError::new::<Self>(word))
                }
            }
        )*
    };
}

fn write_bits(f: &mut fmt::Formatter<'_>, bits: u64, names: &[(&str, u64)]) -> fmt::Result {
    let mut left = bits;
    let mut bar = "";
    for (text, bit) in names {
        if left & bit == *bit && *bit != 0 {
            write!(f, "{bar}{text}")?;
            bar = "|";
            left &= !bit;
        }
    }
    if left != 0 {
        write!(f, "{bar}{left:#x}")
    } else if bits == 0 {
        f.write_str("0")
    } else {
        Ok(())
    }
}

fn read_bits(word: &str, names: &[(&str, u64)]) -> Option<u64> {
    let mut bits = 0;
    for part in word.split('|') {
        let known = names.iter().find(|(text, _)| *text == part);
        bits |= known.map(|(_, bit)| *bit).or_else(|| number(part))?;
    }
    Some(bits)
}

flags! {
    /// Protection of a mapping.
    Prot { "r" = 1, "w" = 2, "x" = 4, }
    /// Flags of `mmap`.
    MapFlags {
        "shared-validate" = 3, "shared" = 1, "private" = 2, "fixed" = 0x10, "anon" = 0x20,
        "growsdown" = 0x100, "locked" = 0x2000, "noreserve" = 0x4000, "populate" = 0x8000,
        "nonblock" = 0x1_0000, "stack" = 0x2_0000, "hugetlb" = 0x4_0000, "sync" = 0x8_0000,
        "noreplace" = 0x10_0000, "2m" = 21 << 26,
    }
    /// Flags of `mremap`.
    RemapFlags { "maymove" = 1, "fixed" = 2, "dontunmap" = 4, }
    /// Flags of `memfd_create`.
    MemfdFlags {
        "cloexec" = 1, "sealing" = 2, "hugetlb" = 4, "noexec" = 8, "exec" = 0x10, "2m" = 21 << 26,
    }
    /// Modes of `fallocate`.
    FallocateMode { "keep-size" = 1, "punch" = 2, "collapse" = 8, "zero" = 0x10, }
    /// Seals of a memory file.
    Seals { "seal" = 1, "shrink" = 2, "grow" = 4, "write" = 8, "future-write" = 0x10, "exec" = 0x20, }
    /// Flags of `vmsplice`.
    SpliceFlags { "move" = 1, "nonblock" = 2, "more" = 4, "gift" = 8, }
    /// Flags of `mlock2`.
    LockFlags { "onfault" = 1, }
    /// Flags of `userfaultfd`.
    ContextFlags { "user-mode" = 1, "nonblock" = 0x800, "cloexec" = 0x8_0000, }
    /// Features of a userfaultfd.
    Features {
        "pagefault-flag-wp" = 1, "event-fork" = 1 << 1, "event-remap" = 1 << 2,
        "event-remove" = 1 << 3, "missing-hugetlbfs" = 1 << 4, "missing-shmem" = 1 << 5,
        "event-unmap" = 1 << 6, "sigbus" = 1 << 7, "thread-id" = 1 << 8,
        "minor-hugetlbfs" = 1 << 9, "minor-shmem" = 1 << 10, "exact-address" = 1 << 11,
        "wp-hugetlbfs-shmem" = 1 << 12, "wp-unpopulated" = 1 << 13, "poison" = 1 << 14,
        "wp-async" = 1 << 15, "move" = 1 << 16, "rwp" = 1 << 17, "rwp-async" = 1 << 18,
    }
    /// Modes of `UFFDIO_REGISTER`.
    RegisterMode { "missing" = 1, "wp" = 2, "minor" = 4, "rwp" = 8, }
    /// Modes of `UFFDIO_COPY`.
    CopyMode { "dontwake" = 1, "wp" = 2, }
    /// Modes of `UFFDIO_ZEROPAGE` and `UFFDIO_POISON`.
    WakeMode { "dontwake" = 1, }
    /// Modes of `UFFDIO_CONTINUE`.
    ContinueMode { "dontwake" = 1, "wp" = 2, }
    /// Modes of `UFFDIO_WRITEPROTECT`.
    ProtectMode { "wp" = 1, "dontwake" = 2, }
    /// Modes of `UFFDIO_MOVE`.
    MoveMode { "dontwake" = 1, "allow-holes" = 2, }
    /// Flags of `PAGEMAP_SCAN`.
    ScanFlags { "wp-matching" = 1, "check-wpasync" = 2, }
    /// Categories of `PAGEMAP_SCAN`.
    Categories {
        "wpallowed" = 1, "written" = 2, "file" = 4, "present" = 8, "swapped" = 0x10,
        "pfnzero" = 0x20, "huge" = 0x40, "soft-dirty" = 0x80, "guard" = 0x100, "accessed" = 0x200,
    }
    /// Flags of a page fault that a userfaultfd reports.
    FaultFlags { "write" = 1, "wp" = 2, "minor" = 4, "rwp" = 8, }
    /// The ioctls that a registered range has, as `UFFDIO_REGISTER` reports them.
    RangeIoctls {
        "wake" = 1 << 2, "copy" = 1 << 3, "zeropage" = 1 << 4, "move" = 1 << 5,
        "writeprotect" = 1 << 6, "continue" = 1 << 7, "poison" = 1 << 8, "rwprotect" = 1 << 9,
    }
}

names! {
    /// Advice of `madvise`.
    Advice {
        "normal" = 0, "random" = 1, "sequential" = 2, "willneed" = 3, "dontneed" = 4, "free" = 8,
        "remove" = 9, "dontfork" = 10, "dofork" = 11, "mergeable" = 12, "unmergeable" = 13,
        "hugepage" = 14, "nohugepage" = 15, "dontdump" = 16, "dodump" = 17, "wipeonfork" = 18,
        "keeponfork" = 19, "cold" = 20, "pageout" = 21, "populate-read" = 22,
        "populate-write" = 23, "dontneed-locked" = 24, "collapse" = 25, "hwpoison" = 100,
        "soft-offline" = 101, "guard-install" = 102, "guard-remove" = 103,
    }
    /// The kinds of events that a userfaultfd reports.
    EventKind {
        "pagefault" = 0x12, "fork" = 0x13, "remap" = 0x14, "remove" = 0x15, "unmap" = 0x16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_and_written() {
        for text in [
            "0",
            "private|fixed|anon",
            "shared-validate|fixed",
            "shared|0x200",
        ] {
            assert_eq!(MapFlags::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(MapFlags::of(&["private", "fixed", "anon"]).0, 0x32);
        assert!(MapFlags::parse("privat").is_err());
        assert!(MapFlags::parse("").is_err());
        assert_eq!(Prot(5).simpler(), [Prot(4), Prot(1)]);
    }

    #[test]
    fn named_values_are_read_and_written() {
        for text in ["dontneed", "0x1e"] {
            assert_eq!(Advice::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Advice::of("collapse"), Advice(25));
        assert!(Advice::parse("dontnee").is_err());
    }
}
