//! What the calls that put pages into a range have in common (`mfill_atomic`).

use space::Errno;

use super::UffdId;
use crate::entry::{Bits, Entry, Marker, Present};
use crate::fault::{mkdirty, page_prot};
use crate::file::hugetlb::hgm;
use crate::file::{Cached, FileId, shmem};
use crate::folio::{Content, FolioFlags, FrameFlags, Owner, Pfn, ZERO_PFN};
use crate::machine::{Machine, Mm, Pid, Tid, World};
use crate::profile::Kernel;
use crate::stop::Stop;
use crate::table::Slot;
use crate::vma::{View, VmaFlags};

/// What a call that fills pages leaves: its result, and the output field of its argument (`copy`,
/// `zeropage`, `mapped`, `updated`, `move`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The result.
    pub result: Result<(), Stop>,
    /// Bytes that were done, or an error number, negative. `None` where the call left the field
    /// as it was.
    pub out: Option<i64>,
}

impl Transfer {
    /// Failed before the field was looked at.
    pub(super) fn refused(errno: Errno) -> Self {
        Self {
            result: Err(errno.into()),
            out: None,
        }
    }

    /// Failed, as the field says, too.
    pub(super) fn failed(errno: Errno) -> Self {
        Self {
            result: Err(errno.into()),
            out: Some(-i64::from(errno.0)),
        }
    }

    /// Refused while the mappings change. 6.1 leaves the field as it was; later kernels say so there
    /// (`userfaultfd_copy`).
    pub(super) fn changing(kernel: Kernel) -> Self {
        if kernel < Kernel::V6_12 {
            Self::refused(Errno::EAGAIN)
        } else {
            Self::failed(Errno::EAGAIN)
        }
    }

    /// Did so much of what was asked for.
    pub(super) fn done(bytes: u64, asked: u64) -> Self {
        let result = if bytes == asked {
            Ok(())
        } else {
            Err(Errno::EAGAIN.into())
        };
        Self {
            result,
            out: Some(i64::try_from(bytes).expect("a length of memory fits")),
        }
    }
}

/// What a call puts into a range (`MFILL_ATOMIC_COPY` and so on).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Bytes,
    Zero,
    Cache,
    Poison,
}

/// What one page is made of.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// These bytes.
    Bytes(Content),
    /// Zeros.
    Zero,
    /// What the file has there.
    Cache,
    /// A marker that ends each access in SIGBUS.
    Poison,
}

/// Where pages are put, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) uffd: UffdId,
    pub(super) start: u64,
    pub(super) len: u64,
    /// `MFILL_ATOMIC_WP`: the protection that the new entries have.
    pub(super) protection: VmaFlags,
    /// What is put there.
    pub(super) what: What,
    /// Where bytes are copied from, and the thread that does it.
    pub(super) source: Option<(Tid, u64)>,
}

impl Machine {
    /// `mfill_atomic`: `source` makes what is put at each address, and may stop the call. `done`
    /// bytes were put there before.
    ///
    /// # Errors
    ///
    /// How many bytes were done, and why no more.
    pub(super) fn fill(
        &mut self,
        target: &Target,
        mut done: u64,
        mut source: impl FnMut(&mut Self, u64) -> Result<Source, Stop>,
    ) -> Result<(), (u64, Stop)> {
        let pid = self.context(target.uffd).pid;
        while done < target.len {
            // The mapping is looked at again whenever the source may have slept; the model does
            // so for each page.
            let vma = self
                .destination(pid, target)
                .map_err(|errno| (done, errno.into()))?;
            let addr = target.start + done;
            let step = match target.what {
                What::Cache => hgm::step(&self.world, &vma, addr, target.len - done),
                What::Bytes | What::Zero | What::Poison => vma.page_shift,
            };
            let step = 1_u64 << step;
            let put = self.put(pid, &vma, target, addr, done, &mut source);
            put.map_err(|stop| (done, stop))?;
            done += step;
        }
        Ok(())
    }

