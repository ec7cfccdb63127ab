//! What a kernel may do either way.

use space::Errno;

use crate::outcome::Answer;
use crate::program::{Advice, Op, Step};

/// A set of answers that are all right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Allowance {
    /// Its name.
    pub name: &'static str,
    /// Why the kernel may do it.
    pub reason: &'static str,
    /// Where in the kernel's source.
    pub source: &'static str,
}

/// Every allowance.
const ALL: &[Allowance] = &[ENDLESS_GUARD, NO_HUGE_PAGE, LANE_ORDER];

/// `MADV_GUARD_INSTALL` over write-protection markers of a file mapping.
const ENDLESS_GUARD: Allowance = Allowance {
    name: "endless-guard-install",
    reason: "zapping leaves a uffd-wp marker where a registered file mapping is cleared, and \
             installing guards wants empty entries: the call starts again for ever",
    source: "6.18 mm/madvise.c madvise_guard_install, mm/memory.c zap_install_uffd_wp_if_needed",
};

/// `MADV_COLLAPSE` on a machine whose memory lies in pieces.
const NO_HUGE_PAGE: Allowance = Allowance {
    name: "no-huge-page",
    reason: "MADV_COLLAPSE ends with ENOMEM where no memory lies together that is large enough; what it \
             had collapsed before is not told, and the program ends here",
    source: "6.18 mm/khugepaged.c alloc_charge_folio, madvise_collapse_errno",
};

/// Several threads that one step lets go on.
const LANE_ORDER: Allowance = Allowance {
    name: "lane-order",
    reason: "of threads that one step lets go on, the scheduler runs any first: that decides whose fault is \
             told first, and who of two comes first to the same memory. Counted where it was not the \
             one that fell asleep last",
    source: "6.18 fs/userfaultfd.c __wake_userfault, handle_userfault (__add_wait_queue puts it first), \
             kernel/sched/fair.c",
};

/// The allowances with how often each was needed.
#[derive(Clone, Debug)]
pub struct Allowances {
    hits: Vec<u64>,
}

impl Default for Allowances {
    fn default() -> Self {
        Self {
            hits: vec![0; ALL.len()],
        }
    }
}

impl Allowances {
    /// Every allowance, with its hits.
    pub fn hits(&self) -> impl Iterator<Item = (&'static Allowance, u64)> {
        ALL.iter().zip(self.hits.iter().copied())
    }

    /// Adds the hits of another count.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.hits.iter_mut().zip(&other.hits) {
            *mine += theirs;
        }
    }

    fn hit(&mut self, allowance: &Allowance) -> bool {
        self.hit_times(allowance, 1);
        true
    }

    fn hit_times(&mut self, allowance: &Allowance, times: u64) {
        let index = ALL.iter().position(|known| known == allowance);
        self.hits[index.expect("an allowance of the list")] += times;
    }

    /// So often another lane went on first than the model would have taken.
    pub(crate) fn lane_order(&mut self, times: u64) {
        self.hit_times(&LANE_ORDER, times);
    }

    /// Tells whether the two can't be compared any more behind this step, though neither is wrong.
    pub(crate) fn ends(&mut self, step: &Step, kernel: Answer, model: Answer) -> bool {
        let collapse = Advice::of("collapse");
        kernel == Answer::Errno(Errno::ENOMEM)
            && matches!(model, Answer::Value(_))
            && matches!(step.op, Op::Madvise { advice, .. } if advice == collapse)
            && self.hit(&NO_HUGE_PAGE)
    }

    /// Tells whether the kernel and the model may give these answers.
    pub(super) fn answers(&mut self, step: &Step, kernel: Answer, model: Answer) -> bool {
        if kernel == model {
            return true;
        }
        if kernel == Answer::Endless {
            let guard = Advice::of("guard-install");
            return matches!(step.op, Op::Madvise { advice, .. } if advice == guard)
                && self.hit(&ENDLESS_GUARD);
        }
        false
    }
}
