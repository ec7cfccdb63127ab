//! The machine that is compared with: its kernel's version, architecture and configuration.
//!
//! A profile has a name: the kernel's version, and behind it the architecture with its page size
//! where that is not x86_64: `6.18`, `6.12-arm64`, `6.18-arm64-16k`.

use std::fs;
use std::time::Duration;

use mm::profile::{HugePool, ThpMode};
use mm::{Arch, Kernel, Profile};

use crate::generate::Family;
use crate::pool::{self, Loan, LoanError};
use crate::program::Geometry;

/// How many huge pages a run borrows.
const HUGE_PAGES: u64 = 8;

/// Why there is nothing to compare with.
#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    /// The model has no profile of this name.
    #[error(
        "there is no profile '{0}': 6.1, 6.12, 6.18 and 7.3 are known, with -arm64, -arm64-16k or \
         -arm64-64k behind them for other machines"
    )]
    Unknown(String),
    /// The running kernel is not the one that was asked for.
    #[error(
        "this machine runs {running}, not {asked}: run the oracle there, or leave --profile out to \
         compare with the nearest profile"
    )]
    Another {
        /// The profile's name.
        asked: String,
        /// The running kernel's.
        running: String,
    },
}

/// A live kernel as the model should be, with what was borrowed from it.
#[derive(Debug)]
pub struct Subject {
    /// What the model is told.
    pub profile: Profile,
    /// The sizes of pages.
    pub geometry: Geometry,
    /// The huge pages that programs work with.
    loan: Option<Result<Loan, LoanError>>,
    /// How many huge pages were promised to others at the beginning.
    reserved: u64,
}

impl Subject {
    /// Looks at the running kernel. With `name`, it must be the one of this profile.
    ///
    /// # Errors
    ///
    /// Fails for an unknown name, or where another kernel runs.
    pub fn of_this_machine(name: Option<&str>) -> Result<Self, SubjectError> {
        Self::waiting(name, pool::WAIT)
    }