    /// One step of the loop of `mfill_atomic`.
    fn put(
        &mut self,
        pid: Pid,
        vma: &View,
        target: &Target,
        addr: u64,
        done: u64,
        source: &mut impl FnMut(&mut Self, u64) -> Result<Source, Stop>,
    ) -> Result<(), Stop> {
        if vma.is_hugetlb() && target.what == What::Cache {
            let left = target.len - done;
            if hgm::step(&self.world, vma, addr, left) < vma.page_shift {
                let (world, process) = self.halves_of(pid)?;
                return put_piece(world, &mut process.mm, vma, target, addr).map_err(Stop::Failed);
            }
        }
        if vma.is_hugetlb() {
            return super::hugetlb::put(self, pid, vma, target, addr, done, source);
        }
        let (_, process) = self.halves_of(pid)?;
        let slot = process.mm.tables.alloc_to(addr, 0).ok_or(Errno::EEXIST)?;
        let source = source(self, done)?;
        let (world, process) = self.halves_of(pid)?;
        let place = Place {
            vma: *vma,
            addr,
            slot,
            protection: target.protection,
        };
        put_page(world, &mut process.mm, &place, source).map_err(Stop::Failed)
    }

    /// `uffd_mfill_lock` and the checks after it: the one mapping that the range lies in.
    fn destination(&mut self, pid: Pid, target: &Target) -> Result<View, Errno> {
        let changing = self.is_changing(target.uffd);
        let (world, process) = self.halves_of(pid)?;
        let vmas = &mut process.mm.vmas;
        let index = vmas.find_index(target.start);
        let vma = vmas
            .get(index)
            .filter(|vma| vma.contains(target.start))
            .ok_or(Errno::ENOENT)?;
        if !vma.has(VmaFlags::SHARED) {
            world.anon_vmas.prepare(vmas, index, world.page_shift());
        }
        let vma = vmas.at(index);
        if target.start + target.len > vma.end || vma.uffd.is_none() {
            return Err(Errno::ENOENT);
        }
        if changing {
            return Err(Errno::EAGAIN);
        }
        if !vma.has(target.protection) {
            return Err(Errno::EINVAL);
        }
        let view = vma.view();
        let shift = match target.what {
            What::Cache => hgm::granularity(world, &view),
            What::Bytes | What::Zero | What::Poison => vma.page_shift,
        };
        let mask = (1_u64 << shift) - 1;
        if (target.start | target.len) & mask != 0 {
            return Err(Errno::EINVAL);
        }
        if vma.is_anonymous() && target.what == What::Cache {
            return Err(Errno::EINVAL);
        }
        Ok(vma.view())
    }
}

/// `UFFDIO_CONTINUE` of a piece of a huge page.
fn put_piece(
    world: &mut World,
    mm: &mut Mm,
    vma: &View,
    target: &Target,
    addr: u64,
) -> Result<(), Errno> {
    if matches!(mm.tables.lookup(addr).1, Entry::Present(_)) {
        return Err(Errno::EEXIST);
    }
    let protected = target.protection.contains(VmaFlags::UFFD_WP);
    hgm::map_piece(world, mm, vma, addr, protected)
}

/// Where one page is put.
pub(super) struct Place {
    pub(super) vma: View,
    pub(super) addr: u64,
    pub(super) slot: Slot,
    pub(super) protection: VmaFlags,
}

/// `mfill_atomic_pte`.
fn put_page(world: &mut World, mm: &mut Mm, place: &Place, source: Source) -> Result<(), Errno> {
    let shared = place.vma.has(VmaFlags::SHARED);
    match (source, place.vma.file) {
        (Source::Bytes(content), Some(file)) if shared => {
            put_shared(world, mm, place, file, content)
        }
        (Source::Zero, Some(file)) if shared => put_shared(world, mm, place, file, Content::ZERO),
        (Source::Bytes(content), _) => put_private(world, mm, place, content),
        (Source::Zero, _) => put_zero(world, mm, place),
        (Source::Cache, Some(file)) => put_cached(world, mm, place, file),
        (Source::Cache, None) => Err(Errno::EINVAL),
        (Source::Poison, _) => {
            beyond_file(world, place)?;
            if mm.tables.entry(place.slot) != Entry::None {
                return Err(Errno::EEXIST);
            }
            mm.tables.set(place.slot, Entry::Marker(Marker::POISONED));
            Ok(())
        }
    }
}

/// `mfill_file_over_size`.
fn beyond_file(world: &World, place: &Place) -> Result<(), Errno> {
    let Some(file) = place.vma.file else {
        return Ok(());
    };
    let index = place.vma.index_of(place.addr, world.page_shift());
    let pages = world.files.get(file).size.div_ceil(world.page_size());
    if index >= pages {
        Err(Errno::EFAULT)
    } else {
        Ok(())
    }
}

