//! Instructions of the process itself that an injected call runs through.

use space::{Mapping, MappingFlags, PageSize, Protection, Vaddr};

use crate::arch::{CALL_GADGET, SIGRETURN_GADGETS};
use crate::raw::memory;

/// Where the process has the instructions that an injected call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gadgets {
    /// `syscall; ret`.
    pub(crate) call: Vaddr,
    /// Calls `rt_sigreturn`.
    pub(crate) sigreturn: Vaddr,
}

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
                call = call.or_else(|| find(bytes, start, CALL_GADGET));
                sigreturn = sigreturn.or_else(|| {
                    SIGRETURN_GADGETS
                        .iter()
                        .find_map(|gadget| find(bytes, start, gadget))
                });
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
        let mut bytes = [0; 16];
        let mut starts_with = |address: Vaddr, wanted: &[u8]| {
            let piece = &mut bytes[..wanted.len()];
            memory::read_at(pid, address, piece) == Ok(wanted.len()) && piece == wanted
        };
        starts_with(self.call, CALL_GADGET)
            && SIGRETURN_GADGETS
                .iter()
                .any(|gadget| starts_with(self.sigreturn, gadget))
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

fn find(bytes: &[u8], start: Vaddr, wanted: &[u8]) -> Option<Vaddr> {
    let at = bytes
        .windows(wanted.len())
        .position(|window| window == wanted)?;
    Some(Vaddr(start.0 + at as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_instructions_where_they_are() {
        let code = [0x90, 0x0f, 0x05, 0x90, 0x0f, 0x05, 0xc3];
        assert_eq!(find(&code, Vaddr(0x1000), CALL_GADGET), Some(Vaddr(0x1004)));
        assert_eq!(find(&code[..6], Vaddr(0x1000), CALL_GADGET), None);
    }
}