    /// As [`of_this_machine`](Self::of_this_machine), but waits so long for huge pages that another
    /// run has.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn waiting(name: Option<&str>, wait: Duration) -> Result<Self, SubjectError> {
        let (release, arch) = (release(), running_arch());
        let kernel = nearest(&release);
        if let Some(asked) = name {
            let wanted = named(asked).ok_or_else(|| SubjectError::Unknown(asked.to_owned()))?;
            if wanted != (kernel, arch) || !is_of(&release, kernel) {
                return Err(SubjectError::Another {
                    asked: asked.to_owned(),
                    running: format!("Linux {release}, {}", arch_name(arch)),
                });
            }
        }
        let loan = Loan::take(HUGE_PAGES, wait);
        let mut profile = Profile::new(kernel, arch);
        let geometry = geometry_of(arch);
        profile.soft_dirty = has_soft_dirty(geometry);
        profile.memory_failure =
            fs::exists("/proc/sys/vm/memory_failure_early_kill").unwrap_or(false);
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        profile.execute_only = processor.contains(" ospke");
        profile.swap_pages = swap_pages(geometry.page);
        profile.thp = thp_mode();
        let (pages, overcommit) = match &loan {
            Err(LoanError::Busy) => (0, 0),
            Ok(_) | Err(_) => (pool::available(), pool::overcommit()),
        };
        profile.huge_pools = vec![HugePool {
            shift: geometry.huge.trailing_zeros(),
            pages,
            overcommit,
        }];
        Ok(Self {
            profile,
            geometry,
            loan: Some(loan),
            reserved: pool::reserved(),
        })
    }

    /// A machine of this profile with the usual configuration, which runs nowhere: for programs
    /// that only the model carries out.
    ///
    /// # Errors
    ///
    /// Fails for an unknown name.
    pub fn nowhere(name: &str) -> Result<Self, SubjectError> {
        let (kernel, arch) = named(name).ok_or_else(|| SubjectError::Unknown(name.to_owned()))?;
        let geometry = geometry_of(arch);
        let mut profile = Profile::new(kernel, arch);
        profile.huge_pools = vec![HugePool {
            shift: geometry.huge.trailing_zeros(),
            pages: HUGE_PAGES,
            overcommit: 0,
        }];
        Ok(Self {
            profile,
            geometry,
            loan: None,
            reserved: 0,
        })
    }

    /// The name of its profile.
    pub fn name(&self) -> String {
        profile_name(&self.profile)
    }

    /// Why there may be no huge pages to work with.
    pub fn loan_error(&self) -> Option<&LoanError> {
        self.loan.as_ref()?.as_ref().err()
    }

    /// Tells whether this machine can run programs of a family: those about huge pages count on
    /// 512 pages in each.
    pub fn can_run(&self, family: Family) -> bool {
        let usual = self.geometry.huge / self.geometry.page == 512;
        match family {
            Family::Hugetlb => usual && self.has_huge_pages(),
            Family::Thp => usual,
            _ => true,
        }
    }

    /// Tells whether there are huge pages to work with.
    pub fn has_huge_pages(&self) -> bool {
        self.profile.huge_pools.iter().any(|pool| pool.pages > 0)
    }

    /// Tells whether all huge pages are there that programs count on, and no others: the pool is the
    /// machine's.
    pub fn has_whole_pool(&self) -> bool {
        let mut pools = self.profile.huge_pools.iter();
        let now = (pool::available(), pool::overcommit(), pool::reserved());
        pools.all(|pool| now == (pool.pages, pool.overcommit, self.reserved))
    }

    /// Tells whether another run has the huge pages: what a program sees of the pool then is that
    /// run's, and nothing to compare with.
    pub fn lacks_pool(&self) -> bool {
        matches!(self.loan_error(), Some(LoanError::Busy)) && !self.has_whole_pool()
    }

    /// Tells whether the kernel has something that a program needs, by name. With `!`, whether it
    /// has not.
    pub fn has(&self, need: &str) -> bool {
        Self::profile_has(&self.profile, need)
    }

    /// As [`has`](Self::has), for a machine of this profile.
    pub fn profile_has(profile: &Profile, need: &str) -> bool {
        match need {
            "soft-dirty" => profile.soft_dirty,
            "memory-failure" => profile.memory_failure,
            "swap" => profile.swap_pages > 0,
            "hugetlb" => profile.huge_pools.iter().any(|pool| pool.pages > 0),
            "thp" => profile.thp != ThpMode::Never,
            "x86" => profile.arch == Arch::X86_64,
            other => match other.strip_prefix('!') {
                Some(absent) => !Self::profile_has(profile, absent),
                None => other
                    .strip_prefix("kernel>=")
                    .and_then(version)
                    .is_some_and(|least| profile.kernel >= least),
            },
        }
    }

    /// The version of this name, as `6.18`.
    pub fn version(name: &str) -> Option<Kernel> {
        version(name)
    }
}

fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default()
}

fn version(name: &str) -> Option<Kernel> {
    Some(match name {
        "6.1" => Kernel::V6_1,
        "6.12" => Kernel::V6_12,
        "6.18" => Kernel::V6_18,
        "7.3" => Kernel::V7_3,
        _ => return None,
    })
}

/// The kernel and the architecture of a profile's name.
fn named(name: &str) -> Option<(Kernel, Arch)> {
    let (kernel, arch) = name.split_once('-').unwrap_or((name, "x86_64"));
    let arch = ARCHES.iter().find(|(_, known)| *known == arch)?.0;
    Some((version(kernel)?, arch))
}

const ARCHES: [(Arch, &str); 4] = [
    (Arch::X86_64, "x86_64"),
    (Arch::Arm64Page4K, "arm64"),
    (Arch::Arm64Page16K, "arm64-16k"),
    (Arch::Arm64Page64K, "arm64-64k"),
];

