//! Cores that are large in one way or another.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use formats::core::{self, CoreImage, CoreMapping, Dumped};

use crate::parser::Core;
use crate::support::*;

fn write_file(path: &Path, mappings: &[CoreMapping], pages: &Pages) {
    let (process, tasks) = (process(), [task(4001, 0)]);
    let image = CoreImage {
        process: &process,
        tasks: &tasks,
        mappings,
        page_size: page_size(),
    };
    let mut file = File::create(path).unwrap();
    core::write(&image, &pages.captured(), pages, &mut file, &mut |_| ()).unwrap();
}

/// One page each, every hundredth with contents.
fn small_mappings(count: u64) -> (Vec<CoreMapping>, Pages) {
    let start = |nth| 0x1000_0000 + nth * 2 * PAGE;
    let mappings = (0..count).map(|nth| {
        let kind = if nth % 100 == 99 {
            Dumped::Whole
        } else {
            Dumped::Nothing
        };
        dumped(anonymous(start(nth), start(nth) + PAGE), kind)
    });
    let pages = (0..count).skip(99).step_by(100);
    let pages = pages.map(|nth| (start(nth), page_of(nth / 100)));
    (mappings.collect(), Pages(pages.collect()))
}

#[test]
fn seventy_thousand_segments_are_counted_by_readelf_and_read_by_gdb() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("core");
    let (mappings, pages) = small_mappings(70_000);
    write_file(&path, &mappings, &pages);

    let core = Core::parse(fs::read(&path).unwrap());
    assert_eq!(core.loads.len(), 70_000);
    let last = core.loads.last().unwrap();
    let held = core.memory(last.address, PAGE);
    assert_eq!(held, pages.0.get(&last.address).map(Vec::as_slice));

    let Ok(readelf) = Command::new("readelf")
        .args(["-h", "-l", "-W"])
        .arg(&path)
        .output()
    else {
        println!("skipped: readelf is missing");
        return;
    };
    let text = String::from_utf8_lossy(&readelf.stdout);
    assert!(
        readelf.status.success() && readelf.stderr.is_empty(),
        "{readelf:?}"
    );
    assert!(text.contains("65535 (70001)"), "{}", &text[..2000]);
    let loads = text
        .lines()
        .filter(|line| line.trim_start().starts_with("LOAD"));
    assert_eq!(loads.count(), 70_000);
    gdb_reads(&path, last.address);
}

/// Has gdb read from the last mapping, where there is a gdb.
fn gdb_reads(core: &Path, address: u64) {
    let question = format!("x/1xg {address:#x}");
    let gdb = Command::new("gdb")
        .args(["-nx", "-batch", "-ex", &question, "-c"])
        .arg(core)
        .output();
    let Ok(gdb) = gdb else {
        println!("skipped: gdb is missing");
        return;
    };
    let text = String::from_utf8_lossy(&gdb.stdout);
    let want = u64::from_le_bytes([page_of(699)[0]; 8]);
    assert!(
        text.contains(&format!("{address:#x}:\t{want:#018x}")),
        "{gdb:?}"
    );
}

#[test]
fn the_number_of_segments_moves_at_65535() {
    for (mappings, in_section) in [(65_533, false), (65_534, true), (65_535, true)] {
        let (mappings, pages) = small_mappings(mappings);
        let (file, summary) = write(&mappings, &pages).unwrap();
        let section_at = crate::parser::u64_at(&file, 40);
        assert_eq!(section_at != 0, in_section, "{}", mappings.len());
        assert_eq!(summary.segments, mappings.len() as u64 + 1);
        assert_eq!(Core::parse(file).loads.len(), mappings.len());
    }
}

#[test]
fn a_sparse_terabyte_takes_what_its_pages_take() {
    const START: u64 = 0x7000_0000_0000;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("core");
    let mapping = dumped(anonymous(START, START + (1 << 40)), Dumped::Whole);
    let places = [0, 1 << 29, 1 << 38, (1 << 40) - PAGE];
    let pages = Pages(places.map(|at| (START + at, vec![9; 4096])).into());
    write_file(&path, &[mapping], &pages);

    let metadata = fs::metadata(&path).unwrap();
    assert!(metadata.len() < 1 << 30, "{} bytes long", metadata.len());
    assert!(
        metadata.blocks() * 512 < 1 << 20,
        "{} blocks",
        metadata.blocks()
    );
}

#[test]
fn a_hole_at_the_end_is_part_of_the_file() {
    let mapping = dumped(anonymous(0x1000, 0x101_0000), Dumped::Whole);
    let pages = Pages([(0x1000, vec![1; 4096])].into());
    let (file, summary) = write(&[mapping], &pages).unwrap();
    assert_eq!(summary.written.0, PAGE);
    let core = Core::parse(file);
    assert_eq!(core.memory(0x1000, PAGE), Some(&[1; 4096][..]));
    assert_eq!(core.memory(0x100_f000, PAGE), Some(&[0; 4096][..]));
}
