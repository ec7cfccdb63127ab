//! Joining mappings that lie side by side and are alike.
//!
//! [`VmaMap::merge_new`] and [`VmaMap::modify`] follow the kernel's two ways of merging: a new
//! mapping that an existing one can take in, and an existing mapping that changes and may then
//! be taken in by its neighbours.
//!
//! Linux reference: 6.18, `mm/vma.c` (`vma_merge_new_range`, `vma_merge_existing_range`,
//! `vma_modify`, `is_mergeable_vma`, `is_mergeable_anon_vma`).

use space::Errno;

use super::{AnonVmaId, Vma, VmaFlags, VmaMap, split};
use crate::file::FileId;
use crate::machine::World;
use crate::profile::MergeSoftDirty;
use crate::uffd::UffdId;

/// What a mapping is to be: `struct vma_merge_struct` without the iterator.
#[derive(Clone, Debug)]
pub(crate) struct Proposal {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) pgoff: u64,
    pub(crate) flags: VmaFlags,
    pub(crate) file: Option<FileId>,
    pub(crate) anon_vma: Option<AnonVmaId>,
    pub(crate) uffd: Option<UffdId>,
    /// `copied_from`: the mapping whose pages will move here has parents whose pages it may map.
    pub(crate) copied_from_fork: bool,
    /// `copied_from`: the chain to take over.
    pub(crate) copied_chain: Vec<AnonVmaId>,
    /// `just_expand`: only the mapping before may grow.
    pub(crate) just_expand: bool,
    /// The mapping behind is asked first, and the one before only joins it, too (`mmap_region` of 6.1).
    pub(crate) next_first: bool,
}

impl Proposal {
    /// A part of an existing mapping, as it is.
    pub(crate) fn of(vma: &Vma, start: u64, end: u64, page_shift: u32) -> Self {
        Self {
            start,
            end,
            pgoff: vma.index_of(start, page_shift),
            flags: vma.flags,
            file: vma.file,
            anon_vma: vma.anon_vma,
            uffd: vma.uffd,
            copied_from_fork: false,
            copied_chain: Vec::new(),
            just_expand: false,
            next_first: false,
        }
    }

    /// `is_mergeable_vma`: but for families and offsets.
    fn is_like(&self, vma: &Vma) -> bool {
        (vma.flags ^ self.flags) - VmaFlags::IGNORE_MERGE == VmaFlags::empty()
            && vma.file == self.file
            && vma.uffd == self.uffd
    }

    /// `is_mergeable_anon_vma`; `middle` is the mapping that changes, if there is one yet.
    fn is_kin(&self, world: &World, target: &Vma, middle: Option<&Vma>) -> bool {
        match (target.anon_vma, self.anon_vma) {
            (None, Some(_)) => {
                world.profile.merges_into_untouched
                    && !middle.is_some_and(Vma::had_uncowed_parents)
                    && !self.copied_from_fork
            }
            (Some(_), None) => !target.had_uncowed_parents(),
            (own, proposed) => own == proposed,
        }
    }

    /// `can_vma_merge_left`.
    fn joins_left(&self, world: &World, prev: Option<&Vma>, middle: Option<&Vma>) -> bool {
        let page_shift = world.page_shift();
        prev.is_some_and(|prev| {
            prev.end == self.start
                && self.is_like(prev)
                && self.is_kin(world, prev, middle)
                && prev.index_of(prev.end, page_shift) == self.pgoff
        })
    }

    /// `can_vma_merge_right`; `prev` is the left neighbour, if that is joined.
    fn joins_right(
        &self,
        world: &World,
        next: Option<&Vma>,
        middle: Option<&Vma>,
        prev: Option<&Vma>,
    ) -> bool {
        let page_shift = world.page_shift();
        let pages = (self.end - self.start) >> page_shift;
        next.is_some_and(|next| {
            let compatible = prev.is_none_or(|prev| are_kin(prev, next));
            self.end == next.start
                && self.is_like(next)
                && self.is_kin(world, next, middle)
                && self.pgoff + pages == next.pgoff
                && compatible
        })
    }
}

/// Tells whether the pages of two mappings may belong to one.
fn are_kin(prev: &Vma, next: &Vma) -> bool {
    match (prev.anon_vma, next.anon_vma) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    }
}

/// `can_merge_remove_vma`: a mapping with a `close` operation (hugetlb) is never taken away.
fn removable(vma: &Vma) -> bool {
    !vma.is_hugetlb()
}

impl VmaMap {
    /// `vma_merge_new_range`: lets the neighbours of a range without mappings take in what is to
    /// be there; returns the index of the mapping that did.
    pub(crate) fn merge_new(&mut self, world: &mut World, new: &Proposal) -> Option<usize> {
        if new.flags.intersects(VmaFlags::SPECIAL) {
            return None;
        }
        let at = self.find_index(new.start);
        let prev = at.checked_sub(1);
        let left = new.joins_left(world, prev.map(|index| self.at(index)), None);
        let prev = prev.filter(|&prev| left && !self.gives_way(world, new, prev, at));
        let right = !new.just_expand
            && new.joins_right(world, self.get(at), None, prev.map(|index| self.at(index)));
        let (target, end) = match (prev, right) {
            (None, false) => return None,
            (None, true) => {
                let next = self.at_mut(at);
                next.start = new.start;
                next.pgoff = new.pgoff;
                (at, None)
            }
            (Some(prev), false) => (prev, Some(new.end)),
            (Some(prev), true) if removable(self.at(at)) => {
                let next = self.remove(at);
                self.adopt(world, prev, next.anon_vma, &next.chain);
                self.join_flags(world, prev, next.flags);
                let end = next.end;
                world.forget(next);
                (prev, Some(end))
            }
            (Some(prev), true) => (prev, Some(new.end)),
        };
        if let Some(end) = end {
            self.at_mut(target).end = end;
        }
        self.adopt(world, target, new.anon_vma, &new.copied_chain);
        self.join_flags(world, target, new.flags);
        Some(target)
    }

