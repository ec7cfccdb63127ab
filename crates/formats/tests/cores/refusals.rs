//! What can't be expressed, and what fails half way.

use std::io::{self, Cursor, Seek, SeekFrom, Write};

use formats::core::{self, CoreError, CoreImage, CoreMapping, Dumped};
use space::{Errno, PageSize, ProcessState, RangeSet, TaskState};

use crate::support::*;

fn error_of(
    process: &ProcessState,
    tasks: &[TaskState],
    mappings: &[CoreMapping],
    page_size: u64,
    captured: &RangeSet,
) -> (CoreError, u64) {
    let page_size = PageSize::new(page_size).unwrap();
    let image = CoreImage {
        process,
        tasks,
        mappings,
        page_size,
    };
    let mut out = Cursor::new(Vec::new());
    let result = core::write(&image, captured, &Pages::default(), &mut out, &mut |_| ());
    (result.unwrap_err(), out.into_inner().len() as u64)
}

#[test]
fn hostile_images_are_refused_before_anything_is_written() {
    let none = RangeSet::new();
    let some = [dumped(anonymous(0x1000, 0x3000), Dumped::Whole)];
    let good = [task(1, 0)];
    let odd_machine = ProcessState {
        machine: 3,
        ..process()
    };

    let (error, len) = error_of(&odd_machine, &good, &some, PAGE, &none);
    assert!(
        matches!(error, CoreError::Machine(3)) && len == 0,
        "{error}"
    );

    let (error, len) = error_of(&process(), &[], &some, PAGE, &none);
    assert!(matches!(error, CoreError::NoTasks) && len == 0, "{error}");

    let (error, len) = error_of(&process(), &good, &some, 1 << 34, &none);
    assert!(
        matches!(error, CoreError::PageSize(_)) && len == 0,
        "{error}"
    );

    let mut short = task(9, 0);
    short.registers[0].bytes.pop();
    let (error, len) = error_of(&process(), &[short], &some, PAGE, &none);
    assert!(
        matches!(
            error,
            CoreError::Registers {
                tid: 9,
                found: 215,
                expected: 216
            }
        ) && len == 0,
        "{error}"
    );

    for signal in [-1, 65, i32::MAX] {
        let (error, len) = error_of(&process(), &[task(9, signal)], &some, PAGE, &none);
        assert!(
            matches!(error, CoreError::Signal { tid: 9, .. }) && len == 0,
            "{error}"
        );
    }

    let (error, len) = error_of(&process(), &good, &some, 16384, &none);
    assert!(
        matches!(error, CoreError::Misaligned(_)) && len == 0,
        "{error}"
    );

    let captured = [range(0x5000, 0x6000)].into_iter().collect();
    let aligned = [dumped(anonymous(0x4000, 0x8000), Dumped::Whole)];
    let (error, len) = error_of(&process(), &good, &aligned, 16384, &captured);
    assert!(
        matches!(error, CoreError::Misaligned(_)) && len == 0,
        "{error}"
    );
}

#[test]
fn mappings_out_of_order_are_refused() {
    for (first, second) in [
        ((0x3000, 0x5000), (0x1000, 0x2000)),
        ((0x1000, 0x3000), (0x2000, 0x4000)),
    ] {
        let mappings = [
            dumped(anonymous(first.0, first.1), Dumped::Nothing),
            dumped(anonymous(second.0, second.1), Dumped::Nothing),
        ];
        let error = write(&mappings, &Pages::default()).unwrap_err();
        assert!(
            matches!(error, CoreError::Order(at) if at.0 == second.0),
            "{error}"
        );
    }
}

#[test]
fn sizes_that_no_file_has_are_refused() {
    let end = u64::MAX - 0xfff;
    let mappings = [dumped(of_file(0x1000, end, "/big", 0), Dumped::Whole)];
    let error = write(&mappings, &Pages::default()).unwrap_err();
    assert!(
        matches!(error, CoreError::TooLarge { what: "file" }),
        "{error}"
    );
}

#[test]
fn a_zero_byte_in_a_name_is_refused() {
    let mappings = [dumped(of_file(0x1000, 0x2000, "/a\0b", 0), Dumped::Nothing)];
    let error = write(&mappings, &Pages::default()).unwrap_err();
    assert!(
        matches!(error, CoreError::Name(at) if at.0 == 0x1000),
        "{error}"
    );
}

#[test]
fn missing_pages_are_named() {
    let mappings = [dumped(anonymous(0x1000, 0x9000), Dumped::Whole)];
    let (process, tasks) = (process(), [task(1, 0)]);
    let image = CoreImage {
        process: &process,
        tasks: &tasks,
        mappings: &mappings,
        page_size: page_size(),
    };
    let captured: RangeSet = [range(0x1000, 0x2000), range(0x5000, 0x7000)]
        .into_iter()
        .collect();
    let mut pages = Pages([(0x1000, vec![1; 4096]), (0x5000, vec![2; 4096])].into());
    let write = |pages: &Pages| {
        core::write(
            &image,
            &captured,
            pages,
            &mut Cursor::new(Vec::new()),
            &mut |_| (),
        )
        .unwrap_err()
    };
    let error = write(&pages);
    assert!(
        matches!(error, CoreError::Missing(at) if at.0 == 0x6000),
        "{error}"
    );
    pages.0.clear();
    let error = write(&pages);
    assert!(
        matches!(error, CoreError::Read { address, source: Errno::EFAULT } if address.0 == 0x1000),
        "{error}"
    );
}

/// A file on a disk that is full after `room` bytes.
struct Full {
    inner: Cursor<Vec<u8>>,
    room: usize,
}

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(self.room);
        if len == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.room -= len;
        self.inner.write(&bytes[..len])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Full {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

#[test]
fn a_full_disk_is_an_error_wherever_it_happens() {
    let mappings = [dumped(anonymous(0x1000, 0x9000), Dumped::Whole)];
    let (process, tasks) = (process(), [task(1, 0)]);
    let image = CoreImage {
        process: &process,
        tasks: &tasks,
        mappings: &mappings,
        page_size: page_size(),
    };
    let pages = Pages([(0x1000, vec![1; 4096]), (0x5000, vec![2; 4096])].into());
    let write = |room| {
        let mut out = Full {
            inner: Cursor::new(Vec::new()),
            room,
        };
        let result = core::write(&image, &pages.captured(), &pages, &mut out, &mut |_| ());
        (result, room - out.room)
    };
    let (result, needed) = write(usize::MAX / 2);
    result.unwrap();
    for room in (0..needed).step_by(97).chain([needed - 1]) {
        let (result, _) = write(room);
        assert!(
            matches!(result, Err(CoreError::Write { .. })),
            "{room} of {needed}"
        );
    }
}
