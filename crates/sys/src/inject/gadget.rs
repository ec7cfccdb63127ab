//! Instructions of the process itself that an injected call runs through.

use space::{Mapping, MappingFlags, PageSize, Protection, Vaddr};

use crate::arch::{CALL_GADGETS, Gadgets, INSTRUCTION_ALIGN, SIGRETURN_GADGETS};
use crate::raw::memory;

/// Reading these waits for somebody else, or touches a device.
const UNREADABLE: MappingFlags = MappingFlags::USERFAULT_WAITS
    .union(MappingFlags::IO)
    .union(MappingFlags::PFN_MAP);

impl Gadgets {
    /// Looks for the instructions in the executable mappings; `None` where the process lacks one.
    pub(crate) fn find(pid: u32, mappings: &[Mapping], page_size: PageSize) -> Option<Self> {
        let (mut call, mut sigreturn) = (None, None);
        let executable = Protection::READ | Protection::EXEC;
        for mapping in mappings.iter().filter(|mapping| {
            mapping.protection.contains(executable)
                && mapping.name != "[vsyscall]"
                && !mapping.flags.intersects(UNREADABLE)
        }) {
            for_each_piece(pid, mapping, page_size, |start, bytes| {
                let any = |gadgets: &[&[u8]]| {
                    gadgets.iter().find_map(|gadget| find(bytes, start, gadget))
                };
                call = call.or_else(|| any(CALL_GADGETS));
                sigreturn = sigreturn.or_else(|| any(SIGRETURN_GADGETS));
                call.is_some() && sigreturn.is_some()
            });
            if let (Some(call), Some(sigreturn)) = (call, sigreturn) {
                return Some(Self { call, sigreturn });
            }
        }
        None
    }

    /// Tells whether the instructions are still where they were found.
    pub(crate) fn hold(&self, pid: u32) -> bool {
        let starts_with_any = |address: Vaddr, gadgets: &[&[u8]]| {
            gadgets.iter().any(|wanted| {
                let mut bytes = [0; 16];
                let piece = &mut bytes[..wanted.len()];
                memory::read_at(pid, address, piece) == Ok(wanted.len()) && piece == *wanted
            })
        };
        starts_with_any(self.call, CALL_GADGETS)
            && starts_with_any(self.sigreturn, SIGRETURN_GADGETS)
    }
}

/// Shows a mapping to `seen` in pieces that overlap by a page, until it returns true.
fn for_each_piece(
    pid: u32,
    mapping: &Mapping,
    page_size: PageSize,
    mut seen: impl FnMut(Vaddr, &[u8]) -> bool,
) {
    const PIECE_PAGES: u64 = 16;
    let piece = PIECE_PAGES << page_size.shift();
    let overlap = page_size.bytes();
    let mut buf = vec![0; usize::try_from(piece + overlap).expect("a small buffer")];
    let mut at = mapping.range.start();
    while at < mapping.range.end() {
        let len = (mapping.range.end().0 - at.0).min(piece + overlap);
        let buf = &mut buf[..usize::try_from(len).expect("no more than the buffer")];
        match memory::read_at(pid, at, buf) {
            Ok(read) if seen(at, &buf[..read]) => return,
            Ok(_) => at = Vaddr(at.0 + piece),
            Err(_) => return,
        }
    }
}

/// Finds `wanted` where an instruction may begin.
fn find(bytes: &[u8], start: Vaddr, wanted: &[u8]) -> Option<Vaddr> {
    let at = (0..bytes.len())
        .step_by(INSTRUCTION_ALIGN)
        .find(|&at| bytes[at..].starts_with(wanted))?;
    Some(Vaddr(start.0 + at as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::CALL_LEN;

    #[test]
    fn finds_instructions_where_they_are() {
        let [gadget, ..] = CALL_GADGETS else {
            panic!("there is one");
        };
        let call_len = usize::try_from(CALL_LEN).unwrap();
        let other = &gadget[..call_len];
        let code = [other, other, gadget].concat();
        let place = Vaddr(0x1000 + 2 * CALL_LEN);
        assert_eq!(find(&code, Vaddr(0x1000), gadget), Some(place));
        assert_eq!(find(&code[..code.len() - 1], Vaddr(0x1000), gadget), None);
        let odd = [&[0; 2][..], gadget].concat();
        let found = find(&odd, Vaddr(0x1000), gadget);
        assert_eq!(found.is_some(), INSTRUCTION_ALIGN <= 2);
    }
}
