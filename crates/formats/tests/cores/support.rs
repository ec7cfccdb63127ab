//! Snapshots for the tests.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::time::Duration;

use formats::core::{self, CoreError, CoreImage, CoreMapping, CoreSummary, Dumped};
use space::{
    ByteLen, Errno, Mapping, MappingFlags, PageRange, PageSize, PageSource, ProcessState,
    Protection, RangeSet, RegisterSet, Sharing, TaskState, Vaddr,
};

use crate::parser::Core;

pub(crate) const PAGE: u64 = 4096;

pub(crate) fn page_size() -> PageSize {
    PageSize::new(PAGE).unwrap()
}

pub(crate) fn range(start: u64, end: u64) -> PageRange {
    PageRange::new(Vaddr(start), Vaddr(end)).unwrap()
}

/// Makes a page that is not zero, for the `nth` place.
pub(crate) fn page_of(nth: u64) -> Vec<u8> {
    vec![nth.to_le_bytes()[0] | 1; 4096]
}

/// Pages in memory, by address.
#[derive(Default)]
pub(crate) struct Pages(pub(crate) BTreeMap<u64, Vec<u8>>);

impl Pages {
    pub(crate) fn captured(&self) -> RangeSet {
        let pages = self.0.iter();
        pages
            .map(|(&start, bytes)| range(start, start + bytes.len() as u64))
            .collect()
    }
}

impl PageSource for Pages {
    fn read(&self, ranges: &[PageRange], buf: &mut [u8]) -> Result<ByteLen, Errno> {
        let mut at = 0;
        for range in ranges {
            let mut address = range.start().0;
            while address < range.end().0 {
                let Some(bytes) = self.0.get(&address) else {
                    return match at {
                        0 => Err(Errno::EFAULT),
                        _ => Ok(ByteLen(at as u64)),
                    };
                };
                buf[at..at + bytes.len()].copy_from_slice(bytes);
                at += bytes.len();
                address += bytes.len() as u64;
            }
        }
        Ok(ByteLen(at as u64))
    }
}

pub(crate) fn process() -> ProcessState {
    ProcessState {
        pid: 4001,
        parent: 4000,
        process_group: 4001,
        session: 3999,
        uid: 1000,
        gid: 100,
        nice: -5,
        flags: 0x0040_0000,
        name: "a rather long name".into(),
        command_line: vec!["prog".into(), "--flag".into(), "value".into()],
        executable: "/opt/prog".into(),
        auxv: vec![6; 32],
        limits: String::new(),
        machine: 62,
    }
}

/// The byte that a task's registers are filled with.
pub(crate) fn fill(tid: u32) -> u8 {
    u8::try_from(tid % 256).unwrap()
}

/// An extended state whose feature bits say x87 and SSE, which is what it has room for.
fn xstate(fill: u8) -> Vec<u8> {
    let mut state = vec![fill; 576];
    state[464..472].copy_from_slice(&3_u64.to_le_bytes());
    state
}

pub(crate) fn task(tid: u32, signal: i32) -> TaskState {
    let fill = fill(tid);
    TaskState {
        tid,
        name: "worker".into(),
        signal,
        signals_pending: 0x11,
        signals_blocked: 0x22,
        siginfo: if signal == 0 { vec![] } else { vec![fill; 128] },
        user_time: Duration::from_micros(3_000_007),
        system_time: Duration::from_micros(4_000_009),
        registers: vec![
            RegisterSet {
                note: 1,
                bytes: vec![fill; 216],
            },
            RegisterSet {
                note: 2,
                bytes: vec![fill; 512],
            },
            RegisterSet {
                note: 0x202,
                bytes: xstate(fill),
            },
        ],
    }
}

pub(crate) fn anonymous(start: u64, end: u64) -> Mapping {
    Mapping {
        range: range(start, end),
        protection: Protection::READ | Protection::WRITE,
        sharing: Sharing::Private,
        file_offset: 0,
        device: (0, 0),
        inode: 0,
        name: String::new(),
        flags: MappingFlags::empty(),
        page_size: page_size(),
    }
}

pub(crate) fn of_file(start: u64, end: u64, name: &str, file_offset: u64) -> Mapping {
    Mapping {
        protection: Protection::READ | Protection::EXEC,
        file_offset,
        device: (8, 1),
        inode: 77,
        name: name.into(),
        ..anonymous(start, end)
    }
}

pub(crate) fn dumped(mapping: Mapping, dumped: Dumped) -> CoreMapping {
    CoreMapping { mapping, dumped }
}

/// Writes a core of one task into memory.
pub(crate) fn write(
    mappings: &[CoreMapping],
    pages: &Pages,
) -> Result<(Vec<u8>, CoreSummary), CoreError> {
    let (process, tasks) = (process(), [task(4001, 0)]);
    let image = CoreImage {
        process: &process,
        tasks: &tasks,
        mappings,
        page_size: page_size(),
    };
    write_image(&image, pages)
}

/// Writes a core into memory, and checks that progress adds up.
pub(crate) fn write_image(
    image: &CoreImage<'_>,
    pages: &Pages,
) -> Result<(Vec<u8>, CoreSummary), CoreError> {
    let captured = pages.captured();
    let mut out = Cursor::new(Vec::new());
    let mut done = 0;
    let summary = core::write(image, &captured, pages, &mut out, &mut |len| done += len.0)?;
    assert_eq!(done + summary.left_out.0, captured.len().0);
    Ok((out.into_inner(), summary))
}

/// Writes a core of one task and parses it.
pub(crate) fn written(mappings: &[CoreMapping], pages: &Pages) -> Core {
    Core::parse(write(mappings, pages).unwrap().0)
}
