//! What cases run on: the live kernel, or the model.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use mm::profile::{HugePool, ThpMode};
use mm::{Arch, Profile};

use super::Features;
use crate::kernel::Kernel;
use crate::model::Model;
use crate::outcome::Outcome;
use crate::pool::{Loan, LoanError, WAIT};
use crate::program::{Geometry, Program};

/// How many huge pages cases may have at once.
const HUGE_PAGES: u64 = 64;

/// Something that cases run on.
pub trait Ground {
    /// Runs a program, and returns what each step showed.
    ///
    /// # Errors
    ///
    /// Fails with a message where the program can't be run.
    fn run(&mut self, program: &Program) -> Result<Vec<Outcome>, String>;

    /// What there is to run this program with.
    fn features(&mut self, program: &Program) -> Features;

    /// The sizes of pages.
    fn geometry(&self) -> Geometry;
}

/// The live kernel. While this lives, programs can have huge pages.
#[derive(Debug)]
pub struct LiveKernel {
    kernel: Kernel,
    features: Features,
    geometry: Geometry,
    pool: Result<Loan, LoanError>,
}

impl LiveKernel {
    /// Makes ready, and finds out what the kernel has.
    pub fn new(geometry: Geometry) -> Self {
        let mut live = Self {
            kernel: Kernel::new(geometry),
            features: Features::default(),
            geometry,
            pool: Loan::take(HUGE_PAGES, WAIT),
        };
        live.features = Features::of(&mut |program| live.kernel.run(program).ok(), geometry);
        live
    }

    /// Allows cases that lose pages of the machine for good.
    #[must_use]
    pub fn with_poisoning(mut self) -> Self {
        self.features = self.features.with_poisoning();
        self
    }

    /// Why there may be no huge pages.
    pub fn pool_error(&self) -> Option<&LoanError> {
        self.pool.as_ref().err()
    }
}

impl Ground for LiveKernel {
    fn run(&mut self, program: &Program) -> Result<Vec<Outcome>, String> {
        self.kernel.run(program).map_err(|error| error.to_string())
    }

    fn features(&mut self, _: &Program) -> Features {
        self.features.clone()
    }

    fn geometry(&self) -> Geometry {
        self.geometry
    }
}

/// The running kernel's version, as `6.18.44`: without what a builder put behind it.
pub fn kernel_release() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let plain = release
        .split(|letter: char| letter != '.' && !letter.is_ascii_digit())
        .next();
    plain.unwrap_or_default().to_owned()
}

/// The model: for each case, the machine that the case needs.
#[derive(Debug)]
pub struct Modelled {
    /// The version, unless a case needs another.
    kernel: Option<mm::Kernel>,
    arch: Arch,
    /// What machines have, by what was needed of them.
    known: BTreeMap<Vec<String>, Features>,
}

impl Default for Modelled {
    /// x86_64, and for each case the version that it is about.
    fn default() -> Self {
        Self {
            kernel: None,
            arch: Arch::X86_64,
            known: BTreeMap::new(),
        }
    }
}

impl Modelled {
    /// Machines of one version and architecture: cases about other versions are skipped.
    pub fn new(kernel: mm::Kernel, arch: Arch) -> Self {
        Self {
            kernel: Some(kernel),
            arch,
            known: BTreeMap::new(),
        }
    }

    fn profile_for(&self, needs: &[String]) -> Profile {
        profile_for(self.kernel, self.arch, needs)
    }
}

impl Ground for Modelled {
    fn run(&mut self, program: &Program) -> Result<Vec<Outcome>, String> {
        on_model(&self.profile_for(&program.needs), program)
            .ok_or_else(|| "the model panics".to_owned())
    }

    fn features(&mut self, program: &Program) -> Features {
        let needs = &program.needs;
        let (profile, geometry) = (self.profile_for(needs), self.geometry());
        let known = self.known.entry(needs.clone()).or_insert_with(|| {
            Features::of(&mut |probe| on_model(&profile, probe), geometry).with_poisoning()
        });
        known.clone()
    }

    fn geometry(&self) -> Geometry {
        geometry_of(self.arch)
    }
}

/// Runs a program on a machine of this profile; `None` if the model panics.
fn on_model(profile: &Profile, program: &Program) -> Option<Vec<Outcome>> {
    let run = || {
        let mut model = Model::new(profile.clone(), geometry_of(profile.arch), program);
        program
            .steps
            .iter()
            .map(|step| model.step(step, &[]))
            .collect()
    };
    catch_unwind(AssertUnwindSafe(run)).ok()
}

fn geometry_of(arch: Arch) -> Geometry {
    Geometry {
        page: arch.geometry().page_size(),
        huge: arch.geometry().pmd_size(),
    }
}

/// A machine of a version, or else of 6.18, and for what came later a later one. It has everything
/// but what a program wants absent.
fn profile_for(kernel: Option<mm::Kernel>, arch: Arch, needs: &[String]) -> Profile {
    let has = |what: &str| {
        !needs
            .iter()
            .any(|need| need.strip_prefix('!') == Some(what))
    };
    let later = needs
        .iter()
        .any(|need| need == "rwp" || need == "sticky-soft-dirty");
    let kernel = kernel.unwrap_or(if later {
        mm::Kernel::V7_3
    } else {
        mm::Kernel::V6_18
    });
    let mut profile = Profile::new(kernel, arch);
    profile.soft_dirty &= has("soft-dirty");
    profile.memory_failure = has("memory-failure");
    profile.swap_pages = if has("swap") { 1 << 16 } else { 0 };
    profile.thp = if has("thp") {
        ThpMode::Madvise
    } else {
        ThpMode::Never
    };
    let pages = if has("hugetlb") { 64 } else { 0 };
    profile.huge_pools = vec![HugePool {
        shift: arch.geometry().shift(1),
        pages,
        overcommit: 0,
    }];
    profile
}
