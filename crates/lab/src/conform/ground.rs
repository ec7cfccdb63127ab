//! What cases run on: the live kernel, or the model.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use mm::profile::{HugePool, ThpMode};
use mm::{Arch, Profile};

use super::{Features, PoolError, pool};
use crate::kernel::Kernel;
use crate::model::Model;
use crate::outcome::Outcome;
use crate::program::{Geometry, Program};

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
    pool: Result<pool::HugePool, PoolError>,
}

impl LiveKernel {
    /// Makes ready, and finds out what the kernel has.
    pub fn new(geometry: Geometry) -> Self {
        let mut live = Self {
            kernel: Kernel::new(geometry),
            features: Features::default(),
            geometry,
            pool: pool::HugePool::raise(),
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
    pub fn pool_error(&self) -> Option<&PoolError> {
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
#[derive(Debug, Default)]
pub struct Modelled {
    /// What machines have, by what was needed of them.
    known: BTreeMap<Vec<String>, Features>,
}

impl Ground for Modelled {
    fn run(&mut self, program: &Program) -> Result<Vec<Outcome>, String> {
        on_model(&profile_for(&program.needs), program).ok_or_else(|| "the model panics".to_owned())
    }

    fn features(&mut self, program: &Program) -> Features {
        let needs = &program.needs;
        let known = self.known.entry(needs.clone()).or_insert_with(|| {
            let profile = profile_for(needs);
            Features::of(&mut |probe| on_model(&profile, probe), Geometry::X86_64).with_poisoning()
        });
        known.clone()
    }

    fn geometry(&self) -> Geometry {
        Geometry::X86_64
    }
}

/// Runs a program on a machine of this profile; `None` if the model panics.
fn on_model(profile: &Profile, program: &Program) -> Option<Vec<Outcome>> {
    let run = || {
        let mut model = Model::new(profile.clone(), Geometry::X86_64, program);
        program
            .steps
            .iter()
            .map(|step| model.step(step, None))
            .collect()
    };
    catch_unwind(AssertUnwindSafe(run)).ok()
}

/// A machine of 6.18 that has everything but what a program wants absent; for what came later, a
/// later one.
fn profile_for(needs: &[String]) -> Profile {
    let has = |what: &str| {
        !needs
            .iter()
            .any(|need| need.strip_prefix('!') == Some(what))
    };
    let later = needs
        .iter()
        .any(|need| need == "rwp" || need == "sticky-soft-dirty");
    let kernel = if later {
        mm::Kernel::V7_3
    } else {
        mm::Kernel::V6_18
    };
    let mut profile = Profile::new(kernel, Arch::X86_64);
    profile.soft_dirty = has("soft-dirty");
    profile.memory_failure = has("memory-failure");
    profile.swap_pages = if has("swap") { 1 << 16 } else { 0 };
    profile.thp = if has("thp") {
        ThpMode::Madvise
    } else {
        ThpMode::Never
    };
    let pages = if has("hugetlb") { 64 } else { 0 };
    profile.huge_pools = vec![HugePool {
        shift: 21,
        pages,
        overcommit: 0,
    }];
    profile
}
