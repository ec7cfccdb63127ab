//! The families of anonymous memory (`struct anon_vma`).
//!
//! A mapping gets a family when its first private page is about to come
//! (`AnonVmas::prepare`); pieces of it share the family, and after a fork the child's mapping
//! has one of its own below the parent's. What can be seen of it from outside: mappings of
//! different families are not joined, and neither are mappings that came by a fork.
//!
//! Linux reference: 6.18, `mm/rmap.c` (`__anon_vma_prepare`, `anon_vma_clone`, `anon_vma_fork`,
//! `unlink_anon_vmas`), `mm/vma.c` (`find_mergeable_anon_vma`).

use super::{Vma, VmaFlags, VmaMap};

/// The number of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AnonVmaId(u32);

impl AnonVmaId {
    fn index(self) -> usize {
        usize::try_from(self.0).expect("an index of a family fits usize")
    }
}

#[derive(Clone, Debug)]
struct AnonVma {
    /// The family it was forked from; the oldest is its own parent.
    parent: AnonVmaId,
    /// Families forked from it; the oldest counts itself.
    children: u32,
    /// Mappings that have it as their own.
    active: u32,
    /// Mappings that have it in their chain.
    linked: u32,
}

/// All families of a machine.
#[derive(Clone, Debug, Default)]
pub struct AnonVmas {
    list: Vec<AnonVma>,
    free: Vec<AnonVmaId>,
}

impl AnonVmas {
    fn of(&mut self, id: AnonVmaId) -> &mut AnonVma {
        &mut self.list[id.index()]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len() - self.free.len()
    }

    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The oldest ancestor of a family (`anon_vma->root`).
    pub(crate) fn root(&self, id: AnonVmaId) -> AnonVmaId {
        let parent = self.list[id.index()].parent;
        if parent == id { id } else { self.root(parent) }
    }

    fn alloc(&mut self, parent: Option<AnonVmaId>) -> AnonVmaId {
        let id = self.free.pop().unwrap_or_else(|| {
            AnonVmaId(u32::try_from(self.list.len()).expect("families are counted in 32 bits"))
        });
        let new = AnonVma {
            parent: parent.unwrap_or(id),
            children: u32::from(parent.is_none()),
            active: 1,
            linked: 1,
        };
        match self.list.get_mut(id.index()) {
            Some(place) => *place = new,
            None => self.list.push(new),
        }
        if let Some(parent) = parent {
            self.of(parent).children += 1;
        }
        id
    }

    /// `__anon_vma_prepare`: gives a mapping its family, that of a neighbour where it may.
    pub(crate) fn prepare(&mut self, vmas: &mut VmaMap, index: usize, page_shift: u32) {
        if vmas.at(index).anon_vma.is_some() {
            return;
        }
        let id = match mergeable(vmas, index, page_shift) {
            Some(id) => {
                let shared = self.of(id);
                shared.active += 1;
                shared.linked += 1;
                id
            }
            None => self.alloc(None),
        };
        let vma = vmas.at_mut(index);
        vma.anon_vma = Some(id);
        vma.chain.push(id);
    }

    /// `anon_vma_clone` for a piece of a mapping, or for a mapping that takes over another's
    /// pages: `chain` and `own` are now those of one mapping more.
    pub(crate) fn duplicate(&mut self, own: Option<AnonVmaId>, chain: &[AnonVmaId]) {
        for &id in chain {
            self.of(id).linked += 1;
        }
        if let Some(own) = own {
            self.of(own).active += 1;
        }
    }

    /// `unlink_anon_vmas`: a mapping is gone.
    pub(crate) fn unlink(&mut self, vma: &Vma) {
        if let Some(own) = vma.anon_vma {
            self.of(own).active -= 1;
        }
        // Youngest first: a family is forgotten before its parent.
        for &id in vma.chain.iter().rev() {
            let family = self.of(id);
            family.linked -= 1;
            if family.linked == 0 {
                let parent = family.parent;
                self.free.push(id);
                self.of(parent).children -= 1;
            }
        }
    }

    /// `anon_vma_fork`: gives the child's copy of a mapping its family and chain.
    pub(crate) fn fork(&mut self, child: &mut Vma) {
        let Some(parent) = child.anon_vma.take() else {
            debug_assert!(child.chain.is_empty(), "a chain belongs to a family");
            return;
        };
        // anon_vma_clone walks the chain from the oldest on and may take over a family whose
        // own mappings are all gone.
        for &id in &child.chain {
            let family = &mut self.list[id.index()];
            family.linked += 1;
            if child.anon_vma.is_none() && family.children < 2 && family.active == 0 {
                child.anon_vma = Some(id);
            }
        }
        if let Some(taken) = child.anon_vma {
            self.of(taken).active += 1;
            return;
        }
        let own = self.alloc(Some(parent));
        child.anon_vma = Some(own);
        child.chain.push(own);
    }
}

/// `find_mergeable_anon_vma`.
fn mergeable(vmas: &VmaMap, index: usize, page_shift: u32) -> Option<AnonVmaId> {
    let vma = vmas.at(index);
    let reusable = |old: &Vma, a: &Vma, b: &Vma| {
        (compatible(a, b, page_shift) && old.chain.len() == 1)
            .then_some(old.anon_vma)
            .flatten()
    };
    vmas.get(index + 1)
        .and_then(|next| reusable(next, vma, next))
        .or_else(|| {
            let prev = vmas.at(index.checked_sub(1)?);
            reusable(prev, prev, vma)
        })
}

/// `anon_vma_compatible`: two neighbours could become one mapping after an `mprotect`.
fn compatible(a: &Vma, b: &Vma, page_shift: u32) -> bool {
    a.end == b.start
        && a.file == b.file
        && (a.flags ^ b.flags) - (VmaFlags::ACCESS | VmaFlags::IGNORE_MERGE) == VmaFlags::empty()
        && b.pgoff == a.index_of(b.start, page_shift)
}