fn arch_name(arch: Arch) -> &'static str {
    let known = ARCHES.iter().find(|(known, _)| *known == arch);
    known.expect("every architecture has a name").1
}

fn profile_name(profile: &Profile) -> String {
    let kernel = version_name(profile.kernel);
    match profile.arch {
        Arch::X86_64 => kernel.to_owned(),
        arch => format!("{kernel}-{}", arch_name(arch)),
    }
}

fn version_name(kernel: Kernel) -> &'static str {
    match kernel {
        Kernel::V6_1 => "6.1",
        Kernel::V6_12 => "6.12",
        Kernel::V6_18 => "6.18",
        Kernel::V7_3 => "7.3",
    }
}

/// The architecture that this program runs on.
fn running_arch() -> Arch {
    match (cfg!(target_arch = "aarch64"), sys::puppet::page_size()) {
        (false, _) => Arch::X86_64,
        (true, 0x4000) => Arch::Arm64Page16K,
        (true, 0x1_0000) => Arch::Arm64Page64K,
        (true, _) => Arch::Arm64Page4K,
    }
}

fn geometry_of(arch: Arch) -> Geometry {
    let tables = arch.geometry();
    Geometry {
        page: tables.page_size(),
        huge: tables.pmd_size(),
    }
}

/// Tells whether a release is one of this very version.
fn is_of(release: &str, kernel: Kernel) -> bool {
    let rest = release.strip_prefix(version_name(kernel));
    rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
}

/// The newest version of the model that is not newer than a release.
fn nearest(release: &str) -> Kernel {
    let mut numbers = release
        .split(['.', '-'])
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let number = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match number {
        number if number >= (7, 3) => Kernel::V7_3,
        number if number >= (6, 18) => Kernel::V6_18,
        number if number >= (6, 12) => Kernel::V6_12,
        _ => Kernel::V6_1,
    }
}

/// A page that was just written is soft-dirty, where the kernel has such a thing.
fn has_soft_dirty(geometry: Geometry) -> bool {
    use crate::kernel::Kernel;
    let text = "onionskin program 1\nmmap @0 1p r|w private|fixed|anon - 0\nstore @0 0x01\n";
    let program = text.parse().expect("a program");
    let seen = Kernel::new(geometry).run(&program);
    let entry = seen
        .ok()
        .and_then(|outcomes| outcomes.last()?.view.as_ref()?.entries.first().copied());
    entry.is_some_and(|entry| entry & (1 << 55) != 0)
}

fn swap_pages(page: u64) -> u64 {
    let text = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let sizes = text
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(2));
    let kib: u64 = sizes.filter_map(|size| size.parse::<u64>().ok()).sum();
    kib * 1024 / page
}

fn thp_mode() -> ThpMode {
    let text = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    match text.unwrap_or_default() {
        text if text.contains("[always]") => ThpMode::Always,
        text if text.contains("[madvise]") => ThpMode::Madvise,
        _ => ThpMode::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_understood() {
        assert_eq!(nearest("6.18.44-fc"), Kernel::V6_18);
        assert_eq!(nearest("6.1.0-13-amd64"), Kernel::V6_1);
        assert_eq!(nearest("7.3.4"), Kernel::V7_3);
        assert_eq!(version("6.13"), None);
        assert!(is_of("6.1.0-13-amd64", Kernel::V6_1));
        assert!(!is_of("6.18.44", Kernel::V6_1));
        assert!(!is_of("6.19.1", Kernel::V6_18));
    }

    #[test]
    fn profiles_have_names() {
        assert_eq!(named("6.12"), Some((Kernel::V6_12, Arch::X86_64)));
        assert_eq!(
            named("6.18-arm64-16k"),
            Some((Kernel::V6_18, Arch::Arm64Page16K))
        );
        assert_eq!(named("6.18-riscv"), None);
        let profile = Profile::new(Kernel::V7_3, Arch::Arm64Page4K);
        assert_eq!(profile_name(&profile), "7.3-arm64");
    }
}
