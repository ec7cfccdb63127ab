//! The table of all cases, for `docs/mm/conformance.md`.

use std::fmt::Write;

use super::{Case, Finding, Verdict};

/// One column: whom the cases ran on, and what was found.
pub type Column<'a> = (&'a str, &'a [Finding]);

/// Writes a page with a table for each family. Each column has a finding for each case, in order.
pub fn markdown(cases: &[Case], columns: &[Column<'_>]) -> String {
    let mut page = String::from(HEAD);
    summary(&mut page, cases.len(), columns);
    let mut family = "";
    for (index, case) in cases.iter().enumerate() {
        if case.family != family {
            family = case.family;
            let names: String = columns
                .iter()
                .map(|(name, _)| format!(" {name} |"))
                .collect();
            let rules = "---|".repeat(columns.len());
            writeln!(
                page,
                "\n## {family}\n\n| case | shows |{names}\n|---|---|{rules}"
            )
            .expect("a string takes everything");
        }
        let results = columns.iter().map(|(_, findings)| cell(&findings[index]));
        let results: String = results.map(|result| format!(" {result} |")).collect();
        let (name, about) = (&case.name, case.about.replace('|', "\\|"));
        writeln!(page, "| {name} | {about} |{results}").expect("a string takes everything");
    }
    page
}

const HEAD: &str = "\
# Conformance

Named cases of what Linux's memory management does, family by family as in Linux's own selftests
(`tools/testing/selftests/mm`), run on a live kernel and on the model. Each lies in
`crates/lab/cases/FAMILY/NAME.txt` as a program that people can read, with what every step must show;
what follows a dot in a name is the kind of memory or another variant.
[Programs of memory operations](programs.md) describes the text form.

Not among them, for what a program can't do: uprobes, KSM and `mseal` (merge), `process_madvise` and
smaps (guard-regions), files on a disk, read-only pins of `gup_test` (cow has pins by io_uring in their
place), and folios between a page and a huge page (uffd-wp-mremap has as many pages in their place).

This page is generated: `onionskin conformance --markdown > docs/mm/conformance.md`.
";

fn summary(page: &mut String, cases: usize, columns: &[Column<'_>]) {
    writeln!(page, "\n{cases} cases:").expect("a string takes everything");
    for (name, findings) in columns {
        let count = |verdict| findings.iter().filter(|one| one.result == verdict).count();
        let (pass, fail) = (count(Verdict::Pass), count(Verdict::Fail));
        let skip = count(Verdict::Skip);
        writeln!(
            page,
            "\n* on {name}: {pass} pass, {fail} fail, {skip} skipped"
        )
        .expect("a string takes everything");
    }
}

fn cell(finding: &Finding) -> String {
    match finding.result {
        Verdict::Pass => "pass".to_owned(),
        Verdict::Fail => format!("**fail**: {}", finding.why.replace('|', "\\|")),
        Verdict::Skip => format!("skip: {}", finding.why),
    }
}
