//! Which tests run in the guests of `cargo xtask test`: all but those that are listed here, each with
//! the reason why `cargo xtask kernels run` is enough for it. A test that is new joins by itself.

use std::time::Duration;

/// How much runs in a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Extent {
    /// Everything.
    Whole,
    /// What `cargo xtask test` has time for.
    Selected,
}

/// What runs in the guests.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) extent: Extent,
    /// Only suites whose names contain one of these, if there are any.
    pub(crate) suites: Vec<String>,
    /// Only tests whose names contain one of these, if there are any.
    pub(crate) filters: Vec<String>,
}

/// Tests that are not selected.
pub(super) struct LeftOut {
    /// The suite that has them.
    pub(super) suite: &'static str,
    /// A part of their names.
    pub(super) tests: &'static str,
    why: &'static str,
}

const LIVE: &str = "onionskin tests/live";
const COMMAND: &str = "onionskin-cli tests/cli";
const ORACLE: &str = "onionskin-lab tests/oracle";
const RANDOM: &str = "onionskin-lab tests/random";

/// It repeats something at moments that nobody chose.
const REPEATS: &str =
    "it finds something only if it is repeated more often than there is time for here";
/// It holds lengths of time against each other.
const TIMES: &str =
    "what it compares are lengths of time, of which emulation stretches some and not others";
/// It costs most of the time that there is.
const LONG: &str = "it takes minutes here, and what it shows is shown by shorter ones";
/// It is soon done where there is PAGEMAP_SCAN only.
const TERABYTE: &str =
    "Linux 6.1 tells of a terabyte page by page, which takes longer here than a step may";
/// It waits for a store.
const STORE: &str =
    "it waits for minutes here, for a store that does not answer: no matter of the kernel";
/// It is known to fail where everything is slow.
const WINDOWS: &str = "moments are left in which an ignored signal ends a wait, and a slow machine \
                       makes them long: open";
/// It looks at no kernel.
const OURS: &str = "it is about our own tools, not about the kernel";

/// Everything that is not selected.
const LEFT_OUT: &[LeftOut] = &[
    LeftOut::new(LIVE, "audits::", OURS),
    LeftOut::new(LIVE, "instant::mappings_that_come_and_go", LONG),
    LeftOut::new(LIVE, "instant::a_fresh_session", LONG),
    LeftOut::new(LIVE, "sparse::", TERABYTE),
    LeftOut::new(LIVE, "stuck_store::", STORE),
    // What it saw is told in docs/kernels.md.
    LeftOut::new(LIVE, "transparent::blocked_calls", TIMES),
    LeftOut::new(LIVE, "transparent::a_signal_that_is_ignored", WINDOWS),
    LeftOut::new(LIVE, "transparent::children_are_forked", REPEATS),
    LeftOut::new(LIVE, "transparent::children_are_vforked", REPEATS),
    LeftOut::new(LIVE, "transparent::mappings_come_and_go", REPEATS),
    LeftOut::new(LIVE, "transparent::programs_are_executed", REPEATS),
    LeftOut::new(LIVE, "transparent::threads_come_and_go", REPEATS),
    LeftOut::new(COMMAND, "the_demo_goes_through", LONG),
    LeftOut::new(ORACLE, "a_wrong_model_is_found", OURS),
    LeftOut::new(ORACLE, "all_that_is_listed_is_reached", OURS),
    LeftOut::new(ORACLE, "the_number_of_workers_changes_nothing", OURS),
    LeftOut::new(RANDOM, "a_fresh_seed_finds_nothing_new", REPEATS),
];

impl Extent {
    /// A suite that takes longer is ended by its guest, and counts as failed.
    pub(super) fn suite_limit(self) -> Duration {
        match self {
            Self::Whole => Duration::from_secs(60 * 60),
            Self::Selected => Duration::from_secs(15 * 60),
        }
    }

    /// A guest that says nothing for so long hangs: a test may take a while, but none takes that.
    pub(super) fn silence(self) -> Duration {
        match self {
            Self::Whole => Duration::from_secs(40 * 60),
            Self::Selected => Duration::from_secs(10 * 60),
        }
    }

