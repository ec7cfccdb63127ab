//! Other processes that have the same shared memory, and run on while ours stands still.

use std::collections::{BTreeMap, BTreeSet};

use space::{Errno, Mapping, PageRange, Protection, RangeSet, Sharing};

use super::descriptors::descriptor_holders;
use super::held::{Held, held};
use super::hidden::unseen as unseen_processes;
use super::scan::living_task;
use super::{Danger, Unproven};
use crate::doctor::{CAP_SYS_PTRACE, capable};
use crate::procfs::{Process, ProcfsError, base_page_size, processes};

/// How many processes are named in a reason.
const NAMED_MAX: usize = 3;

/// A file that shared memory is made of. A segment of System V has its own number for that of its
/// inode, on the file system where others (of `memfd_create`, for one) have theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct File {
    device: (u32, u32),
    inode: u64,
    is_system_v: bool,
}

/// A part of a file that somebody has mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    file: File,
    /// The offsets of its first byte and of the first behind it.
    from: u64,
    to: u64,
}

/// What several looks found of other processes that can write to shared memory of a process.
#[derive(Debug, Default)]
pub struct Others {
    /// They have it mapped for writing.
    writers: BTreeMap<u32, BTreeSet<Span>>,
    /// They have it open for writing.
    holders: BTreeMap<u32, BTreeSet<Span>>,
    /// They may not be looked at.
    strangers: BTreeSet<u32>,
}

impl Others {
    /// Looks for processes beside `ours` that can write to the shared memory among `mappings`: what
    /// they write during a freeze may be in a snapshot or not, page by page.
    ///
    /// Who has it mapped for writing is found, and who has it open for writing. Not found is who comes
    /// after one look and ends before the next, and a descriptor that is on its way through a socket.
    ///
    /// # Errors
    ///
    /// Those of listing the processes. One that may not be looked at is a reason for doubt.
    pub fn look<'a>(
        &mut self,
        mappings: impl IntoIterator<Item = &'a Mapping>,
        ours: &[u32],
    ) -> Result<(), ProcfsError> {
        let named: BTreeMap<File, &str> = shared(mappings)
            .map(|mapping| (file(mapping), mapping.name.as_str()))
            .collect();
        let files: BTreeSet<File> = named.keys().copied().collect();
        if files.is_empty() {
            return Ok(());
        }
        let (mut buf, mut theirs) = (Vec::new(), Vec::new());
        for pid in processes()? {
            if ours.contains(&pid) || pid == std::process::id() {
                continue;
            }
            theirs.clear();
            let looked = Process::open(pid).and_then(|process| {
                living_task(&process)?.maps(base_page_size(), &mut buf, &mut theirs)?;
                open_files(&process, &named)
            });
            match looked {
                // The task that was looked through ended meanwhile.
                Ok(_) if theirs.is_empty() && !has_no_memory(pid) => {
                    self.strangers.insert(pid);
                }
                Ok(held) => {
                    let written = shared(&theirs)
                        .filter(|theirs| theirs.protection.contains(Protection::WRITE))
                        .map(span)
                        .filter(|span| files.contains(&span.file));
                    add(&mut self.writers, pid, written);
                    add(&mut self.holders, pid, held.into_iter().map(whole));
                }
                Err(_) if has_no_memory(pid) => {}
                Err(_) => {
                    self.strangers.insert(pid);
                }
            }
        }
        Ok(())
    }

    /// Returns what is in doubt of these mappings for all that: where their memory lies now, wherever it
    /// lay when somebody was found to share it.
    pub fn doubts<'a>(&self, mappings: impl IntoIterator<Item = &'a Mapping>) -> Vec<Unproven> {
        let ours: Vec<&Mapping> = shared(mappings).collect();
        if ours.is_empty() {
            return Vec::new();
        }
        let all: RangeSet = ours.iter().map(|mapping| mapping.range).collect();
        let hidden = unseen_processes().map(|reason| Unproven {
            ranges: all.ranges().to_vec(),
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
            theirs(
                &self.writers,
                &ours,
                "can write to this shared memory too, and does not stand still",
            ),
            theirs(
                &self.holders,
                &ours,
                "can write to this shared memory by a descriptor, and does not stand still",
            ),
            doubt(&self.strangers, &all, strange),
        ];
        known.into_iter().flatten().chain(hidden).collect()
    }
}

fn add(to: &mut BTreeMap<u32, BTreeSet<Span>>, pid: u32, spans: impl Iterator<Item = Span>) {
    for span in spans {
        to.entry(pid).or_default().insert(span);
    }
}

