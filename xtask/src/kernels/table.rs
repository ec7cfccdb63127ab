//! `docs/kernels.md`'s table, made of what `onionskin doctor` said on each kernel.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::catalog::KERNELS;
use crate::workspace::Workspace;

const BEGIN: &str = "<!-- made by `cargo xtask kernels table` -->";
const END: &str = "<!-- end -->";

/// A kernel and what the doctor said on it.
struct Column {
    name: &'static str,
    doctor: Value,
}

/// Takes over the newest answers of each kernel, and writes the table.
pub(super) fn write(workspace: &Workspace) -> Result<()> {
    let examples = workspace.root.join("docs/kernels");
    fs::create_dir_all(&examples).with_context(|| format!("creating {}", examples.display()))?;
    let out = super::folder(workspace)?.join("out");
    let mut columns = Vec::new();
    for kernel in KERNELS {
        let example = examples.join(format!("{}.json", kernel.name));
        let new = out.join(kernel.name).join("doctor.json");
        if new.exists() {
            fs::copy(&new, &example).with_context(|| format!("{}", example.display()))?;
        }
        if let Ok(text) = fs::read_to_string(&example) {
            let doctor = serde_json::from_str(&text)
                .with_context(|| format!("{} is no JSON", example.display()))?;
            columns.push(Column {
                name: kernel.name,
                doctor,
            });
        }
    }
    ensure!(
        !columns.is_empty(),
        "no kernel has run: `cargo xtask kernels run` first"
    );
    let page = workspace.root.join("docs/kernels.md");
    replace(&page, &table(&columns))
}

/// Writes the table between its marks.
fn replace(page: &Path, table: &str) -> Result<()> {
    let text = fs::read_to_string(page).with_context(|| format!("reading {}", page.display()))?;
    let cut = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) = cut.with_context(|| format!("{} has no marks", page.display()))?;
    let text = format!("{before}{BEGIN}\n\n{table}\n{END}{after}");
    fs::write(page, text).with_context(|| format!("writing {}", page.display()))
}

fn table(columns: &[Column]) -> String {
    let mut text = String::from("| capability |");
    for column in columns {
        let file = format!("kernels/{}.json", column.name);
        write!(text, " [{}]({file}) |", column.name).expect("a string takes text");
    }
    text.push_str(&format!("\n|---|{}\n", "---|".repeat(columns.len())));
    row(&mut text, "release", columns, &|doctor| {
        plain(&doctor["kernel"])
    });
    row(&mut text, "size of a page", columns, &|doctor| {
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
            row(&mut text, &title, columns, &|doctor| {
                plain(&doctor[kind][name.as_str()]["status"])
            });
        }
    }
    text
}

fn row(text: &mut String, title: &str, columns: &[Column], cell: &dyn Fn(&Value) -> String) {
    write!(text, "| {title} |").expect("a string takes text");
    for column in columns {
        write!(text, " {} |", cell(&column.doctor)).expect("a string takes text");
    }
    text.push('\n');
}

/// A value without quotes, or a dash where the kernel's doctor had none.
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
    fn each_kernel_has_a_column_and_each_feature_a_row() {
        let doctor = serde_json::json!({"kernel": "6.1", "page_size": 4096,
            "strategies": {"fork": {"status": "works"}}, "features": {"swap": {"status": "missing"}}});
        let bare = serde_json::json!({"kernel": "6.9"});
        let columns = [("a", doctor), ("b", bare)].map(|(name, doctor)| Column { name, doctor });
        assert_eq!(
            table(&columns),
            "| capability | [a](kernels/a.json) | [b](kernels/b.json) |\n|---|---|---|\n\
             | release | 6.1 | 6.9 |\n| size of a page | 4096 | - |\n\
             | **strategy `fork`** | works | - |\n| `swap` | missing | - |\n"
        );
    }
}