    /// A guest that runs longer is ended, and failed.
    pub(super) fn guest_limit(self) -> Duration {
        2 * self.suite_limit()
    }

    /// What the tables call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Selected => "selected",
        }
    }
}

impl Wanted {
    /// What `cargo xtask test` runs.
    pub(super) fn selected() -> Self {
        Self {
            extent: Extent::Selected,
            suites: Vec::new(),
            filters: Vec::new(),
        }
    }

    /// What is left out in each guest.
    pub(super) fn left_out(&self) -> &'static [LeftOut] {
        match self.extent {
            Extent::Whole => &[],
            Extent::Selected => LEFT_OUT,
        }
    }

    /// Tells whether everything is wanted that there is of this extent.
    pub(super) fn is_all(&self) -> bool {
        self.suites.is_empty() && self.filters.is_empty()
    }

    /// Tells whether a suite is wanted.
    pub(super) fn has_suite(&self, name: &str) -> bool {
        self.suites.is_empty() || self.suites.iter().any(|part| name.contains(part.as_str()))
    }

    /// The arguments that ask for the same again.
    pub(super) fn arguments(&self) -> String {
        let mut text = String::new();
        if self.extent == Extent::Selected {
            text.push_str(" --selected");
        }
        for suite in &self.suites {
            text.push_str(&format!(" --suite '{suite}'"));
        }
        if !self.filters.is_empty() {
            text.push_str(&format!(" -- {}", self.filters.join(" ")));
        }
        text
    }
}

impl LeftOut {
    const fn new(suite: &'static str, tests: &'static str, why: &'static str) -> Self {
        Self { suite, tests, why }
    }

    /// Says what is left out, and why.
    pub(super) fn describe(&self) -> String {
        let Self { suite, tests, why } = self;
        format!("{suite} {tests}: {why}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Workspace;

    #[test]
    fn what_is_left_out_is_there() {
        let workspace = Workspace::load().unwrap();
        for left_out in LEFT_OUT {
            let (package, target) = left_out.suite.split_once(' ').unwrap();
            let mut members = workspace.members.iter();
            let member = members.find(|it| it.name == package).unwrap();
            let files = match left_out.tests.split_once("::") {
                Some((module, _)) => vec![format!("{target}/{module}.rs")],
                None => vec![format!("{target}.rs"), format!("{target}/main.rs")],
            };
            let mut texts = files.iter().map(|file| member.folder.join(file));
            let text = texts.find_map(|file| std::fs::read_to_string(file).ok());
            let text = text.unwrap_or_else(|| panic!("none of {files:?}"));
            let name = left_out.tests.rsplit("::").next().unwrap();
            assert!(text.contains(&format!("fn {name}")), "{}", left_out.tests);
        }
    }

    #[test]
    fn the_whole_leaves_nothing_out() {
        let wanted = |extent| Wanted {
            extent,
            suites: vec!["tests/live".to_owned()],
            filters: vec!["name".to_owned()],
        };
        assert!(wanted(Extent::Whole).left_out().is_empty());
        assert!(!wanted(Extent::Selected).left_out().is_empty());
        let arguments = wanted(Extent::Selected).arguments();
        assert_eq!(arguments, " --selected --suite 'tests/live' -- name");
    }

    #[test]
    fn a_suite_is_wanted_by_a_part_of_its_name() {
        let wanted = |suites: &[&str]| Wanted {
            extent: Extent::Whole,
            suites: suites.iter().map(|&part| part.to_owned()).collect(),
            filters: Vec::new(),
        };
        assert!(wanted(&[]).is_all() && wanted(&[]).has_suite(ORACLE));
        assert!(wanted(&["lab"]).has_suite(ORACLE) && wanted(&["x", "oracle"]).has_suite(ORACLE));
        assert!(!wanted(&["lab"]).has_suite(LIVE) && !wanted(&["lab"]).is_all());
    }
}
