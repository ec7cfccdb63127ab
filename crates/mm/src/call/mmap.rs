//! `mmap`.
//!
//! Linux reference: 6.18, `mm/mmap.c` (`ksys_mmap_pgoff`, `do_mmap`, `__get_unmapped_area`),
//! `mm/vma.c` (`__mmap_region`, `__mmap_new_vma`).

use space::Errno;

use crate::file::{FileId, FileKind};
use crate::machine::{Descriptor, Fd, Machine, Mm, Process, Tid, World};
use crate::populate::Populate;
use crate::stop::Stop;
use crate::uapi::{file, map, prot};
use crate::vma::merge::Proposal;
use crate::vma::{Vma, VmaFlags, hole};

/// `EOVERFLOW`, which only calls with offsets give.
const EOVERFLOW: Errno = Errno(75);

/// Arguments of `mmap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mmap {
    /// The address that is wanted.
    pub addr: u64,
    /// How long the mapping shall be.
    pub len: u64,
    /// `PROT_*`.
    pub prot: u64,
    /// `MAP_*`.
    pub flags: u64,
    /// The file, unless `MAP_ANONYMOUS`.
    pub fd: Fd,
    /// Where in the file it starts.
    pub offset: u64,
    /// The address to take where the kernel is free to choose: what the other side took. The
    /// highest free one without it.
    pub choice: Option<u64>,
}

/// What a mapping is made of, after the checks.
struct New {
    addr: u64,
    len: u64,
    flags: VmaFlags,
    pgoff: u64,
    file: Option<FileId>,
}

impl Machine {
    /// Maps memory; returns the address.
    ///
    /// # Errors
    ///
    /// As the system call. With `EVENT_UNMAP` the thread may sleep until the event was read, and on a
    /// page that a userfaultfd is to bring, if the mapping was registered meanwhile.
    pub fn mmap(&mut self, tid: Tid, args: Mmap) -> Result<u64, Stop> {
        if let Some(addr) = self.finish_populate(tid)? {
            return Ok(addr);
        }
        let addr = match self.finish_event(tid)? {
            Some(addr) => addr,
            None => self.map(tid, &args)?,
        };
        let (world, process) = self.halves(tid)?;
        // It may be gone again where the call had to wait; what is there is filled.
        let page_shift = match process.mm.vmas.lookup(addr) {
            Some(vma) => vma.page_shift,
            None => world.page_shift(),
        };
        let asked = args.flags & (map::POPULATE | map::NONBLOCK) == map::POPULATE;
        // A mapping of hugetlb is not locked, but filled all the same.
        let locks = args.flags & map::LOCKED != 0;
        if asked || locks || process.mm.def_flags.contains(VmaFlags::LOCKED) {
            let end = addr + args.len.next_multiple_of(1 << page_shift);
            let populate = Populate {
                range: addr..end,
                ignores_errors: true,
                value: addr,
                events: Vec::new(),
            };
            return self.populate_and_end(tid, populate);
        }
        Ok(addr)
    }

    /// `vm_mmap_pgoff` up to the point where the events are read.
    fn map(&mut self, tid: Tid, args: &Mmap) -> Result<u64, Stop> {
        let (world, process) = self.halves(tid)?;
        if world.offset_in_page(args.offset) != 0 {
            return Err(Errno::EINVAL.into());
        }
        // The file is held while the call runs.
        let (file, len) = mapped_file(world, process, args)?;
        let made = do_mmap(world, process, tid, args, file, len);
        if let Some(file) = file {
            world.put_file(file);
        }
        self.complete_events(tid, made)
    }
}

