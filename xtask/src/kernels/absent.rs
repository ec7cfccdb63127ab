//! Rows that don't come about, or fail: what is counted, what is said, and how to repeat it.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::catalog::{KERNELS, Kernel};
use super::choice::Wanted;
use crate::test::report::{Counts, Report};

/// What becomes of a row that can't be had here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Absence {
    /// It is said, and counted as skipped.
    Skipped,
    /// It failed: where `CI` is set, nobody reads what was skipped.
    Failed,
}

impl Absence {
    pub(super) fn here() -> Self {
        Self::where_ci_is(std::env::var_os("CI").as_deref())
    }

    /// Continuous integration says so by a variable, mostly as `true`.
    fn where_ci_is(ci: Option<&OsStr>) -> Self {
        match ci {
            Some(value) if !["", "0", "false"].iter().any(|no| value == *no) => Self::Failed,
            _ => Self::Skipped,
        }
    }
}

/// Counts a kernel that can't be had.
pub(super) fn count(
    kernel: &Kernel,
    why: &str,
    absence: Absence,
    wanted: &Wanted,
    report: &mut Report,
) {
    match absence {
        Absence::Skipped => skip(kernel, why, report),
        Absence::Failed => fail(kernel.name, why, wanted, report),
    }
}

/// Counts a row, or what all rows read, as failed, and says why.
pub(super) fn fail(name: &str, why: &str, wanted: &Wanted, report: &mut Report) {
    println!("\n== {name} failed: {why}");
    println!("{}", repeat(name, wanted));
    let counts = Counts {
        failed: 1,
        ..Counts::default()
    };
    report.add(format!("{name} (the row itself)"), counts, Duration::ZERO);
}

/// Says which command repeats a row.
fn repeat(name: &str, wanted: &Wanted) -> String {
    let kernel = match KERNELS.iter().any(|kernel| kernel.name == name) {
        true => format!(" --kernel {name}"),
        false => String::new(),
    };
    let arguments = wanted.arguments();
    format!("== to repeat it: cargo xtask kernels run{kernel}{arguments}")
}

/// Counts a kernel as skipped.
pub(super) fn skip(kernel: &Kernel, why: &str, report: &mut Report) {
    let counts = Counts {
        skipped: vec![format!("{} everything: {why}", kernel.name)],
        ..Counts::default()
    };
    report.add(kernel.name.to_owned(), counts, Duration::ZERO);
}

/// Shows a failed guest's console, and how to run it again.
pub(super) fn explain(kernel: &str, out: &Path, wanted: &Wanted) {
    let path = out.join("console.txt");
    let text = fs::read_to_string(&path).unwrap_or_default();
    println!("\n== the console of {kernel}");
    print!("{text}");
    println!("== that was {}", path.display());
    println!("{}", repeat(kernel, wanted));
}

#[cfg(test)]
mod tests {
    use super::super::choice::Extent;
    use super::*;

    #[test]
    fn what_cannot_be_had_fails_in_continuous_integration_only() {
        for (value, expected) in [
            (None, Absence::Skipped),
            (Some(""), Absence::Skipped),
            (Some("false"), Absence::Skipped),
            (Some("true"), Absence::Failed),
            (Some("1"), Absence::Failed),
        ] {
            assert_eq!(Absence::where_ci_is(value.map(OsStr::new)), expected);
        }
        let wanted = Wanted {
            extent: Extent::Selected,
            suites: Vec::new(),
            filters: Vec::new(),
        };
        for (absence, failed, skipped) in [(Absence::Skipped, 0, 1), (Absence::Failed, 1, 0)] {
            let mut report = Report::default();
            count(&KERNELS[4], "no compiler", absence, &wanted, &mut report);
            let total = report.total();
            assert_eq!((total.failed, total.skipped.len()), (failed, skipped));
        }
    }

    #[test]
    fn the_command_that_repeats_a_row_asks_for_the_same() {
        let wanted = Wanted {
            extent: Extent::Selected,
            suites: Vec::new(),
            filters: vec!["instant".to_owned()],
        };
        assert_eq!(
            repeat("6.1-arm64", &wanted),
            "== to repeat it: cargo xtask kernels run --kernel 6.1-arm64 --selected -- instant"
        );
    }
}
