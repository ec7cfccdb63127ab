//! The tables of `docs/kernels.md`: what `onionskin doctor` said on each kernel, what the rows came
//! to, and which faults they noticed. What they are made of lies in `docs/kernels`, so that a run of
//! one kernel changes only what belongs to it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};

use super::catalog::KERNELS;
use super::choice::Extent;
use super::fault::FAULTS;
use super::results;
use crate::workspace::Workspace;

/// What this machine's own kernel is called.
const OWN: &str = "own";

/// A kernel and what the doctor said on it.
struct Column {
    name: &'static str,
    doctor: Value,
}

/// Takes over the newest answers and results, and writes the tables.
pub(super) fn write(workspace: &Workspace) -> Result<()> {
    let examples = workspace.root.join("docs/kernels");
    fs::create_dir_all(&examples).with_context(|| format!("creating {}", examples.display()))?;
    let folder = super::folder(workspace)?;
    let mut columns = Vec::new();
    for name in std::iter::once(OWN).chain(KERNELS.iter().map(|kernel| kernel.name)) {
        let example = examples.join(format!("{name}.json"));
        if let Some(mut doctor) = results::read(&folder.join("out").join(name).join("doctor.json"))?
        {
            doctor["kernel"] = release(&doctor["kernel"]).into();
            results::write(&example, &doctor)?;
        }
        if let Some(doctor) = results::read(&example)? {
            columns.push(Column { name, doctor });
        }
    }
    ensure!(
        !columns.is_empty(),
        "no kernel has run: `cargo xtask kernels run` first"
    );
    let kept = examples.join("results.json");
    let mut known = results::read(&kept)?.unwrap_or_else(|| json!({}));
    take_over(&mut known, &folder)?;
    results::write(&kept, &known)?;
    let page = workspace.root.join("docs/kernels.md");
    replace(&page, "rows", &rows(&known["rows"]))?;
    replace(&page, "faults", &faults(&known["faults"]))?;
    replace(&page, "doctor", &capabilities(&columns))
}

/// The numbers of a kernel's version; what a builder adds to them says nothing to others.
fn release(release: &Value) -> String {
    let text = plain(release);
    let is_debian = text.contains("-cloud-") || text.contains("-arm64") || text.contains("-amd64");
    match text.split_once('-') {
        Some((numbers, _)) if !is_debian => numbers.to_owned(),
        _ => text,
    }
}

/// Takes over the results of the last runs, and leaves those of others as they are.
fn take_over(known: &mut Value, folder: &Path) -> Result<()> {
    for kernel in KERNELS {
        let file = folder.join("out").join(kernel.name).join(results::FILE);
        if let Some(mut row) = results::read(&file)? {
            // What took long is of interest where it ran.
            if let Some(row) = row.as_object_mut() {
                row.remove("slowest");
            }
            let extent = plain(&row["extent"]);
            known["rows"][kernel.name][extent] = row;
        }
    }
    for fault in FAULTS {
        let file = folder
            .join("fault/results")
            .join(format!("{}.json", fault.name));
        if let Some(result) = results::read(&file)? {
            known["faults"][fault.name] = result;
        }
    }
    Ok(())
}

/// Writes a table between its marks.
fn replace(page: &Path, name: &str, table: &str) -> Result<()> {
    let (begin, end) = (
        format!("<!-- {name}: made by `cargo xtask kernels table` -->"),
        format!("<!-- {name}: end -->"),
    );
    let text = fs::read_to_string(page).with_context(|| format!("reading {}", page.display()))?;
    let cut = text.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    });
    let (before, after) =
        cut.with_context(|| format!("{} has no marks for {name}", page.display()))?;
    let text = format!("{before}{begin}\n\n{table}\n{end}{after}");
    fs::write(page, text).with_context(|| format!("writing {}", page.display()))
}

