//! What a kernel or a model has by its version and configuration, found by asking it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Terms, check};
use crate::outcome::Outcome;
use crate::program::{Features as Userfault, Geometry, Op, Program, RegisterMode, Step, expect};

/// A feature: its name, why a case is skipped without it, and the program that shows what it says
/// only where the feature is.
struct Feature {
    name: &'static str,
    lacking: &'static str,
    probe: &'static str,
}

const FEATURES: [Feature; 25] = [
    Feature {
        name: "collapse-read-only",
        lacking: "memory without a writable page is not collapsed (before Linux 6.18)",
        probe: "huge on\nwindow 1h\nmmap @0 1h r|w private|fixed|anon - 0\nmadvise @0 1h nohugepage\n\
                madvise @0 1h populate-write\nmprotect @0 1h r\nmadvise @0 1h hugepage\n\
                madvise @0 1h collapse\n",
    },
    Feature {
        name: "continue-wp",
        lacking: "UFFDIO_CONTINUE does not protect what it maps (before Linux 6.4)",
        probe: "userfaultfd u0 nonblock\napi u0 0xaa minor-shmem|wp-hugetlbfs-shmem\nmemfd f0 0\n\
                ftruncate f0 1p\nmmap @0 1p r|w shared|fixed f0 0\nmmap @1p 1p r|w shared|fixed f0 0\n\
                register u0 @0 1p minor|wp\nstore @1p 1\ncontinue u0 @0 1p wp\n",
    },
    Feature {
        name: "fork-keeps-wp",
        lacking: "a pinned huge page loses its protection when it is copied at fork (before Linux 6.4)",
        probe: "userfaultfd u0 nonblock\napi u0 0xaa wp-hugetlbfs-shmem|event-fork\n\
                mmap @0 1h r|w private|fixed|anon|hugetlb - 0\nstore @0 1\nring r0\npin r0 @0 1h\n\
                thread l2\nregister u0 @0 1h wp\nwriteprotect u0 @0 1h wp\nfork l1 => blocked\n\
                l2: read-event u0 u1 => 32 event=fork\nl1: load @0 => 1\n  see @0 PW\n",
    },
    Feature {
        name: "hugetlb",
        lacking: "no huge pages are to be had",
        probe: "mmap @0 1h r|w private|fixed|anon|hugetlb - 0\nstore @0 1\n",
    },
    Feature {
        name: "guard",
        lacking: "there are no guard regions (before Linux 6.13)",
        probe: "mmap @0 1p r|w private|fixed|anon - 0\nmadvise @0 1p guard-install\n",
    },
    Feature {
        name: "joins-before",
        lacking: "what two mappings could take in goes to the one behind it (before Linux 6.12)",
        probe: "mmap @0 1p r|w private|fixed|anon - 0\nmmap @2p 1p r|w private|fixed|anon - 0\n\
                store @0 1\nstore @2p 1\nmmap @1p 1p r|w private|fixed|anon - 0\n\
                \x20 maps @0..2p:rw-p @2p..1p:rw-p\n",
    },
    Feature {
        name: "maps",
        lacking: "a process is not told its mappings",
        probe: "mmap @0 1p r|w private|fixed|anon - 0\n  maps @0..1p:rw-p\n",
    },
    Feature {
        name: POISONING,
        lacking: "no page of the machine is poisoned unless asked for",
        probe: "",
    },
    Feature {
        name: "memory-failure",
        lacking: "the kernel is built without MEMORY_FAILURE",
        // Of nothing: the advice is known, and harms nobody.
        probe: "mmap @0 1p r|w private|fixed|anon - 0\nmadvise @0 0p hwpoison\n",
    },
    Feature {
        name: "merges-touched",
        lacking: "touched memory does not merge with untouched (before Linux 6.16)",
        probe: "mmap @1p 1p r|w private|fixed|anon - 0\nstore @1p 1\n\
                mremap @1p 1p 1p maymove|fixed @3p\nmmap @0 1p r|w private|fixed|anon - 0\n\
                mremap @3p 1p 1p maymove|fixed @1p\n  maps @0..2p:rw-p\n",
    },
    Feature {
        name: "move",
        lacking: "there is no UFFDIO_MOVE (before Linux 6.8)",
        probe: "userfaultfd u0 nonblock\napi u0 0xaa move\n",
    },
    Feature {
        name: "pagefault-flag-wp",
        lacking: "userfaultfd has no write protection here",
        probe: "userfaultfd u0 nonblock\napi u0 0xaa pagefault-flag-wp\n",
    },
    Feature {
        name: "poison",
        lacking: "there is no UFFDIO_POISON (before Linux 6.6)",
        probe: "userfaultfd u0 nonblock\napi u0 0xaa poison\n",
    },
    Feature {
        name: "populate-stops",
        lacking: "populating goes on behind a hole (before Linux 6.10)",
        probe: "mmap @1p 1p r|w private|fixed|anon - 0\nmadvise @0 2p populate-write => ENOMEM\n  see @0 - -\n",
    },
    Feature {
        name: "ring",
        lacking: "there is no io_uring",
        probe: "ring r0\n",
    },
    Feature {
        name: "rwp",
        lacking: "there is no read-write protection (before Linux 7.3)",
        probe: "userfaultfd u0 nonblock\napi u0 0xaa rwp\n",
    },
    Feature {
        name: "scan",
        lacking: "there is no PAGEMAP_SCAN (before Linux 6.7)",
        probe: "mmap @0 1p r|w private|fixed|anon - 0\nscan @0 @1p 0 1 0 0 present 0 present => 0\n",
    },
    Feature {
        name: "scans-unpopulated",
        lacking: "a scan does not call untouched memory written (before Linux 6.18)",
        probe: "userfaultfd u0 nonblock\napi u0 0xaa wp-async\n\
                mmap @0 1p r|w private|fixed|anon - 0\nregister u0 @0 1p wp\n\
                scan @0 @1p 0 1 0 0 written 0 written => 1\n",
    },
    Feature {
        name: "soft-dirty",
        lacking: "the kernel is built without MEM_SOFT_DIRTY",
        probe: "mmap @0 1p r|w private|fixed|anon - 0\nstore @0 1\n  see @0 PD\n",
    },
    Feature {
        name: "sticky-soft-dirty",
        lacking: "a merge of mappings forgets what is soft-dirty (before Linux 6.19)",
        probe: "mmap @0 1p r|w private|fixed|anon - 0\nclear-refs 4\n\
                mmap @1p 1p r private|fixed|anon - 0\nmprotect @1p 1p r|w\n  see @0 D D\n",
    },
    Feature {
        name: "swap",
        lacking: "there is no swap",
        probe: "mmap @0 1p r|w private|fixed|anon - 0\nstore @0 1\nmadvise @0 1p pageout\n  see @0 S\n",
    },
    Feature {
        name: "thp",
        lacking: "there are no transparent huge pages",
        probe: "huge on\nwindow 1h\nmmap @0 1h r|w private|fixed|anon - 0\nmadvise @0 1h hugepage\n\
                store @0 1\n  see @0 P*512\n",
    },
    Feature {
        name: "wp-async",
        lacking: "there is no asynchronous write protection (before Linux 6.7)",
        probe: "userfaultfd u0 nonblock\napi u0 0xaa wp-async\n",
    },
    Feature {
        name: "wp-hugetlbfs-shmem",
        lacking: "files in memory can't be write-protected here",
        probe: "userfaultfd u0 nonblock\napi u0 0xaa wp-hugetlbfs-shmem\n",
    },
    Feature {
        name: "wp-unpopulated",
        lacking: "memory that isn't there can't be write-protected (before Linux 6.4)",
        probe: "userfaultfd u0 nonblock\napi u0 0xaa wp-unpopulated\n",
    },
];

