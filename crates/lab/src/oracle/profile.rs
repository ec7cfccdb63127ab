//! The machine that is compared with: its kernel's version and configuration, and some huge pages
//! lent for the time of a run.

use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};

use mm::profile::{HugePool, ThpMode};
use mm::{Arch, Kernel, Profile};

use crate::program::Geometry;

/// How many huge pages a run borrows.
const HUGE_PAGES: u64 = 8;
const POOL: &str = "/proc/sys/vm/nr_hugepages";

/// Why there is nothing to compare with.
#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    /// The model has no profile of this name.
    #[error("there is no profile '{0}': 6.1, 6.12, 6.18 and 7.3 are known")]
    Unknown(String),
    /// The page size is not what programs for a live kernel are made for.
    #[error("the oracle runs on kernels with pages of 4 KiB only, and this one has {0} bytes")]
    PageSize(u64),
}

/// A live kernel as the model should be, with what was borrowed from it.
#[derive(Debug)]
pub struct Subject {
    /// What the model is told.
    pub profile: Profile,
    /// The sizes of pages.
    pub geometry: Geometry,
    /// Gives the huge pages back when its input ends, so even if this process is killed.
    lender: Option<Child>,
}

impl Subject {
    /// Looks at the running kernel. With `name`, takes that version in place of the kernel's own.
    ///
    /// # Errors
    ///
    /// Fails for an unknown name, or a kernel with other page sizes.
    pub fn of_this_machine(name: Option<&str>) -> Result<Self, SubjectError> {
        let page = sys_page_size();
        if page != Geometry::X86_64.page {
            return Err(SubjectError::PageSize(page));
        }
        let kernel = match name {
            Some(name) => version(name).ok_or_else(|| SubjectError::Unknown(name.to_owned()))?,
            None => nearest(&release()),
        };
        let mut profile = Profile::new(kernel, Arch::X86_64);
        profile.soft_dirty = has_soft_dirty();
        profile.memory_failure =
            fs::exists("/proc/sys/vm/memory_failure_early_kill").unwrap_or(false);
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        profile.execute_only = processor.contains(" ospke");
        profile.swap_pages = swap_pages(page);
        profile.thp = thp_mode();
        let (lender, pages) = borrow();
        profile.huge_pools = vec![HugePool {
            shift: 21,
            pages,
            overcommit: 0,
        }];
        Ok(Self {
            profile,
            geometry: Geometry::X86_64,
            lender,
        })
    }

    /// Tells whether there are huge pages to work with.
    pub fn has_huge_pages(&self) -> bool {
        self.profile.huge_pools.iter().any(|pool| pool.pages > 0)
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

impl Drop for Subject {
    fn drop(&mut self) {
        if let Some(mut lender) = self.lender.take() {
            drop(lender.stdin.take());
            // It gives back what was borrowed, and ends.
            drop(lender.wait());
        }
    }
}

fn sys_page_size() -> u64 {
    sys::puppet::page_size()
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
fn has_soft_dirty() -> bool {
    use crate::kernel::Kernel;
    let text = "onionskin program 1\nmmap @0 1p r|w private|fixed|anon - 0\nstore @0 0x01\n";
    let program = text.parse().expect("a program");
    let seen = Kernel::new(Geometry::X86_64).run(&program);
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

/// Borrows huge pages, if this process may, and returns who gives them back and how many there
/// are.
fn borrow() -> (Option<Child>, u64) {
    let count = || fs::read_to_string(POOL).ok()?.trim().parse::<u64>().ok();
    let Some(before) = count() else {
        return (None, 0);
    };
    // The lender reads until its input ends, which it does when this process does.
    let script = format!("read line; echo {before} > {POOL}");
    let lender = Command::new("/bin/sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(lender) = lender else {
        return (None, before);
    };
    let wish = format!("{}\n", before + HUGE_PAGES);
    let written = fs::OpenOptions::new().write(true).open(POOL);
    if let Ok(mut file) = written {
        // Without the right to, there are no huge pages, and programs that need some are left out.
        drop(file.write_all(wish.as_bytes()));
    }
    let after = count().unwrap_or(before);
    (Some(lender), after)
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
    }
}
