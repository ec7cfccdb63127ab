//! Other processes that have the same shared memory, and run on while ours stands still.

use std::collections::{BTreeMap, BTreeSet};

use space::{Errno, Mapping, PageRange, Protection, RangeSet, Sharing};

use super::hidden::unseen as unseen_processes;
use super::{Danger, Unproven};
use crate::doctor::{CAP_SYS_PTRACE, capable};
use crate::procfs::{Process, ProcfsError, base_page_size, processes};

/// How many processes are named in a reason.
const NAMED_MAX: usize = 3;

/// A file that shared memory is made of.
type File = ((u32, u32), u64);

/// What several looks found of other processes that can write to shared memory of a process.
#[derive(Debug, Default)]
pub struct Others {
    /// They have it mapped for writing.
    writers: Shared,
    /// They may not be looked at.
    strangers: Shared,
    /// Shared memory, where not all processes are seen.
    unseen: Vec<PageRange>,
}

impl Others {
    /// Looks for processes beside `ours` that can write to the shared memory among `mappings`: what
    /// they write during a freeze may be in a snapshot or not, page by page.
    ///
    /// Who has only a descriptor of it, and no mapping, is not found, nor is who comes after one
    /// look and ends before the next.
    ///
    /// # Errors
    ///
    /// Those of listing the processes. One that may not be looked at is a reason for doubt.
    pub fn look<'a>(
        &mut self,
        mappings: impl IntoIterator<Item = &'a Mapping>,
        ours: &[u32],
    ) -> Result<(), ProcfsError> {
        let mut files: BTreeMap<File, Vec<&Mapping>> = BTreeMap::new();
        for mapping in mappings.into_iter().filter(|mapping| is_shared(mapping)) {
            files.entry(file(mapping)).or_default().push(mapping);
        }
        if files.is_empty() {
            return Ok(());
        }
        let all = || files.values().flatten().map(|ours| ours.range);
        self.unseen.extend(all());
        let (mut buf, mut theirs) = (Vec::new(), Vec::new());
        for pid in processes()? {
            if ours.contains(&pid) || pid == std::process::id() {
                continue;
            }
            theirs.clear();
            match maps(pid, &mut buf, &mut theirs) {
                Ok(()) => {
                    let both = theirs
                        .iter()
                        .filter(|theirs| {
                            is_shared(theirs) && theirs.protection.contains(Protection::WRITE)
                        })
                        .flat_map(|theirs| {
                            let ours = files.get(&file(theirs)).into_iter().flatten();
                            ours.filter_map(|ours| in_both(ours, theirs))
                        });
                    self.writers.add(pid, both);
                }
                Err(ProcfsError::Gone { .. }) => {}
                Err(_) if has_no_memory(pid) => {}
                Err(_) => self.strangers.add(pid, all()),
            }
        }
        Ok(())
    }

    /// Returns what is in doubt for all that.
    pub fn doubts(&self) -> Vec<Unproven> {
        let unseen: RangeSet = self.unseen.iter().copied().collect();
        let hidden = unseen_processes().map(|reason| Unproven {
            ranges: unseen.ranges().to_vec(),
            reason: reason.to_owned(),
            danger: Danger::EvenFrozen,
        });
        let strange = if capable(CAP_SYS_PTRACE) {
            "may not be looked at even by us (a security module or its user namespace forbids it), \
             and may be able to write to this shared memory"
        } else {
            "may not be looked at, and may be able to write to this shared memory: run as root \
             (CAP_SYS_PTRACE) to find out"
        };
        let known = [
            self.writers
                .doubt("can write to this shared memory too, and does not stand still"),
            self.strangers.doubt(strange),
        ];
        let hidden = hidden.filter(|doubt| !doubt.ranges.is_empty());
        known.into_iter().flatten().chain(hidden).collect()
    }
}

/// Memory that processes share with ours.
#[derive(Debug, Default)]
struct Shared {
    pids: BTreeSet<u32>,
    ranges: Vec<PageRange>,
}