/// `ksys_mmap_pgoff`: the file that is to be mapped, with a reference, and the length in whole
/// pages of that file.
fn mapped_file(
    world: &mut World,
    process: &Process,
    args: &Mmap,
) -> Result<(Option<FileId>, u64), Errno> {
    if args.flags & map::ANONYMOUS == 0 {
        let Descriptor::File { file, .. } = process.descriptor(args.fd)? else {
            return Err(Errno::ENODEV);
        };
        let shift = world.files.get(file).page_shift(world.page_shift());
        if world.files.get(file).is_hugetlb() {
            world.files.get_ref(file);
            return Ok((Some(file), align(args.len, shift)));
        }
        if args.flags & map::HUGETLB != 0 {
            return Err(Errno::EINVAL);
        }
        world.files.get_ref(file);
        return Ok((Some(file), args.len));
    }
    if args.flags & map::HUGETLB != 0 {
        let size = (args.flags >> map::HUGE_SHIFT) & map::HUGE_MASK;
        let file = crate::file::hugetlb::anonymous_file(world, size, args.len)?;
        let shift = world.files.get(file).page_shift(world.page_shift());
        return Ok((Some(file), align(args.len, shift)));
    }
    Ok((None, args.len))
}

fn align(len: u64, shift: u32) -> u64 {
    let mask = (1_u64 << shift) - 1;
    len.wrapping_add(mask) & !mask
}

/// `do_mmap`: the checks; returns the address.
fn do_mmap(
    world: &mut World,
    process: &mut Process,
    tid: Tid,
    args: &Mmap,
    file: Option<FileId>,
    len: u64,
) -> Result<u64, Errno> {
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    let mut flags = args.flags;
    if flags & map::FIXED_NOREPLACE != 0 {
        flags |= map::FIXED;
    }
    let len = world.page_align(len);
    if len == 0 {
        return Err(Errno::ENOMEM);
    }
    let mut pgoff = args.offset >> world.page_shift();
    if pgoff.checked_add(len >> world.page_shift()).is_none() {
        return Err(EOVERFLOW);
    }
    if process.mm.vmas.len() > world.profile.map_count_max {
        return Err(Errno::ENOMEM);
    }
    let mut vm_flags = prot_flags(world, args.prot)
        | map_flags(flags)
        | process.mm.def_flags
        | VmaFlags::MAYACCESS;
    let addr = unmapped_area(world, &process.mm, args, flags, file, len)?;
    if flags & map::FIXED_NOREPLACE != 0 && process.mm.vmas.intersects(addr, addr + len) {
        return Err(Errno::EEXIST);
    }
    match file {
        Some(id) => {
            // A private hugetlb mapping without a file was made with one by the kernel itself.
            let read_only = match process.descriptor(args.fd) {
                Ok(Descriptor::File { read_only, .. }) if flags & map::ANONYMOUS == 0 => read_only,
                _ => false,
            };
            file_flags(world, id, args.prot, flags, read_only, &mut vm_flags)?;
        }
        None => match flags & map::TYPE {
            map::SHARED => {
                if vm_flags.contains(VmaFlags::GROWSDOWN) {
                    return Err(Errno::EINVAL);
                }
                pgoff = 0;
                vm_flags |= VmaFlags::SHARED | VmaFlags::MAYSHARE;
            }
            map::PRIVATE => pgoff = addr >> world.page_shift(),
            map::DROPPABLE => {
                if vm_flags.intersects(VmaFlags::LOCKED | VmaFlags::GROWSDOWN) {
                    return Err(Errno::EOPNOTSUPP);
                }
                vm_flags |= VmaFlags::DROPPABLE
                    | VmaFlags::NORESERVE
                    | VmaFlags::WIPEONFORK
                    | VmaFlags::DONTDUMP;
                pgoff = addr >> world.page_shift();
            }
            _ => return Err(Errno::EINVAL),
        },
    }
    if flags & map::NORESERVE != 0 {
        vm_flags |= VmaFlags::NORESERVE;
    }
    let new = New {
        addr,
        len,
        flags: vm_flags,
        pgoff,
        file,
    };
    mmap_region(world, process, tid, new)?;
    Ok(addr)
}

/// `calc_vm_prot_bits`, with the key of what may only be executed (`execute_only_pkey`).
pub(crate) fn prot_flags(world: &World, bits: u64) -> VmaFlags {
    let mut flags = VmaFlags::empty();
    let execute_only = world.profile.execute_only && bits == prot::EXEC;
    flags.set(VmaFlags::EXEC_ONLY, execute_only);
    flags.set(VmaFlags::READ, bits & prot::READ != 0);
    flags.set(VmaFlags::WRITE, bits & prot::WRITE != 0);
    flags.set(VmaFlags::EXEC, bits & prot::EXEC != 0);
    flags
}

