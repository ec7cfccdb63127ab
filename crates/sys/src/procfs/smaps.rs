//! `/proc/PID/smaps`: the lines of `maps`, each followed by what its pages cost and its flags.

use space::{ByteLen, Mapping, MappingFlags, PageSize, Sharing};

use super::error::ProcfsError;
use super::maps;
use super::text::{decimal, fields, lines};

/// One mapping with what `smaps` counts of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smap {
    /// The mapping, its flags and page size included. [`MappingFlags::ELF_HEADER`] is not known
    /// from here.
    pub mapping: Mapping,
    /// Memory in the page tables, hugetlb apart.
    pub resident: ByteLen,
    /// Its share of that, each page divided by how often it is mapped.
    pub proportional: ByteLen,
    /// Pages that only this process maps and that were written.
    pub private_dirty: ByteLen,
    /// Pages that several map and that were written.
    pub shared_dirty: ByteLen,
    /// Pages that belong to no file.
    pub anonymous: ByteLen,
    /// Anonymous pages mapped by huge entries.
    pub anonymous_huge: ByteLen,
    /// Hugetlb pages that others map too.
    pub shared_hugetlb: ByteLen,
    /// Hugetlb pages that only this process maps.
    pub private_hugetlb: ByteLen,
    /// Memory that is swapped out.
    pub swapped: ByteLen,
    /// Memory that is locked.
    pub locked: ByteLen,
}

/// Appends what `text` lists to `out`, in its order. Counters that a kernel does not write are
/// zero; those that are not known here are passed over.
///
/// # Errors
///
/// [`ProcfsError::Malformed`] names the first line that is not understood; `out` then holds the
/// mappings before it, the last of them perhaps in part.
pub fn parse(text: &[u8], page_size: PageSize, out: &mut Vec<Smap>) -> Result<(), ProcfsError> {
    if text.is_empty() {
        return Ok(());
    }
    let first = out.len();
    for (index, line) in lines(text).enumerate() {
        parse_line(line, page_size, first, out).ok_or(ProcfsError::Malformed {
            file: "smaps",
            line: index + 1,
        })?;
    }
    for smap in &mut out[first..] {
        mark_own_pages(smap);
    }
    Ok(())
}

/// Takes a line: one of `maps`, or a counter of the mapping before it.
fn parse_line(line: &[u8], page_size: PageSize, first: usize, out: &mut Vec<Smap>) -> Option<()> {
    let Some((key, value)) = counter(line) else {
        out.push(Smap::new(maps::parse_line(line, page_size)?));
        return Some(());
    };
    out[first..].last_mut()?.take(key, value)
}

/// Splits `Key:   value`. A line of `maps` has a colon too, but a blank before it.
fn counter(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = line
        .iter()
        .position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_')?;
    (line[at] == b':').then(|| (&line[..at], &line[at + 1..]))
}

impl Smap {
    fn new(mapping: Mapping) -> Self {
        let none = ByteLen(0);
        Self {
            mapping,
            resident: none,
            proportional: none,
            private_dirty: none,
            shared_dirty: none,
            anonymous: none,
            anonymous_huge: none,
            shared_hugetlb: none,
            private_hugetlb: none,
            swapped: none,
            locked: none,
        }
    }

    /// Takes one counter; `None` if its value is no number.
    fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let counter = match key {
            b"VmFlags" => {
                self.mapping.flags |= parse_flags(value);
                return Some(());
            }
            b"KernelPageSize" => {
                self.mapping.page_size = PageSize::new(kilobytes(value)?.0)?;
                return Some(());
            }
            b"Rss" => &mut self.resident,
            b"Pss" => &mut self.proportional,
            b"Private_Dirty" => &mut self.private_dirty,
            b"Shared_Dirty" => &mut self.shared_dirty,
            b"Anonymous" => &mut self.anonymous,
            b"AnonHugePages" => &mut self.anonymous_huge,
            b"Shared_Hugetlb" => &mut self.shared_hugetlb,
            b"Private_Hugetlb" => &mut self.private_hugetlb,
            b"Swap" => &mut self.swapped,
            b"Locked" => &mut self.locked,
            _ => return Some(()),
        };
        *counter = kilobytes(value)?;
        Some(())
    }
}

/// Reads `  12 kB`.
fn kilobytes(value: &[u8]) -> Option<ByteLen> {
    let mut fields = fields(value);
    let number = decimal(fields.next()?)?;
    (fields.next()? == b"kB").then_some(())?;
    number.checked_mul(1024).map(ByteLen)
}