impl Shared {
    fn add(&mut self, pid: u32, ranges: impl Iterator<Item = PageRange>) {
        let before = self.ranges.len();
        self.ranges.extend(ranges);
        if self.ranges.len() > before {
            self.pids.insert(pid);
        }
    }

    fn doubt(&self, what: &str) -> Option<Unproven> {
        let named: Vec<String> = self
            .pids
            .iter()
            .take(NAMED_MAX)
            .map(u32::to_string)
            .collect();
        let more = match self.pids.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let ranges: RangeSet = self.ranges.iter().copied().collect();
        (!self.pids.is_empty()).then(|| Unproven {
            ranges: ranges.ranges().to_vec(),
            reason: format!("process {}{more} {what}", named.join(", ")),
            danger: Danger::EvenFrozen,
        })
    }
}

fn maps(pid: u32, buf: &mut Vec<u8>, out: &mut Vec<Mapping>) -> Result<(), ProcfsError> {
    Process::open(pid)?.maps(base_page_size(), buf, out)
}

/// Tells whether it is a thread of the kernel, or has ended.
fn has_no_memory(pid: u32) -> bool {
    match Process::open(pid).and_then(|process| process.status()) {
        Ok(status) => status.resident.is_none(),
        Err(error) => error.errno() == Errno::ESRCH,
    }
}

/// Mappings of the kernel's own objects all have the same file, which is no memory.
fn is_shared(mapping: &Mapping) -> bool {
    mapping.sharing == Sharing::Shared
        && mapping.has_file()
        && !mapping.name.starts_with("anon_inode:")
}

fn file(mapping: &Mapping) -> File {
    (mapping.device, mapping.inode)
}

/// Returns which part of `ours` shows the same bytes of a file as some part of `theirs`.
fn in_both(ours: &Mapping, theirs: &Mapping) -> Option<PageRange> {
    let span = |mapping: &Mapping| {
        let from = mapping.file_offset;
        (from, from.saturating_add(mapping.range.len().0))
    };
    let ((from, to), (their_from, their_to)) = (span(ours), span(theirs));
    let (from, to) = (from.max(their_from), to.min(their_to));
    let at = |offset: u64| space::Vaddr(ours.range.start().0 + (offset - ours.file_offset));
    (from < to).then(|| PageRange::new(at(from), at(to)))?
}

#[cfg(test)]
mod tests {
    use space::{MappingFlags, PageSize, Vaddr};

    use super::*;

    fn mapping(start: u64, pages: u64, offset: u64) -> Mapping {
        Mapping {
            range: PageRange::new(Vaddr(start), Vaddr(start + pages * 4096)).unwrap(),
            protection: Protection::READ | Protection::WRITE,
            sharing: Sharing::Shared,
            file_offset: offset * 4096,
            device: (0, 1),
            inode: 7,
            name: "/dev/zero (deleted)".into(),
            flags: MappingFlags::empty(),
            page_size: PageSize::new(4096).unwrap(),
        }
    }

    #[test]
    fn what_both_have_is_told_in_our_addresses() {
        let ours = mapping(0x10_0000, 8, 4);
        let both = |pages, offset| in_both(&ours, &mapping(0x90_0000, pages, offset));
        assert_eq!(both(8, 4), Some(ours.range));
        assert_eq!(both(100, 0), Some(ours.range));
        assert_eq!(both(2, 5), Some(mapping(0x10_1000, 2, 0).range));
        assert_eq!(both(4, 0), None);
        assert_eq!(both(4, 12), None);
    }

    #[test]
    fn few_are_named_and_the_rest_counted() {
        let mut shared = Shared::default();
        shared.add(1, std::iter::empty());
        for pid in [6, 2, 3, 4, 5, 2, 6] {
            shared.add(pid, std::iter::once(mapping(0x10_0000, 1, 0).range));
        }
        let doubt = shared.doubt("writes").unwrap();
        assert_eq!(doubt.reason, "process 2, 3, 4 and 2 more writes");
        assert_eq!(doubt.ranges.len(), 1);
    }
}
