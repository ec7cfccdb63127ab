//! `snapshots diff`.

use std::io::Write;

use anyhow::Result;
use onionskin::store::{Diff, MappingChange, MappingDiff, Store};
use serde::Serialize;
use space::{PageSize, RangeSet};

use crate::out::{BOLD, DIM, Out, paint};
use crate::outcome::Outcome;
use crate::snapshot::summary::short;
use crate::table::{Side, Table};
use crate::units::{bytes, count, counted};

/// How two snapshots differ.
#[derive(Debug, Serialize)]
struct Shown {
    a: String,
    b: String,
    changed_pages: u64,
    appeared_pages: u64,
    vanished_pages: u64,
    page_size: u64,
    mappings: Vec<ShownMapping>,
}

/// A mapping where something differs.
#[derive(Debug, Serialize)]
struct ShownMapping {
    range: String,
    name: String,
    mapping: &'static str,
    changed_pages: u64,
    appeared_pages: u64,
    vanished_pages: u64,
    changed: Vec<String>,
    appeared: Vec<String>,
    vanished: Vec<String>,
}

/// Compares two snapshots. A difference counts as found.
///
/// # Errors
///
/// Those of the store and of printing.
pub(super) fn run(store: &Store, a: &str, b: &str, out: &mut Out) -> Result<Outcome> {
    let (a, b) = (store.find(a)?, store.find(b)?);
    let page_size = store.load_id(a)?.page_size();
    let shown = Shown::of(&store.diff(a, b)?, page_size);
    if out.json {
        out.json_line(&shown)?;
    } else {
        print(&shown, out)?;
    }
    Ok(Outcome::found_if(!shown.mappings.is_empty()))
}

impl Shown {
    fn of(diff: &Diff, page_size: PageSize) -> Self {
        let mappings: Vec<ShownMapping> = diff
            .mappings
            .iter()
            .map(|mapping| ShownMapping::of(mapping, page_size))
            .collect();
        let sum = |pages: fn(&ShownMapping) -> u64| mappings.iter().map(pages).sum();
        Self {
            a: diff.from.to_string(),
            b: diff.to.to_string(),
            changed_pages: sum(|m| m.changed_pages),
            appeared_pages: sum(|m| m.appeared_pages),
            vanished_pages: sum(|m| m.vanished_pages),
            page_size: page_size.bytes(),
            mappings,
        }
    }
}

impl ShownMapping {
    fn of(diff: &MappingDiff, page_size: PageSize) -> Self {
        let pages = |set: &RangeSet| set.len().0 >> page_size.shift();
        let ranges = |set: &RangeSet| set.iter().map(|range| range.to_string()).collect();
        Self {
            range: diff.range.to_string(),
            name: diff.name.clone(),
            mapping: match diff.change {
                MappingChange::Kept => "kept",
                MappingChange::Added => "added",
                MappingChange::Removed => "removed",
            },
            changed_pages: pages(&diff.changed),
            appeared_pages: pages(&diff.appeared),
            vanished_pages: pages(&diff.vanished),
            changed: ranges(&diff.changed),
            appeared: ranges(&diff.appeared),
            vanished: ranges(&diff.vanished),
        }
    }
}

fn print(shown: &Shown, out: &mut dyn Write) -> Result<()> {
    if shown.mappings.is_empty() {
        writeln!(
            out,
            "{} and {} hold the same",
            short(&shown.a),
            short(&shown.b)
        )?;
        return Ok(());
    }
    let number = |pages: u64| {
        if pages == 0 {
            "–".to_owned()
        } else {
            count(pages)
        }
    };
    let mut table = Table::new(&[
        ("mapping", Side::Left),
        ("", Side::Left),
        ("changed", Side::Right),
        ("new", Side::Right),
        ("gone", Side::Right),
        ("name", Side::Left),
    ]);
    for mapping in &shown.mappings {
        table.line([
            mapping.range.clone(),
            if mapping.mapping == "kept" {
                String::new()
            } else {
                mapping.mapping.to_owned()
            },
            number(mapping.changed_pages),
            number(mapping.appeared_pages),
            number(mapping.vanished_pages),
            mapping.name.clone(),
        ]);
    }
    table.print(out)?;
    writeln!(
        out,
        "{} changed ({}), {} new, {} gone  {}",
        paint(BOLD, counted(shown.changed_pages, "page")),
        bytes(shown.changed_pages * shown.page_size),
        count(shown.appeared_pages),
        count(shown.vanished_pages),
        paint(DIM, "(--json lists each range)")
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use space::{PageRange, Vaddr};

    use super::*;

    fn plain(shown: &Shown) -> String {
        let mut text = Vec::new();
        print(shown, &mut text).unwrap();
        anstream::adapter::strip_str(std::str::from_utf8(&text).unwrap()).to_string()
    }

    #[test]
    fn pages_are_counted_by_mapping() {
        let range = |start: u64, end: u64| PageRange::new(Vaddr(start), Vaddr(end)).unwrap();
        let heap = MappingDiff {
            range: range(0x10_0000, 0x20_0000),
            name: "[heap]".to_owned(),
            change: MappingChange::Kept,
            changed: [range(0x10_0000, 0x10_2000), range(0x11_0000, 0x11_1000)]
                .into_iter()
                .collect(),
            appeared: RangeSet::new(),
            vanished: [range(0x1f_0000, 0x1f_1000)].into_iter().collect(),
        };
        let diff = Diff {
            from: "3f2a91c04b7e5d6688990011aabbccdd".parse().unwrap(),
            to: "77777777777777777777777777777777".parse().unwrap(),
            mappings: vec![heap],
        };
        let page_size = PageSize::new(4096).unwrap();
        let shown = Shown::of(&diff, page_size);
        assert_eq!(
            shown.mappings[0].changed,
            ["100000-102000", "110000-111000"]
        );
        assert_eq!(
            plain(&shown),
            "mapping          changed  new  gone  name
100000-200000          3    –     1  [heap]
3 pages changed (12.0 KiB), 0 new, 1 gone  (--json lists each range)
"
        );
        let same = Shown::of(
            &Diff {
                mappings: Vec::new(),
                ..diff
            },
            page_size,
        );
        assert_eq!(
            plain(&same),
            "3f2a91c04b7e and 777777777777 hold the same\n"
        );
    }
}