/// Those of the files that a process has open for writing, in any of its tables of descriptors. On some
/// file systems (btrfs) a mapping names another device than the file does: then its name decides.
fn open_files(process: &Process, named: &BTreeMap<File, &str>) -> Result<Vec<File>, ProcfsError> {
    let is_wanted = |inode| named.keys().any(|file| file.inode == inode);
    let mut all: Vec<Held> = Vec::new();
    for task in descriptor_holders(process)? {
        match held(&task, is_wanted) {
            Ok(held) => all.extend(held),
            Err(ProcfsError::Gone { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let is_same = |file: &File, name: &str| {
        !file.is_system_v
            && all.iter().any(|held| {
                held.inode == file.inode && (held.device == file.device || held.name == name)
            })
    };
    let files = named.iter().filter(|(file, name)| is_same(file, name));
    Ok(files.map(|(file, _)| *file).collect())
}

fn whole(file: File) -> Span {
    Span {
        file,
        from: 0,
        to: u64::MAX,
    }
}

/// What is in doubt of our mappings because others can write to parts of their files.
fn theirs(
    parts: &BTreeMap<u32, BTreeSet<Span>>,
    ours: &[&Mapping],
    what: &str,
) -> Option<Unproven> {
    let (mut pids, mut written) = (BTreeSet::new(), RangeSet::new());
    for (&pid, spans) in parts {
        for span in spans {
            for range in ours.iter().filter_map(|ours| in_both(ours, *span)) {
                pids.insert(pid);
                written.insert(range);
            }
        }
    }
    doubt(&pids, &written, what)
}

/// What is in doubt because of some processes, if there are any.
fn doubt(pids: &BTreeSet<u32>, ranges: &RangeSet, what: &str) -> Option<Unproven> {
    let named: Vec<String> = pids.iter().take(NAMED_MAX).map(u32::to_string).collect();
    let more = match pids.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!pids.is_empty()).then(|| Unproven {
        ranges: ranges.ranges().to_vec(),
        reason: format!("process {}{more} {what}", named.join(", ")),
        danger: Danger::EvenFrozen,
    })
}

/// Tells whether it is a thread of the kernel, or has ended.
fn has_no_memory(pid: u32) -> bool {
    match Process::open(pid).and_then(|process| living_task(&process)?.status()) {
        Ok(status) => status.resident.is_none(),
        Err(error) => error.errno() == Errno::ESRCH,
    }
}

/// Those of `mappings` that are shared memory. Mappings of the kernel's own objects all have the same
/// file, which is no memory.
fn shared<'a>(
    mappings: impl IntoIterator<Item = &'a Mapping>,
) -> impl Iterator<Item = &'a Mapping> {
    mappings.into_iter().filter(|mapping| {
        mapping.sharing == Sharing::Shared
            && mapping.has_file()
            && !mapping.name.starts_with("anon_inode:")
    })
}

fn file(mapping: &Mapping) -> File {
    File {
        device: mapping.device,
        inode: mapping.inode,
        is_system_v: mapping.name.starts_with("/SYSV"),
    }
}

fn span(mapping: &Mapping) -> Span {
    let from = mapping.file_offset;
    Span {
        file: file(mapping),
        from,
        to: from.saturating_add(mapping.range.len().0),
    }
}

/// Returns which part of `ours` shows bytes of what somebody has mapped.
fn in_both(ours: &Mapping, theirs: Span) -> Option<PageRange> {
    let span = span(ours);
    let (from, to) = (span.from.max(theirs.from), span.to.min(theirs.to));
    let at = |offset: u64| space::Vaddr(ours.range.start().0 + (offset - ours.file_offset));
    (span.file == theirs.file && from < to).then(|| PageRange::new(at(from), at(to)))?
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
        let both = |pages, offset| in_both(&ours, span(&mapping(0x90_0000, pages, offset)));
        assert_eq!(both(8, 4), Some(ours.range));
        assert_eq!(both(100, 0), Some(ours.range));
        assert_eq!(both(2, 5), Some(mapping(0x10_1000, 2, 0).range));
        assert_eq!(both(4, 0), None);
        assert_eq!(both(4, 12), None);
    }

    #[test]
    fn few_are_named_and_the_rest_counted() {
        let pids = BTreeSet::from([6, 2, 3, 4, 5]);
        let ranges = [mapping(0x10_0000, 1, 0).range].into_iter().collect();
        let doubt = doubt(&pids, &ranges, "writes").unwrap();
        assert_eq!(doubt.reason, "process 2, 3, 4 and 2 more writes");
        assert_eq!(doubt.ranges.len(), 1);
    }

    /// Returns where somebody is known to write.
    fn written(others: &Others, mappings: &[Mapping]) -> Vec<PageRange> {
        let doubts = others.doubts(mappings);
        let written = doubts
            .into_iter()
            .filter(|doubt| doubt.reason.contains("can write to this"));
        written.flat_map(|doubt| doubt.ranges).collect()
    }

    #[test]
    fn memory_is_in_doubt_where_it_lies_by_now() {
        let (before, moved) = (mapping(0x10_0000, 8, 4), mapping(0x50_0000, 8, 4));
        let mut others = Others::default();
        add(
            &mut others.writers,
            7,
            std::iter::once(span(&mapping(0x90_0000, 2, 5))),
        );
        let at = |start| mapping(start, 2, 0).range;
        assert_eq!(written(&others, &[before]), [at(0x10_1000)]);
        assert_eq!(written(&others, &[moved]), [at(0x50_1000)]);
        assert_eq!(written(&others, &[]), []);
    }

    #[test]
    fn a_segment_is_no_other_file_with_its_number() {
        let mut segment = mapping(0x10_0000, 8, 0);
        segment.name = "/SYSV00000000 (deleted)".into();
        let mut others = Others::default();
        add(
            &mut others.writers,
            7,
            std::iter::once(span(&mapping(0x90_0000, 8, 0))),
        );
        assert_eq!(written(&others, std::slice::from_ref(&segment)), []);
        add(&mut others.writers, 7, std::iter::once(span(&segment)));
        assert_eq!(
            written(&others, std::slice::from_ref(&segment)),
            [segment.range]
        );
    }
}
