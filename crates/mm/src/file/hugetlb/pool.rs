//! The pools: how many huge pages of each size there are, and how many are promised.
//!
//! Linux reference: 6.18, `mm/hugetlb.c` (`hugetlb_acct_memory`, `gather_surplus_pages`,
//! `return_unused_surplus_pages`, `dequeue_hugetlb_folio_vma`, `free_huge_folio`).

use space::Errno;

use crate::profile::Profile;

/// The pools of all sizes.
#[derive(Clone, Debug, Default)]
pub struct Pools {
    /// One pool for each size, the default one first.
    pub list: Vec<Pool>,
}

/// The pages of one size (`struct hstate`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Base-two logarithm of the size.
    pub shift: u32,
    /// Base-two logarithm of the number of base pages in one.
    pub order: u8,
    /// All pages of the pool (`nr_huge_pages`).
    pub total: u64,
    /// Pages that nobody uses (`free_huge_pages`).
    pub free: u64,
    /// Free pages that are promised (`resv_huge_pages`). Below zero for a while where a process
    /// ends whose child still has its pages: the kernel's counter wraps around there.
    pub reserved: i64,
    /// How many may be added while they are needed (`nr_overcommit_huge_pages`).
    pub overcommit: u64,
    /// How many were added (`surplus_huge_pages`).
    pub surplus: u64,
}

impl Pools {
    pub(crate) fn new(profile: &Profile) -> Self {
        let page_shift = profile.geometry().page_shift;
        let pool = |pool: &crate::profile::HugePool| Pool {
            shift: pool.shift,
            order: u8::try_from(pool.shift - page_shift).expect("an order is small"),
            total: pool.pages,
            free: pool.pages,
            reserved: 0,
            overcommit: pool.overcommit,
            surplus: 0,
        };
        Self {
            list: profile.huge_pools.iter().map(pool).collect(),
        }
    }

    /// The size that a call asks for by its logarithm, 0 for the default.
    pub(crate) fn shift_of(&self, log: u64) -> Option<u32> {
        let mut shifts = self.list.iter().map(|pool| pool.shift);
        match log {
            0 => shifts.next(),
            log => shifts.find(|&shift| u64::from(shift) == log),
        }
    }

    pub(crate) fn of(&mut self, order: u8) -> &mut Pool {
        self.list
            .iter_mut()
            .find(|pool| pool.order == order)
            .expect("a huge page has a pool")
    }

    /// `free_huge_folio`: a page comes back, perhaps with the promise that it was taken for.
    pub(crate) fn free(&mut self, order: u8, restores: bool) {
        let pool = self.of(order);
        pool.reserved += i64::from(restores);
        if pool.surplus > 0 {
            pool.surplus -= 1;
            pool.total -= 1;
        } else {
            pool.free += 1;
        }
    }
}

impl Pools {
    /// `dissolve_free_hugetlb_folio`: a free page leaves its pool for good, if it is not promised to
    /// anybody; tells whether it did.
    pub(crate) fn dissolve(&mut self, order: u8) -> bool {
        let pool = self.of(order);
        if pool.free == 0 || pool.free_signed() == pool.reserved {
            return false;
        }
        pool.free -= 1;
        pool.total -= 1;
        true
    }
}

impl Pool {
    fn free_signed(&self) -> i64 {
        i64::try_from(self.free).expect("pages are counted in 63 bits")
    }

    /// `dequeue_hugetlb_folio_vma`, `alloc_buddy_hugetlb_folio_with_mpol`: takes a page, a promised
    /// one or not.
    pub(crate) fn take(&mut self, promised: bool) -> bool {
        let available = promised || self.free_signed() != self.reserved;
        if self.free > 0 && available {
            self.free -= 1;
        } else if self.surplus < self.overcommit {
            self.surplus += 1;
            self.total += 1;
        } else {
            return false;
        }
        if promised {
            self.reserved -= 1;
        }
        true
    }

    /// `hugetlb_acct_memory` with a number above zero: promises pages.
    ///
    /// # Errors
    ///
    /// `ENOMEM` where there are not enough.
    pub(crate) fn promise(&mut self, pages: u64) -> Result<(), Errno> {
        let wanted = i64::try_from(pages).map_err(|_| Errno::ENOMEM)?;
        let needed = self.reserved.saturating_add(wanted) - self.free_signed();
        if let Ok(needed @ 1..) = u64::try_from(needed) {
            if needed > self.overcommit.saturating_sub(self.surplus) {
                return Err(Errno::ENOMEM);
            }
            self.surplus += needed;
            self.total += needed;
            self.free += needed;
        }
        self.reserved += wanted;
        Ok(())
    }

    /// `hugetlb_acct_memory` with a number below zero: takes promises back, and pages that were
    /// added for them.
    pub(crate) fn unpromise(&mut self, pages: u64) {
        self.reserved -= i64::try_from(pages).expect("pages are counted in 63 bits");
        let gone = pages.min(self.surplus).min(self.free);
        self.surplus -= gone;
        self.total -= gone;
        self.free -= gone;
    }
}
