//! What became of faults, and the page that tells of it.

use std::fmt::{self, Write as _};

use super::fault::Fault;

/// How a fault ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// This line of the examination shows it.
    Found(String),
    /// The examination does not come to its end.
    Endless,
    /// Nothing shows it.
    Survived,
    /// It does not compile.
    Unbuildable,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found(by) => write!(f, "found {by}"),
            Self::Endless => f.write_str("endless"),
            Self::Survived => f.write_str("survived"),
            Self::Unbuildable => f.write_str("unbuildable"),
        }
    }
}

impl End {
    /// Reads what `Display` wrote.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "endless" => Self::Endless,
            "survived" => Self::Survived,
            "unbuildable" => Self::Unbuildable,
            other => Self::Found(other.strip_prefix("found ")?.to_owned()),
        })
    }
}

/// A fault with its end.
pub(super) struct Examined {
    pub(super) fault: Fault,
    pub(super) end: End,
}

/// The share of faults that were found, in percent.
pub(super) fn share(examined: &[Examined]) -> f64 {
    let found = examined.iter().filter(|one| one.end != End::Survived);
    let (found, all) = (count(found.count()), count(examined.len()).max(1));
    100.0 * f64::from(found) / f64::from(all)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The page.
pub(super) fn text(examined: &[Examined], seed: u64, seconds: u64) -> String {
    let mut text = format!(
        "# Faults of the model that the oracle finds\n\n\
         This page is generated: `cargo xtask mutate --seed {seed} --seconds {seconds} --faults {}`.\n\n\
         Faults are drawn at random from all that cargo-mutants generates over the model's semantic \
         modules. Each is held against the conformance cases on the model, the regression files and \
         {seconds} seconds of random programs on the running kernel. It counts as found if that shows \
         something that the model without the fault does not show.\n\n\
         {:.0} % of {} faults were found.\n\n| fault | found by |\n|---|---|\n",
        examined.len(),
        share(examined),
        examined.len()
    );
    for Examined { fault, end } in examined {
        let name = fault.name.replace('|', "\\|");
        let by = match end {
            End::Found(line) => line.replace('|', "\\|"),
            End::Endless => "it never comes back".to_owned(),
            End::Survived | End::Unbuildable => "**nothing**".to_owned(),
        };
        let line = writeln!(text, "| {name} | {by} |");
        line.expect("a string takes any text");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_survive_the_file() {
        let found = End::Found("oracle mapping: x".to_owned());
        for end in [found, End::Endless, End::Survived, End::Unbuildable] {
            assert_eq!(End::parse(&end.to_string()), Some(end));
        }
        assert_eq!(End::parse("lost"), None);
    }

    #[test]
    fn the_share_counts_what_does_not_survive() {
        let fault = |end| Examined {
            fault: Fault {
                name: "f".to_owned(),
                patch: String::new(),
            },
            end,
        };
        let all = [End::Survived, End::Endless, End::Found("x".to_owned())].map(fault);
        assert!((share(&all) - 66.7).abs() < 0.1);
        assert!(text(&all, 1, 30).contains("| f | **nothing** |"));
    }
}