/// `calc_vm_flag_bits`.
fn map_flags(bits: u64) -> VmaFlags {
    let mut flags = VmaFlags::empty();
    flags.set(VmaFlags::GROWSDOWN, bits & map::GROWSDOWN != 0);
    flags.set(VmaFlags::LOCKED, bits & map::LOCKED != 0);
    flags.set(VmaFlags::SYNC, bits & map::SYNC != 0);
    flags.set(VmaFlags::NOHUGEPAGE, bits & map::STACK != 0);
    flags
}

/// The cases of `do_mmap` for a file.
fn file_flags(
    world: &World,
    id: FileId,
    prot_bits: u64,
    flags: u64,
    read_only: bool,
    vm_flags: &mut VmaFlags,
) -> Result<(), Errno> {
    let kind = flags & map::TYPE;
    match kind {
        map::SHARED | map::SHARED_VALIDATE => {
            if kind == map::SHARED_VALIDATE && flags & !map::LEGACY_MASK != 0 {
                return Err(Errno::EOPNOTSUPP);
            }
            if prot_bits & prot::WRITE != 0 && read_only {
                return Err(Errno::EACCES);
            }
            *vm_flags |= VmaFlags::SHARED | VmaFlags::MAYSHARE;
            if read_only {
                *vm_flags -= VmaFlags::MAYWRITE | VmaFlags::SHARED;
            }
        }
        map::PRIVATE => {}
        _ => return Err(Errno::EINVAL),
    }
    if vm_flags.contains(VmaFlags::GROWSDOWN) {
        return Err(Errno::EINVAL);
    }
    // memfd_check_seals_mmap
    let sealed = world.files.get(id).seals & (file::SEAL_WRITE | file::SEAL_FUTURE_WRITE) != 0;
    if sealed && vm_flags.contains(VmaFlags::SHARED) {
        if vm_flags.contains(VmaFlags::WRITE) {
            return Err(Errno::EPERM);
        }
        *vm_flags -= VmaFlags::MAYWRITE;
    }
    Ok(())
}

/// `__get_unmapped_area`: checks the address that is wanted, or takes a free one.
fn unmapped_area(
    world: &World,
    mm: &Mm,
    args: &Mmap,
    flags: u64,
    file: Option<FileId>,
    len: u64,
) -> Result<u64, Errno> {
    let task_size = world.profile.arch.task_size();
    if len > task_size {
        return Err(Errno::ENOMEM);
    }
    let shift = file.map_or(world.page_shift(), |id| {
        world.files.get(id).page_shift(world.page_shift())
    });
    let mask = (1_u64 << shift) - 1;
    if len & mask != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & map::FIXED != 0 {
        if shift != world.page_shift() && args.addr & mask != 0 {
            return Err(Errno::EINVAL);
        }
        if args.addr > task_size - len {
            return Err(Errno::ENOMEM);
        }
        return if args.addr & mask == 0 {
            Ok(args.addr)
        } else {
            Err(Errno::EINVAL)
        };
    }
    free_area(world, mm, args.addr, args.choice, len, shift)
}

/// A free range: the one that is chosen, the one hinted at, or the highest.
pub(crate) fn free_area(
    world: &World,
    mm: &Mm,
    hint: u64,
    choice: Option<u64>,
    len: u64,
    shift: u32,
) -> Result<u64, Errno> {
    let task_size = world.profile.arch.task_size();
    if let Some(choice) = choice {
        return Ok(choice);
    }
    let mask = (1_u64 << shift) - 1;
    let hint = hint.wrapping_add(mask) & !mask;
    let fits = hint >= world.profile.mmap_min_addr && hint <= task_size - len;
    if hint != 0 && fits && !mm.vmas.intersects(hint, hint + len) {
        return Ok(hint);
    }
    hole::topdown(
        &mm.vmas,
        len,
        1 << shift,
        world.profile.mmap_min_addr,
        task_size,
    )
    .ok_or(Errno::ENOMEM)
}