/// The one feature that nobody is asked for: leave to lose a page of memory for ever.
const POISONING: &str = "poisoning";

/// Runs a probe, if that can be done.
pub type Probing<'a> = dyn FnMut(&Program) -> Option<Vec<Outcome>> + 'a;

/// Which features a kernel or a model has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features(BTreeMap<&'static str, bool>);

impl Features {
    /// Asks whoever runs the probes.
    pub fn of(run: &mut Probing<'_>, geometry: Geometry) -> Self {
        let mut features = Self::default();
        for feature in FEATURES.iter().filter(|feature| feature.name != POISONING) {
            features
                .0
                .insert(feature.name, feature.is_there(run, geometry));
        }
        features
    }

    /// Allows cases to poison pages for good: on a machine that can spare them, or a model.
    #[must_use]
    pub fn with_poisoning(mut self) -> Self {
        self.0.insert(POISONING, true);
        self
    }

    /// Tells whether a condition holds: a feature's name, or with `!` its absence.
    pub fn holds(&self, condition: &str) -> bool {
        match condition.strip_prefix('!') {
            Some(absent) => !self.has(absent),
            None => self.has(condition),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.0.get(name).copied().unwrap_or(false)
    }
}

/// What the steps of a program ask for, beside what it says that it needs: calls and features that
/// older kernels have not, where they are meant to succeed.
pub(super) fn implied(program: &Program) -> BTreeSet<&'static str> {
    let mut needs = BTreeSet::new();
    for step in &program.steps {
        if step.expect.mappings.is_some() {
            needs.insert("maps");
        }
        match step.op {
            Op::Scan { .. } => {
                needs.insert("scan");
            }
            Op::Api { features, .. } if succeeds(step) => {
                let asked = Userfault::NAMES
                    .iter()
                    .filter(|(_, bit)| features.0 & bit != 0);
                needs.extend(asked.map(|(name, _)| *name).filter(|name| is_known(name)));
            }
            Op::Register { mode, .. }
                if succeeds(step) && mode.0 & RegisterMode::of(&["wp"]).0 != 0 =>
            {
                needs.insert("pagefault-flag-wp");
            }
            _ => {}
        }
    }
    needs
}

/// Tells whether a step has to succeed, whatever the kernel has.
fn succeeds(step: &Step) -> bool {
    let fails = |one: &expect::Alternative| matches!(one.answer, expect::Answer::Errno(_));
    !step.expect.outcomes.iter().any(fails)
}

/// Tells whether a condition names a feature that there is.
pub fn is_known(condition: &str) -> bool {
    let name = condition.strip_prefix('!').unwrap_or(condition);
    FEATURES.iter().any(|feature| feature.name == name)
}

/// Says why a case that needs this is skipped.
pub(super) fn explain(need: &str) -> String {
    match need.strip_prefix('!') {
        Some(name) => format!("it is for a kernel without {name}"),
        None => {
            let known = FEATURES.iter().find(|feature| feature.name == need);
            known.map_or("", |feature| feature.lacking).to_owned()
        }
    }
}

impl Feature {
    fn is_there(&self, run: &mut Probing<'_>, geometry: Geometry) -> bool {
        let text = format!("onionskin program 1\n{}", self.probe);
        let program: Program = text.parse().expect("the probes are programs");
        let Some(outcomes) = run(&program) else {
            return false;
        };
        let terms = Terms {
            features: &Features::default(),
            geometry,
            soft_dirty: self.name.ends_with("soft-dirty"),
        };
        let mut steps = program.steps.iter().zip(&outcomes);
        outcomes.len() == program.steps.len()
            && steps.all(|(step, outcome)| check(step, outcome, terms).is_ok())
    }
}
