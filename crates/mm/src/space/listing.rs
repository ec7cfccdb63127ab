//! Mappings as `/proc/PID/smaps` shows them, and the pages that files have for them.

use space::{
    Errno, Mapping, MappingFlags, PageCount, PageRange, PageSize, Protection, Sharing, Vaddr,
};

use crate::entry::Entry;
use crate::machine::{Machine, Pid};
use crate::vma::{Vma, VmaFlags};

/// A mapping as `smaps` shows it.
pub(super) fn mapping(machine: &Machine, pid: Pid, vma: &Vma) -> Result<Mapping, Errno> {
    let range = PageRange::new(Vaddr(vma.start), Vaddr(vma.end)).expect("a mapping is a range");
    let mut protection = Protection::empty();
    protection.set(Protection::READ, vma.has(VmaFlags::READ));
    protection.set(Protection::WRITE, vma.has(VmaFlags::WRITE));
    protection.set(Protection::EXEC, vma.has(VmaFlags::EXEC));
    let shared = vma.has(VmaFlags::MAYSHARE);
    let mut flags = MappingFlags::empty();
    for (shown, has) in [
        (MappingFlags::HUGETLB, VmaFlags::HUGETLB),
        (MappingFlags::DONT_DUMP, VmaFlags::DONTDUMP),
        (MappingFlags::DONT_FORK, VmaFlags::DONTCOPY),
        (MappingFlags::WIPE_ON_FORK, VmaFlags::WIPEONFORK),
        (MappingFlags::GROWS_DOWN, VmaFlags::GROWSDOWN),
        (MappingFlags::LOCKED, VmaFlags::LOCKED),
    ] {
        flags.set(shown, vma.has(has));
    }
    flags.set(MappingFlags::USERFAULT, vma.uffd_armed());
    let waits = VmaFlags::UFFD_MISSING | VmaFlags::UFFD_MINOR;
    flags.set(MappingFlags::USERFAULT_WAITS, vma.flags.intersects(waits));
    flags.set(MappingFlags::UNLINKED, vma.file.is_some());
    let own_pages = vma.file.is_some() && !shared && has_own_pages(machine, pid, vma)?;
    flags.set(MappingFlags::HAS_OWN_PAGES, own_pages);
    Ok(Mapping {
        range,
        protection,
        sharing: if shared {
            Sharing::Shared
        } else {
            Sharing::Private
        },
        file_offset: vma
            .file
            .map_or(0, |_| vma.pgoff << machine.world.page_shift()),
        device: vma.file.map_or((0, 0), |_| (0, 1)),
        inode: vma.file.map_or(0, |file| u64::from(file.0) + 1),
        name: vma.file.map_or_else(String::new, |file| {
            machine.world.files.get(file).name.clone()
        }),
        flags,
        page_size: PageSize::new(1 << vma.page_shift).expect("a page size is one"),
    })
}

/// Tells whether some page of a private mapping of a file is the process's own.
fn has_own_pages(machine: &Machine, pid: Pid, vma: &Vma) -> Result<bool, Errno> {
    let world = &machine.world;
    let mm = &machine.process(pid)?.mm;
    let mut at = vma.start;
    while let Some(run) = mm.tables.next_run(at, vma.end) {
        at = run.end;
        let pages = match run.slot.level {
            0 => (run.end - run.start) >> world.page_shift(),
            _ => 1,
        };
        let mut slot = run.slot;
        for _ in 0..pages {
            let own = match mm.tables.entry(slot) {
                Entry::Present(present) => world.frames.folio(present.pfn).is_anon(),
                Entry::Swap { .. } => true,
                _ => false,
            };
            if own {
                return Ok(true);
            }
            slot.index += 1;
        }
    }
    Ok(false)
}

/// The pages of a shared mapping that its file has data for.
pub(super) fn data(
    machine: &Machine,
    pid: Pid,
    mapping: &Mapping,
    out: &mut Vec<PageRange>,
) -> Result<(), Errno> {
    let page_size = PageSize::new(machine.profile().page_size()).expect("it is a page size");
    let (start, end) = (mapping.range.start().0, mapping.range.end().0);
    for vma in machine.vmas(pid)? {
        let Some(file) = vma.file.filter(|_| vma.start < end && start < vma.end) else {
            continue;
        };
        let first = vma.index_of(vma.start.max(start), page_size.shift());
        let behind = vma.index_of(vma.end.min(end), page_size.shift());
        let file = machine.world.files.get(file);
        let pages = 1_u64 << (vma.page_shift - page_size.shift());
        for &index in file.pages.range(first..behind).map(|(index, _)| index) {
            let at = vma.start + ((index - vma.pgoff) << page_size.shift());
            out.extend(PageRange::from_pages(
                Vaddr(at),
                PageCount(pages),
                page_size,
            ));
        }
    }
    Ok(())
}