/// `accountable_mapping`.
fn accountable(world: &World, new: &New) -> bool {
    if new
        .file
        .is_some_and(|file| world.files.get(file).is_hugetlb())
    {
        return false;
    }
    let of_interest = VmaFlags::NORESERVE | VmaFlags::SHARED | VmaFlags::WRITE;
    new.flags & of_interest == VmaFlags::WRITE
}

/// `__mmap_region`: makes room, and lets a neighbour take the new range in, or makes a mapping.
fn mmap_region(world: &mut World, process: &mut Process, tid: Tid, new: New) -> Result<(), Errno> {
    let end = new.addr + new.len;
    // What is replaced gives its files back when all is done: a file of huge pages keeps what it
    // reserved until then (`vms_complete_munmap_vmas`).
    let vmas = &process.mm.vmas;
    let replaced = (vmas.find_index(new.addr)..vmas.len())
        .map(|index| vmas.at(index))
        .take_while(|vma| vma.start < end);
    let files: Vec<FileId> = replaced
        .filter(|vma| vma.is_hugetlb())
        .filter_map(|vma| vma.file)
        .collect();
    for &file in &files {
        world.files.get_ref(file);
    }
    let mapped = super::munmap::unmap_for(world, process, tid, new.addr, end)
        .and_then(|()| map_new(world, process, new, end));
    for file in files {
        world.put_file(file);
    }
    mapped
}

/// The part of `__mmap_region` behind `__mmap_setup`.
fn map_new(world: &mut World, process: &mut Process, mut new: New, end: u64) -> Result<(), Errno> {
    let page_shift = world.page_shift();
    if accountable(world, &new) {
        if new.len >> page_shift > world.profile.memory_pages + world.profile.swap_pages {
            return Err(Errno::ENOMEM);
        }
        new.flags |= VmaFlags::ACCOUNT;
    }
    let proposal = Proposal {
        start: new.addr,
        end,
        pgoff: new.pgoff,
        flags: new.flags,
        file: new.file,
        anon_vma: None,
        uffd: None,
        copied_from_fork: false,
        copied_chain: Vec::new(),
        just_expand: false,
        next_first: world.profile.mmap_joins_next_first,
    };
    let index = match process.mm.vmas.merge_new(world, &proposal) {
        Some(index) => index,
        None => new_vma(world, process, new, end)?,
    };
    let vma = process.mm.vmas.at_mut(index);
    if vma.has(VmaFlags::LOCKED)
        && vma
            .flags
            .intersects(VmaFlags::SPECIAL | VmaFlags::DROPPABLE)
    {
        vma.flags -= VmaFlags::LOCKED_MASK;
    }
    if world.profile.soft_dirty {
        vma.flags |= VmaFlags::SOFTDIRTY;
    }
    Ok(())
}

/// `__mmap_new_vma`.
fn new_vma(world: &mut World, process: &mut Process, new: New, end: u64) -> Result<usize, Errno> {
    let page_shift = world.page_shift();
    let mut vma = Vma {
        start: new.addr,
        end,
        flags: new.flags,
        pgoff: new.pgoff,
        file: new.file,
        anon_vma: None,
        chain: Vec::new(),
        uffd: None,
        page_shift,
        reserve: None,
        reserve_lost: false,
    };
    match new.file {
        Some(file) => {
            world.files.get_ref(file);
            if world.files.get(file).is_hugetlb() {
                crate::file::hugetlb::map_file(world, &mut vma, file)
                    .inspect_err(|_| world.put_file(file))?;
            }
        }
        None if vma.has(VmaFlags::SHARED) => {
            // shmem_zero_setup
            let name = "/dev/zero (deleted)".to_owned();
            vma.file = Some(world.files.create(FileKind::Shmem, name, end - new.addr));
        }
        None => {}
    }
    Ok(process.mm.vmas.insert(vma))
}
