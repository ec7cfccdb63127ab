//! The bytes of headers and notes, one by one.

use formats::core::{CoreImage, CoreMapping, Dumped};
use space::{Mapping, ProcessState, RegisterSet, Sharing, TaskState};

use crate::parser::{Core, u16_at, u32_at, u64_at};
use crate::support::*;

fn core_of(process: &ProcessState, tasks: &[TaskState]) -> Core {
    let mappings = [
        dumped(
            of_file(0x40_0000, 0x40_2000, "/opt/prog", 0),
            Dumped::FirstPage,
        ),
        dumped(
            of_file(0x40_2000, 0x40_5000, "/opt/prog", 0x2000),
            Dumped::Nothing,
        ),
        dumped(anonymous(0x50_0000, 0x50_2000), Dumped::Whole),
    ];
    let image = CoreImage {
        process,
        tasks,
        mappings: &mappings,
        page_size: page_size(),
    };
    let pages = Pages([(0x40_0000, vec![7; 4096])].into());
    Core::parse(write_image(&image, &pages).unwrap().0)
}

fn kinds(core: &Core) -> Vec<(&str, u32)> {
    core.notes
        .iter()
        .map(|note| (note.owner.as_str(), note.kind))
        .collect()
}

#[test]
fn notes_are_those_of_the_kernel_in_its_order() {
    const SIGINFO: u32 = 0x5349_4749;
    let core = core_of(&process(), &[task(4001, 0), task(4002, 0), task(4003, 11)]);
    let want = [
        ("CORE", 1),
        ("CORE", 3),
        ("CORE", SIGINFO),
        ("CORE", 6),
        ("CORE", 0x4649_4c45),
        ("CORE", 2),
        ("LINUX", 0x202),
        ("CORE", 1),
        ("CORE", 2),
        ("LINUX", 0x202),
        ("CORE", 1),
        ("CORE", 2),
        ("LINUX", 0x202),
    ];
    assert_eq!(kinds(&core), want);
    let tids: Vec<_> = core
        .notes_of(1)
        .iter()
        .map(|note| u32_at(note, 32))
        .collect();
    assert_eq!(
        tids,
        [4003, 4001, 4002],
        "the thread with the signal comes first"
    );
    assert_eq!(core.notes_of(SIGINFO), [[fill(4003); 128]]);
    assert_eq!(core.notes_of(6), [[6; 32]]);
}

#[test]
fn prstatus_has_every_field_in_its_place() {
    let core = core_of(&process(), &[task(4001, 11)]);
    let note = core.notes_of(1)[0];
    assert_eq!(note.len(), 336);
    assert_eq!(
        (u32_at(note, 0), u32_at(note, 4), u32_at(note, 8)),
        (11, 0, 0)
    );
    assert_eq!(u16_at(note, 12), 11);
    assert_eq!((u64_at(note, 16), u64_at(note, 24)), (0x11, 0x22));
    let ids: Vec<_> = (0..4).map(|nth| u32_at(note, 32 + 4 * nth)).collect();
    assert_eq!(ids, [4001, 4000, 4001, 3999]);
    let times: Vec<_> = (0..8).map(|nth| u64_at(note, 48 + 8 * nth)).collect();
    assert_eq!(times, [3, 7, 4, 9, 0, 0, 0, 0]);
    assert_eq!(note[112..328], [fill(4001); 216]);
    assert_eq!(u32_at(note, 328), 1, "floating point registers follow");
}

#[test]
fn prpsinfo_has_every_field_in_its_place() {
    let mut process = process();
    process.command_line.push("x".repeat(200));
    let core = core_of(&process, &[task(4001, 0)]);
    let note = core.notes_of(3)[0];
    assert_eq!(note.len(), 136);
    assert_eq!(note[..4], [0, b'R', 0, (-5_i8).cast_unsigned()]);
    assert_eq!(u64_at(note, 8), 0x0040_0000);
    let ids: Vec<_> = (0..6).map(|nth| u32_at(note, 16 + 4 * nth)).collect();
    assert_eq!(ids, [1000, 100, 4001, 4000, 4001, 3999]);
    assert_eq!(&note[40..56], b"a rather long n\0");
    let want = format!("prog --flag value {}\0", "x".repeat(61));
    assert_eq!(note[56..], *want.as_bytes());
}

