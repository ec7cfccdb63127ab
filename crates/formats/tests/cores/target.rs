//! A real process, and a snapshot's pieces made of a core that somebody else wrote of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use formats::core::{self, CoreImage, CoreMapping, Dumped};
use space::{Mapping, MappingFlags, ProcessState, Protection, RegisterSet, Sharing, TaskState};

use crate::parser::{Core, Note, u16_at, u32_at, u64_at};
use crate::support::*;

/// A process, killed in the end.
pub(crate) struct Target {
    child: Child,
    pub(crate) program: PathBuf,
}

impl Target {
    /// Starts the program in `directory`, with cores allowed, and returns once all its threads
    /// sleep; `None` without a compiler.
    pub(crate) fn start(directory: &Path) -> Option<Self> {
        let program = directory.join("target");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cores/target.c");
        let gcc = Command::new("gcc")
            .args(["-O0", "-g", "-pthread", "-Wall", "-Werror", source, "-o"])
            .arg(&program)
            .status()
            .ok()?;
        assert!(gcc.success(), "the program compiles");
        let child = Command::new("sh")
            .args(["-c", "ulimit -c unlimited; exec ./target 'an argument'"])
            .current_dir(directory)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut target = Self { child, program };
        let mut line = String::new();
        let output = target.child.stdout.as_mut().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        while !target.sleeps() {
            thread::sleep(Duration::from_millis(1));
        }
        Some(target)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has the process end with a core, if the system lets it write one.
    pub(crate) fn abort(mut self) {
        let kill = format!("kill -ABRT {}", self.pid());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
        self.child.wait().unwrap();
    }

    fn sleeps(&self) -> bool {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let mut stats = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("stat")));
        stats.all(|stat| stat.unwrap().rsplit(") ").next().unwrap().starts_with('S'))
    }

    /// Reads the mappings.
    pub(crate) fn mappings(&self) -> Vec<Mapping> {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.pid())).unwrap();
        maps.lines().map(mapping_of_line).collect()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).unwrap();
    }
}

fn mapping_of_line(line: &str) -> Mapping {
    let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let mut fields = line.splitn(6, ' ');
    let mut field = || fields.next().unwrap_or_default();
    let (start, end) = field().split_once('-').unwrap();
    let letters = field();
    let offset = hex(field());
    let _device = field();
    let inode = field().parse().unwrap();
    let held = [
        ('r', Protection::READ),
        ('w', Protection::WRITE),
        ('x', Protection::EXEC),
    ];
    let held = held
        .into_iter()
        .filter(|(letter, _)| letters.contains(*letter));
    Mapping {
        range: range(hex(start), hex(end)),
        protection: held.map(|(_, protection)| protection).collect(),
        sharing: if letters.ends_with('s') {
            Sharing::Shared
        } else {
            Sharing::Private
        },
        file_offset: offset,
        device: (0, 0),
        inode,
        name: field().trim_start().to_owned(),
        flags: MappingFlags::empty(),
        page_size: page_size(),
    }
}

/// What a snapshot of the process would hold.
pub(crate) struct Pieces {
    pub(crate) process: ProcessState,
    pub(crate) tasks: Vec<TaskState>,
    pub(crate) mappings: Vec<CoreMapping>,
    pub(crate) pages: Pages,
}

impl Pieces {
    /// Takes the pieces out of a core; `choose` says what of a mapping is dumped, given how much
    /// of it the core has, in bytes.
    pub(crate) fn of(
        core: &Core,
        mappings: Vec<Mapping>,
        choose: impl Fn(&Mapping, u64) -> Dumped,
    ) -> Self {
        let mut pages = BTreeMap::new();
        let mut dumps = Vec::new();
        for mapping in mappings {
            let start = mapping.range.start().0;
            let segment = core.loads.iter().find(|load| load.address == start);
            let held = segment.map_or(0, |segment| segment.file_len);
            for address in (start..start + held).step_by(4096) {
                pages.insert(address, core.memory(address, PAGE).unwrap().to_vec());
            }
            let kind = choose(&mapping, held);
            dumps.push(dumped(mapping, kind));
        }
        Self {
            process: process_of(core),
            tasks: tasks_of(core),
            mappings: dumps,
            pages: Pages(pages),
        }
    }

    /// Writes our core.
    pub(crate) fn write(&self, path: &Path) {
        let image = CoreImage {
            process: &self.process,
            tasks: &self.tasks,
            mappings: &self.mappings,
            page_size: page_size(),
        };
        let mut out = File::create(path).unwrap();
        let captured = self.pages.captured();
        core::write(&image, &captured, &self.pages, &mut out, &mut |_| ()).unwrap();
    }
}

fn process_of(core: &Core) -> ProcessState {
    let note = core.notes_of(3)[0];
    ProcessState {
        pid: u32_at(note, 24),
        parent: u32_at(note, 28),
        process_group: u32_at(note, 32),
        session: u32_at(note, 36),
        uid: u32_at(note, 16),
        gid: u32_at(note, 20),
        nice: note[3].cast_signed().into(),
        flags: u64_at(note, 8),
        name: text_of(&note[40..56]),
        command_line: vec![text_of(&note[56..])],
        auxv: core.notes_of(6)[0].to_vec(),
        machine: core.machine,
        ..process()
    }
}

/// Reads a text that ends with a zero byte.
fn text_of(bytes: &[u8]) -> String {
    let bytes = bytes.split(|&byte| byte == 0).next().unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn tasks_of(core: &Core) -> Vec<TaskState> {
    let general = if core.machine == 62 { 216 } else { 272 };
    let mut tasks: Vec<TaskState> = Vec::new();
    for Note { owner, kind, bytes } in &core.notes {
        match (owner.as_str(), *kind) {
            ("CORE", 1) => tasks.push(TaskState {
                tid: u32_at(bytes, 32),
                name: String::new(),
                signal: u16_at(bytes, 12).into(),
                signals_pending: u64_at(bytes, 16),
                signals_blocked: u64_at(bytes, 24),
                siginfo: vec![],
                user_time: time_at(bytes, 48),
                system_time: time_at(bytes, 64),
                registers: vec![RegisterSet {
                    note: 1,
                    bytes: bytes[112..112 + general].to_vec(),
                }],
            }),
            ("CORE", 0x5349_4749) => tasks.last_mut().unwrap().siginfo.clone_from(bytes),
            // Debuggers find out themselves where the parts of the extended state are (0x205).
            ("CORE", 2) | ("LINUX", _) if *kind != 0x205 => {
                let set = RegisterSet {
                    note: *kind,
                    bytes: bytes.clone(),
                };
                tasks.last_mut().unwrap().registers.push(set);
            }
            _ => (),
        }
    }
    tasks
}

fn time_at(bytes: &[u8], at: usize) -> Duration {
    Duration::from_secs(u64_at(bytes, at)) + Duration::from_micros(u64_at(bytes, at + 8))
}