/// `pte_none_mostly`: markers count as nothing.
fn is_free(mm: &Mm, slot: Slot) -> Result<(), Errno> {
    match mm.tables.entry(slot) {
        Entry::None | Entry::Marker(_) => Ok(()),
        _ => Err(Errno::EEXIST),
    }
}

/// `mfill_atomic_pte_zeropage`.
fn put_zero(world: &World, mm: &mut Mm, place: &Place) -> Result<(), Errno> {
    beyond_file(world, place)?;
    if mm.tables.entry(place.slot) != Entry::None {
        return Err(Errno::EEXIST);
    }
    let entry = Present {
        pfn: ZERO_PFN,
        bits: page_prot(world, &place.vma) | Bits::SPECIAL | Bits::YOUNG,
    };
    mm.tables.set_present(place.slot, entry);
    Ok(())
}

/// `mfill_atomic_pte_copy`.
fn put_private(
    world: &mut World,
    mm: &mut Mm,
    place: &Place,
    content: Content,
) -> Result<(), Errno> {
    beyond_file(world, place)?;
    is_free(mm, place.slot)?;
    let owner = Owner::Anon {
        anon_vma: place.vma.anon_vma.expect("the family was prepared"),
        index: place.vma.index_of(place.addr, world.page_shift()),
    };
    let pfn = world.frames.alloc(0, owner);
    world.frames.frame_mut(pfn).content = content;
    world.frames.set_exclusive(pfn, true);
    world.frames.add_rmap(pfn);
    install(world, mm, place, pfn, Origin::New);
    Ok(())
}

/// `shmem_mfill_atomic_pte`: the page goes into the file, too.
fn put_shared(
    world: &mut World,
    mm: &mut Mm,
    place: &Place,
    file: FileId,
    content: Content,
) -> Result<(), Errno> {
    beyond_file(world, place)?;
    let index = place.vma.index_of(place.addr, world.page_shift());
    if world.files.get(file).pages.contains_key(&index) {
        return Err(Errno::EEXIST);
    }
    is_free(mm, place.slot)?;
    let pfn = world.frames.alloc(0, Owner::File { file, index });
    world.frames.frame_mut(pfn).content = content;
    world.frames.folio_mut(pfn).flags |= FolioFlags::DIRTY;
    let pages = &mut world.files.get_mut(file).pages;
    pages.insert(index, Cached::Page(pfn));
    world.frames.get(pfn, 1);
    world.frames.add_rmap(pfn);
    install(world, mm, place, pfn, Origin::Cache);
    Ok(())
}

/// `mfill_atomic_pte_continue`.
fn put_cached(world: &mut World, mm: &mut Mm, place: &Place, file: FileId) -> Result<(), Errno> {
    let index = place.vma.index_of(place.addr, world.page_shift());
    let size = world.files.get(file).size;
    if index << world.page_shift() >= size {
        return Err(Errno::EINVAL);
    }
    if !world.files.get(file).pages.contains_key(&index) {
        return Err(Errno::EFAULT);
    }
    let pfn = shmem::get_or_make(world, file, index);
    let flags = world.frames.frame(pfn).flags;
    if flags.contains(FrameFlags::HWPOISON) {
        return Err(Errno::EIO);
    }
    is_free(mm, place.slot)?;
    world.frames.get(pfn, 1);
    world.frames.add_rmap(pfn);
    install(world, mm, place, pfn, Origin::Cache);
    Ok(())
}

/// Where the page comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    New,
    Cache,
}

/// `mfill_atomic_install_pte`; references and counts are the caller's.
fn install(world: &World, mm: &mut Mm, place: &Place, pfn: Pfn, origin: Origin) {
    let vma = &place.vma;
    let mut entry = mkdirty(
        world,
        Present {
            pfn,
            bits: page_prot(world, vma) | Bits::YOUNG,
        },
    );
    let private_cache = origin == Origin::Cache && !vma.has(VmaFlags::SHARED);
    if vma.has(VmaFlags::WRITE) && !private_cache {
        entry = entry.with(Bits::WRITE, true);
    }
    if place.protection.contains(VmaFlags::UFFD_WP) {
        entry = entry.mkuffd_wp();
    }
    if place.protection.contains(VmaFlags::UFFD_RWP) {
        entry = entry.mkuffd_wp().with(Bits::PROT_NONE, true);
    }
    mm.tables.set_present(place.slot, entry);
}