/// What the rows came to.
fn rows(known: &Value) -> String {
    let mut text = String::from(
        "| kernel | tests | passed | failed | skipped | seconds | failed in |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for kernel in KERNELS {
        for extent in [Extent::Selected, Extent::Whole] {
            let row = &known[kernel.name][extent.name()];
            if row.is_null() {
                continue;
            }
            let cells = ["passed", "failed", "skipped", "seconds"].map(|key| plain(&row[key]));
            let line = format!(
                "| {} | {} | {} | {} |\n",
                kernel.name,
                extent.name(),
                cells.join(" | "),
                names(&row["failed_tests"])
            );
            text.push_str(&line);
        }
    }
    text
}

/// Which faults were noticed.
fn faults(known: &Value) -> String {
    let mut text = String::from(
        "| fault | what is taken for granted | kernel | seconds | fails in |\n|---|---|---|---|---|\n",
    );
    let empty = Map::new();
    for (name, result) in known.as_object().unwrap_or(&empty) {
        let line = format!(
            "| `{name}` | {} | {} | {} | {} |\n",
            plain(&result["what"]),
            plain(&result["kernel"]),
            plain(&result["seconds"]),
            names(&result["failed_tests"])
        );
        text.push_str(&line);
    }
    text
}

fn names(list: &Value) -> String {
    let names = list.as_array().into_iter().flatten().map(plain);
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// What the doctor said.
fn capabilities(columns: &[Column]) -> String {
    let mut text = String::from("| capability |");
    for column in columns {
        let file = format!("kernels/{}.json", column.name);
        write!(text, " [{}]({file}) |", column.name).expect("a string takes text");
    }
    text.push_str(&format!("\n|---|{}\n", "---|".repeat(columns.len())));
    line(&mut text, "release", columns, &|doctor| {
        plain(&doctor["kernel"])
    });
    line(&mut text, "size of a page", columns, &|doctor| {
        plain(&doctor["page_size"])
    });
    for kind in ["strategies", "features"] {
        let names: BTreeSet<&String> = columns
            .iter()
            .filter_map(|column| column.doctor[kind].as_object())
            .flat_map(|found| found.keys())
            .collect();
        for name in names {
            let title = match kind {
                "strategies" => format!("**strategy `{name}`**"),
                _ => format!("`{name}`"),
            };
            line(&mut text, &title, columns, &|doctor| {
                plain(&doctor[kind][name.as_str()]["status"])
            });
        }
    }
    text
}

fn line(text: &mut String, title: &str, columns: &[Column], cell: &dyn Fn(&Value) -> String) {
    write!(text, "| {title} |").expect("a string takes text");
    for column in columns {
        write!(text, " {} |", cell(&column.doctor)).expect("a string takes text");
    }
    text.push('\n');
}

/// A value without quotes, or a dash where there is none.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kernel_has_a_column_and_each_feature_a_line() {
        let doctor = json!({"kernel": "6.1", "page_size": 4096,
            "strategies": {"fork": {"status": "works"}}, "features": {"swap": {"status": "missing"}}});
        let bare = json!({"kernel": "6.9"});
        let columns = [("a", doctor), ("b", bare)].map(|(name, doctor)| Column { name, doctor });
        assert_eq!(
            capabilities(&columns),
            "| capability | [a](kernels/a.json) | [b](kernels/b.json) |\n|---|---|---|\n\
             | release | 6.1 | 6.9 |\n| size of a page | 4096 | - |\n\
             | **strategy `fork`** | works | - |\n| `swap` | missing | - |\n"
        );
    }

    #[test]
    fn rows_that_have_not_run_are_left_out() {
        let row = json!({"passed": 3, "failed": 1, "skipped": 2, "seconds": 60,
            "failed_tests": ["a"]});
        let text = rows(&json!({"6.1-arm64": {"whole": row}}));
        let line = text.lines().last();
        assert_eq!(line, Some("| 6.1-arm64 | whole | 3 | 1 | 2 | 60 | `a` |"));
        assert_eq!(text.lines().count(), 3);
    }

    #[test]
    fn a_builder_s_own_suffix_is_cut_off() {
        assert_eq!(release(&json!("6.18.3-host-7")), "6.18.3");
        assert_eq!(
            release(&json!("6.1.0-50-cloud-amd64")),
            "6.1.0-50-cloud-amd64"
        );
    }
}