/// Reads the two-letter names of `VmFlags`; unknown ones are passed over.
fn parse_flags(value: &[u8]) -> MappingFlags {
    fields(value)
        .map(|name| match name {
            b"ht" => MappingFlags::HUGETLB,
            b"dd" => MappingFlags::DONT_DUMP,
            b"dc" => MappingFlags::DONT_FORK,
            b"wf" => MappingFlags::WIPE_ON_FORK,
            b"io" => MappingFlags::IO,
            b"pf" => MappingFlags::PFN_MAP,
            b"um" | b"ui" => MappingFlags::USERFAULT | MappingFlags::USERFAULT_WAITS,
            b"uw" => MappingFlags::USERFAULT,
            b"gd" => MappingFlags::GROWS_DOWN,
            b"lo" => MappingFlags::LOCKED,
            _ => MappingFlags::empty(),
        })
        .collect()
}

/// A private mapping of a file (of hugetlbfs too) has pages of its own where some are anonymous,
/// present or swapped out.
fn mark_own_pages(smap: &mut Smap) {
    let mapping = &mut smap.mapping;
    let own = [smap.anonymous, smap.swapped, smap.private_hugetlb];
    if mapping.has_file() && mapping.sharing == Sharing::Private && own.iter().any(|n| n.0 > 0) {
        mapping.flags |= MappingFlags::HAS_OWN_PAGES;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "\
5602cb5fe000-5602cb5ff000 rw-p 0000a000 fe:00 247030                     /usr/bin/cat
Size:                  4 kB
KernelPageSize:        4 kB
MMUPageSize:           4 kB
Rss:                   8 kB
Pss:                   6 kB
Pss_Dirty:             0 kB
Private_Dirty:         4 kB
Anonymous:             4 kB
AnonHugePages:         0 kB
Swap:                 12 kB
THPeligible:           0
ProtectionKey:         0
VmFlags: rd wr mr mw me ac sd
7f0000000000-7f0000200000 rw-p 00000000 00:0f 99                         /anon_hugepage (deleted)
Size:               2048 kB
KernelPageSize:     2048 kB
MMUPageSize:        2048 kB
Private_Hugetlb:    2048 kB
VmFlags: rd wr mr mw me ac ht dc wf dd io pf lo gd uw
7f0000200000-7f0000201000 rw-p 00000000 00:00 0
Anonymous:             4 kB
VmFlags: rd wr um
";

    fn parsed(text: &str) -> Vec<Smap> {
        let mut out = Vec::new();
        parse(text.as_bytes(), PageSize::new(4096).unwrap(), &mut out).unwrap();
        out
    }

    #[test]
    fn counters_and_flags() {
        let out = parsed(TEXT);
        assert_eq!(out.len(), 3);
        let [file, huge, anonymous] = [&out[0], &out[1], &out[2]];
        assert_eq!(file.resident, ByteLen(8192));
        assert_eq!(file.proportional, ByteLen(6144));
        assert_eq!(file.private_dirty, ByteLen(4096));
        assert_eq!(file.swapped, ByteLen(12 * 1024));
        assert_eq!(file.mapping.flags, MappingFlags::HAS_OWN_PAGES);
        assert_eq!(file.mapping.page_size.bytes(), 4096);
        assert_eq!(huge.mapping.page_size.bytes(), 2 << 20);
        assert_eq!(huge.private_hugetlb, ByteLen(2 << 20));
        assert_eq!(
            huge.mapping.flags,
            MappingFlags::HUGETLB
                | MappingFlags::DONT_FORK
                | MappingFlags::WIPE_ON_FORK
                | MappingFlags::DONT_DUMP
                | MappingFlags::IO
                | MappingFlags::PFN_MAP
                | MappingFlags::LOCKED
                | MappingFlags::GROWS_DOWN
                | MappingFlags::USERFAULT
                | MappingFlags::UNLINKED
                | MappingFlags::HAS_OWN_PAGES
        );
        assert_eq!(
            anonymous.mapping.flags,
            MappingFlags::USERFAULT | MappingFlags::USERFAULT_WAITS
        );
    }

    #[test]
    fn pages_that_only_swap_holds_are_own_pages() {
        let swapped = TEXT.replace("Anonymous:             4 kB", "Anonymous:             0 kB");
        assert!(
            parsed(&swapped)[0]
                .mapping
                .flags
                .contains(MappingFlags::HAS_OWN_PAGES)
        );
        let clean = swapped.replace("Swap:                 12", "Swap:                  0");
        assert_eq!(parsed(&clean)[0].mapping.flags, MappingFlags::empty());
    }

    #[test]
    fn a_counter_needs_a_mapping_and_a_number() {
        for text in ["Rss:   8 kB\n", "1000-2000 rw-p 0 00:00 0\nRss: x kB\n"] {
            let mut out = Vec::new();
            let result = parse(text.as_bytes(), PageSize::new(4096).unwrap(), &mut out);
            assert!(
                matches!(result, Err(ProcfsError::Malformed { .. })),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn damaged_text_does_not_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut text = TEXT.as_bytes().to_vec();
            let at = at.index(text.len());
            text[at] = byte;
            let _ = parse(&text, PageSize::new(4096).unwrap(), &mut Vec::new());
            let _ = parse(&text[at..], PageSize::new(4096).unwrap(), &mut Vec::new());
        }
    }
}
