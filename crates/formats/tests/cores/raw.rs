//! One file for each mapping.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use formats::raw::{self, RawError, RawImage, RawSummary};
use space::Mapping;

use crate::support::*;

fn write_raw(mappings: &[Mapping], pages: &Pages, to: &Path) -> Result<RawSummary, RawError> {
    let (process, tasks) = (process(), [task(4001, 0)]);
    let image = RawImage {
        process: &process,
        tasks: &tasks,
        mappings,
        page_size: page_size(),
    };
    raw::write(&image, &pages.captured(), pages, to, &mut |_| ())
}

#[test]
fn files_hold_the_mappings_and_the_index_names_them() {
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().join("out");
    let mappings = [
        anonymous(0x1_0000, 0x1_8000),
        of_file(0x2_0000, 0x2_4000, "/opt/prog", 0),
    ];
    let pages = Pages([(0x1_2000, vec![3; 4096]), (0x1_3000, vec![0; 4096])].into());
    let summary = write_raw(&mappings, &pages, &to).unwrap();
    assert_eq!((summary.files, summary.written.0), (2, PAGE));

    let name = "10000-18000-rw-p.bin";
    let bytes = fs::read(to.join(name)).unwrap();
    let mut want = vec![0; 0x8000];
    want[0x2000..0x3000].fill(3);
    assert!(bytes == want);
    assert_eq!(fs::metadata(to.join(name)).unwrap().mode() & 0o777, 0o600);

    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(to.join(raw::INDEX)).unwrap()).unwrap();
    assert_eq!(index["mappings"][0]["file"], name);
    assert_eq!(
        index["mappings"][0]["captured"],
        serde_json::json!([[0x1_2000, 0x1_4000]])
    );
    assert_eq!(index["mappings"][1]["file"], serde_json::Value::Null);
    assert_eq!(index["mappings"][1]["mapping"]["name"], "/opt/prog");
    assert_eq!(index["process"]["pid"], 4001);
    assert_eq!(index["tasks"][0]["registers"][0]["note"], 1);
}

#[test]
fn files_that_are_there_are_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let mappings = [anonymous(0x1_0000, 0x1_8000)];
    let pages = Pages([(0x1_2000, vec![3; 4096])].into());
    write_raw(&mappings, &pages, directory.path()).unwrap();
    let error = write_raw(&mappings, &pages, directory.path()).unwrap_err();
    assert!(matches!(error, RawError::Write { .. }), "{error}");
}

#[test]
fn a_failure_leaves_no_index() {
    let directory = tempfile::tempdir().unwrap();
    let mappings = [anonymous(0x1_0000, 0x1_8000)];
    let (process, tasks) = (process(), [task(4001, 0)]);
    let image = RawImage {
        process: &process,
        tasks: &tasks,
        mappings: &mappings,
        page_size: page_size(),
    };
    let captured = [range(0x1_0000, 0x1_1000)].into_iter().collect();
    let error = raw::write(
        &image,
        &captured,
        &Pages::default(),
        directory.path(),
        &mut |_| (),
    )
    .unwrap_err();
    assert!(matches!(error, RawError::Read { .. }), "{error}");
    assert!(!directory.path().join(raw::INDEX).exists());
}