    /// Tells whether the mapping before a new one is left alone for the sake of the one behind it.
    fn gives_way(&self, world: &World, new: &Proposal, prev: usize, next: usize) -> bool {
        let next = self.get(next);
        new.next_first
            && new.joins_right(world, next, None, None)
            && next.is_some_and(|next| !are_kin(self.at(prev), next))
    }

    /// `vma_modify`: has a part of the mapping of an index be what `new` says, joined with its
    /// neighbours where they are alike, else cut off. Returns the index of the mapping that now
    /// covers the start of the part.
    ///
    /// # Errors
    ///
    /// Those of [`split`](split::split).
    pub(crate) fn modify(
        &mut self,
        world: &mut World,
        index: usize,
        new: &Proposal,
    ) -> Result<usize, Errno> {
        if let Some(index) = self.merge_existing(world, index, new) {
            self.cuts.extend([new.start, new.end]);
            if world.profile.merge_soft_dirty == MergeSoftDirty::KeepTarget {
                // Whoever changes flags writes all of them to what came of it (seen on 6.12).
                let dirty = new.flags & VmaFlags::SOFTDIRTY;
                let vma = self.at_mut(index);
                vma.flags = (vma.flags - VmaFlags::SOFTDIRTY) | dirty;
            }
            return Ok(index);
        }
        let mut index = index;
        if self.at(index).start < new.start {
            split::split(world, self, index, new.start)?;
            index += 1;
        }
        if new.end < self.at(index).end {
            split::split(world, self, index, new.end)?;
        }
        let vma = self.at_mut(index);
        vma.flags = new.flags;
        vma.uffd = new.uffd;
        Ok(index)
    }

    /// `vma_merge_existing_range`.
    fn merge_existing(&mut self, world: &mut World, index: usize, new: &Proposal) -> Option<usize> {
        let page_shift = world.page_shift();
        let middle = self.at(index);
        let from_start = new.start == middle.start;
        let to_end = new.end == middle.end;
        if new.flags.intersects(VmaFlags::SPECIAL) || !(from_start || to_end) {
            return None;
        }
        let prev = index.checked_sub(1).filter(|_| from_start);
        let prev = prev.filter(|&prev| new.joins_left(world, Some(self.at(prev)), Some(middle)));
        let next = self.get(index + 1).filter(|_| to_end);
        let mut right =
            new.joins_right(world, next, Some(middle), prev.map(|index| self.at(index)));
        if prev.is_none() && !right {
            return None;
        }
        let whole = from_start && to_end;
        if whole && !removable(middle) {
            return None;
        }
        if prev.is_some() && right && !removable(self.at(index + 1)) {
            right = false;
        }
        let (own, chain, flags) = (middle.anon_vma, middle.chain.clone(), middle.flags);
        let Some(prev) = prev else {
            // The next mapping takes in the end of the middle, or all of it.
            let next = self.at_mut(index + 1);
            next.start = new.start;
            next.pgoff = new.pgoff;
            self.adopt(world, index + 1, own, &chain);
            self.join_flags(
                world,
                index + 1,
                new.flags | (flags & VmaFlags::IGNORE_MERGE),
            );
            if whole {
                let gone = self.remove(index);
                world.forget(gone);
                return Some(index);
            }
            self.at_mut(index).end = new.start;
            return Some(index + 1);
        };
        if right {
            let next = self.remove(index + 1);
            // Of the two, the one that has a family passes it on.
            let (own, chain) = match next.anon_vma {
                Some(_) => (next.anon_vma, next.chain.clone()),
                None => (own, chain),
            };
            self.adopt(world, prev, own, &chain);
            self.join_flags(world, prev, next.flags | (flags & VmaFlags::IGNORE_MERGE));
            self.at_mut(prev).end = next.end;
            world.forget(next);
        } else {
            self.adopt(world, prev, own, &chain);
            self.join_flags(world, prev, new.flags | (flags & VmaFlags::IGNORE_MERGE));
            self.at_mut(prev).end = new.end;
        }
        if whole {
            let gone = self.remove(index);
            world.forget(gone);
        } else {
            let middle = self.at_mut(index);
            middle.pgoff = middle.index_of(new.end, page_shift);
            middle.start = new.end;
        }
        Some(prev)
    }

    /// `dup_anon_vma`: a mapping without a family takes over that of pages that it takes in.
    fn adopt(
        &mut self,
        world: &mut World,
        index: usize,
        own: Option<AnonVmaId>,
        chain: &[AnonVmaId],
    ) {
        let target = self.at_mut(index);
        if target.anon_vma.is_none() && own.is_some() {
            target.anon_vma = own;
            target.chain = chain.to_vec();
            world.anon_vmas.duplicate(own, chain);
        }
    }

    /// Flags that the joined mapping has if one of its parts had them (`VMA_STICKY_FLAGS`); of
    /// soft-dirty, kernels differ.
    fn join_flags(&mut self, world: &World, index: usize, joined: VmaFlags) {
        self.at_mut(index).flags |= joined & VmaFlags::MAYBE_GUARD;
        match world.profile.merge_soft_dirty {
            MergeSoftDirty::KeepTarget => {}
            MergeSoftDirty::Sticky => {
                self.at_mut(index).flags |= joined & VmaFlags::SOFTDIRTY;
            }
        }
    }
}
