//! What became of faults, and the page that tells of it.

use std::fmt::{self, Write as _};

/// Why faults were not found: a fault as the page names it, a tab, the reason.
const REASONS: &str = include_str!("reasons.txt");

/// How a fault ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// This line of the examination shows it.
    Found(String),
    /// The examination did not come to its end, in this way.
    Broke(String),
    /// Nothing shows it.
    Survived,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found(by) => write!(f, "found {by}"),
            Self::Broke(how) => write!(f, "broke {how}"),
            Self::Survived => f.write_str("survived"),
        }
    }
}

impl End {
    /// Reads what `Display` wrote.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "survived" => Self::Survived,
            other => match other.split_once(' ')? {
                ("found", by) => Self::Found(by.to_owned()),
                ("broke", how) => Self::Broke(how.to_owned()),
                _ => return None,
            },
        })
    }

    /// Tells whether regressions and random programs found it. The conformance cases come after
    /// them and are no part of the oracle.
    pub(super) fn is_found(&self) -> bool {
        match self {
            Self::Found(by) => !by.starts_with("case "),
            // Before the regressions nothing of the model is looked at: it could not begin here.
            Self::Broke(how) => ![" cases", " the beginning"]
                .iter()
                .any(|at| how.ends_with(at)),
            Self::Survived => false,
        }
    }
}

/// A fault with its end.
pub(super) struct Examined {
    pub(super) name: String,
    pub(super) end: End,
}

impl Examined {
    /// Why it was not found, if somebody has written it down.
    fn reason(&self) -> Option<&'static str> {
        let mut lines = REASONS.lines().filter_map(|line| line.split_once('\t'));
        lines
            .find(|(fault, _)| *fault == self.name)
            .map(|(_, why)| why)
    }
}

/// The share of faults that the oracle found, in percent.
pub(super) fn share(examined: &[Examined]) -> f64 {
    percent(examined, End::is_found)
}

fn percent(examined: &[Examined], is_one: impl Fn(&End) -> bool) -> f64 {
    let some = examined.iter().filter(|one| is_one(&one.end)).count();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    100.0 * f64::from(count(some)) / f64::from(count(examined.len()).max(1))
}

/// The page, of as many faults as were `asked` for or fewer.
pub(super) fn text(
    examined: &[Examined],
    asked: usize,
    seed: u64,
    seconds: u64,
    steps: u64,
) -> String {
    let faults = examined.len();
    let mut text = format!(
        "# Faults of the model that the oracle finds\n\n\
         This page is generated: `cargo xtask mutate --seed {seed} --seconds {seconds} --faults \
         {asked}`.\n\n\
         Faults are drawn at random, by that seed, from all that cargo-mutants generates over the \
         model's semantic modules; what does not compile is drawn anew. Each is held against the \
         regression files and {seconds} seconds of random programs on the running kernel, and then \
         against the conformance cases on the model. It counts as found if any of them shows it; a \
         random program must not diverge without the fault. In {seconds} seconds of random programs \
         {steps} steps are compared where nothing is found.\n\n\
         Asked for: 85 % found by random programs and regressions. **Found: {:.0} % of {faults}**; \
         with the conformance cases {:.0} %.\n",
        share(examined),
        percent(examined, |end| *end != End::Survived),
    );
    if faults < asked {
        push(
            &mut text,
            format_args!(
                "\nThe run was stopped; {asked} faults are asked for. The same command goes on, as long as no source changes.\n"
            ),
        );
    }
    let missed: Vec<&Examined> = examined.iter().filter(|one| !one.end.is_found()).collect();
    if !missed.is_empty() {
        text.push_str("\n## Not found by the oracle\n\n| fault | cases | why |\n|---|---|---|\n");
    }
    for one in missed {
        let by = match &one.end {
            End::Found(line) => line.trim_start_matches("case "),
            End::Broke(how) => how,
            End::Survived => "-",
        };
        let why = one.reason().unwrap_or("not looked into yet");
        let [name, by, why] = [&one.name, by, why].map(cell);
        push(&mut text, format_args!("| {name} | {by} | {why} |\n"));
    }
    text.push_str("\n## Found\n\n| fault | by |\n|---|---|\n");
    for one in examined.iter().filter(|one| one.end.is_found()) {
        let by = match &one.end {
            End::Found(line) => line,
            End::Broke(how) => how,
            End::Survived => continue,
        };
        let [name, by] = [&one.name, by].map(|text| cell(text));
        push(&mut text, format_args!("| {name} | {by} |\n"));
    }
    text
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn push(text: &mut String, arguments: fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a string takes any text");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examined(end: End) -> Examined {
        Examined {
            name: "crates/mm/src/a.rs:1:2: replace a | b".to_owned(),
            end,
        }
    }

    #[test]
    fn ends_survive_the_file() {
        let found = End::Found("oracle mapping: x".to_owned());
        let broke = End::Broke("ends in cases".to_owned());
        for end in [found, broke, End::Survived] {
            assert_eq!(End::parse(&end.to_string()), Some(end));
        }
        assert_eq!(End::parse("lost"), None);
    }

    #[test]
    fn what_only_cases_find_is_counted_apart() {
        let all = [
            End::Survived,
            End::Broke("never comes back from random programs".to_owned()),
            End::Found("oracle pin: x".to_owned()),
            End::Found("case cow/basic".to_owned()),
        ]
        .map(examined);
        assert!((share(&all) - 50.0).abs() < 0.1);
        let page = text(&all, 5, 1, 30, 1);
        assert!(page.contains("with the conformance cases 75 %"), "{page}");
        assert!(page.contains("replace a \\| b | cow/basic | not looked into yet |"));
    }

    #[test]
    fn reasons_are_of_faults() {
        for line in REASONS.lines() {
            assert!(line.contains(".rs:") && line.contains('\t'), "{line}");
        }
    }
}