#[test]
fn the_list_of_files_counts_offsets_in_pages() {
    let core = core_of(&process(), &[task(4001, 0)]);
    let note = core.notes_of(0x4649_4c45)[0];
    let words: Vec<_> = (0..8).map(|nth| u64_at(note, 8 * nth)).collect();
    assert_eq!(
        words,
        [2, 4096, 0x40_0000, 0x40_2000, 0, 0x40_2000, 0x40_5000, 2]
    );
    assert_eq!(&note[64..], b"/opt/prog\0/opt/prog\0");
}

#[test]
fn floating_point_registers_come_out_of_the_extended_state_where_they_must() {
    let mut task = task(4001, 0);
    task.registers.remove(1);
    task.registers[1].bytes[511] = 99;
    let core = core_of(&process(), &[task.clone()]);
    assert_eq!(core.notes_of(2), [&task.registers[1].bytes[..512]]);
    assert_eq!(u32_at(core.notes_of(1)[0], 328), 1);

    task.registers.truncate(1);
    let core = core_of(&process(), &[task]);
    assert!(core.notes_of(2).is_empty());
    assert_eq!(u32_at(core.notes_of(1)[0], 328), 0);
}

#[test]
fn arm64_has_its_own_sizes() {
    let mut process = process();
    process.machine = 183;
    let mut task = task(4001, 0);
    task.registers = vec![
        RegisterSet {
            note: 1,
            bytes: vec![5; 272],
        },
        RegisterSet {
            note: 2,
            bytes: vec![6; 528],
        },
        RegisterSet {
            note: 0x401,
            bytes: vec![7; 8],
        },
    ];
    let core = core_of(&process, &[task]);
    assert_eq!(core.machine, 183);
    let note = core.notes_of(1)[0];
    assert_eq!((note.len(), u32_at(note, 384)), (392, 1));
    assert_eq!(note[112..384], [5; 272]);
    assert_eq!(kinds(&core)[4..], [("CORE", 2), ("LINUX", 0x401)]);
}

#[test]
fn segments_tell_what_the_file_holds() {
    let core = core_of(&process(), &[task(4001, 0)]);
    let told: Vec<_> = core
        .loads
        .iter()
        .map(|load| {
            (
                load.address,
                load.memory_len,
                load.file_len,
                load.flags,
                load.align,
            )
        })
        .collect();
    let want = [
        (0x40_0000, 0x2000, 0x1000, 5, 4096),
        (0x40_2000, 0x3000, 0, 5, 4096),
        (0x50_0000, 0x2000, 0x2000, 6, 4096),
    ];
    assert_eq!(told, want);
    assert_eq!(core.memory(0x40_0000, 4096), Some(&[7; 4096][..]));
    assert_eq!(core.memory(0x50_0000, 0x2000), Some(&[0; 0x2000][..]));
}

#[test]
fn what_was_captured_decides_what_is_dumped() {
    let captured = [range(0x1000, 0x2000), range(0x5000, 0x6000)]
        .into_iter()
        .collect();
    let shared = Mapping {
        sharing: Sharing::Shared,
        ..of_file(0x4000, 0x8000, "/dev/zero", 0)
    };
    let cases = [
        (anonymous(0x1000, 0x3000), Dumped::Whole),
        (anonymous(0x2000, 0x3000), Dumped::Nothing),
        (of_file(0x4000, 0x8000, "/opt/prog", 0), Dumped::Captured),
        (of_file(0x6000, 0x8000, "/opt/prog", 0), Dumped::Nothing),
        (shared, Dumped::Whole),
    ];
    for (mapping, want) in cases {
        let chosen = CoreMapping::by_captured(mapping, &captured);
        assert_eq!(chosen.dumped, want, "{:?}", chosen.mapping);
    }
}
