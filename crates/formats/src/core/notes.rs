//! The notes of a core: registers of the threads, facts of the process.
//!
//! In the kernel's order: `NT_PRSTATUS` of the first thread, `NT_PRPSINFO`, `NT_SIGINFO`,
//! `NT_AUXV`, `NT_FILE`, the other registers of the first thread; then all notes of each further
//! thread. Unlike the kernel's, a further thread has a `NT_SIGINFO` too where it is stopped with
//! a signal of its own: debuggers file each under the thread before it.
//!
//! `NT_X86_XSAVE_LAYOUT` is left out: it tells about the processor that the process ran on, which
//! a snapshot does not know. Debuggers conclude the layout from the registers themselves, see
//! `xstate`.

use std::borrow::Cow;
use std::io::{self, Write};

use space::{Mapping, PageSize, RegisterSet, TaskState};

use super::arch::Arch;
use super::task_notes::{NT_PRSTATUS, prpsinfo, prstatus};
use super::{CoreError, CoreImage, xstate};

const NT_PRFPREG: u32 = 2;
const NT_PRPSINFO: u32 = 3;
const NT_AUXV: u32 = 6;
const NT_X86_XSTATE: u32 = 0x202;
const NT_SIGINFO: u32 = 0x5349_4749;
const NT_FILE: u32 = 0x4649_4c45;

/// Size of the floating point registers at the start of `x86_64`'s extended state, in bytes.
const FXSAVE_LEN: usize = 512;

/// Who defines a note's type.
#[derive(Clone, Copy)]
enum Owner {
    Core,
    Linux,
}

impl Owner {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Core => b"CORE\0",
            Self::Linux => b"LINUX\0",
        }
    }
}

/// The notes, ready to be written.
pub(super) struct Notes<'a> {
    tasks: Vec<TaskNotes<'a>>,
    prpsinfo: Vec<u8>,
    auxv: &'a [u8],
    files: Vec<&'a Mapping>,
    files_len: u32,
    page_size: PageSize,
}

/// The notes of one thread.
struct TaskNotes<'a> {
    prstatus: Vec<u8>,
    siginfo: &'a [u8],
    /// The floating point registers, where no register set but the extended state has them.
    float: Option<&'a [u8]>,
    sets: Vec<&'a RegisterSet>,
}

impl<'a> Notes<'a> {
    /// Gathers the notes and checks that they can be expressed.
    pub(super) fn new(image: &CoreImage<'a>, arch: Arch) -> Result<Self, CoreError> {
        if image.tasks.is_empty() {
            return Err(CoreError::NoTasks);
        }
        let first = image.tasks.iter().position(|task| task.signal != 0);
        let (before, from_first) = image.tasks.split_at(first.unwrap_or(0));
        let (first, after) = from_first.split_at(1);
        let tasks = [first, before, after].into_iter().flatten();
        let tasks = tasks
            .map(|task| TaskNotes::new(image, task, arch))
            .collect::<Result<_, _>>()?;
        let mappings = image.mappings.iter().map(|dumped| &dumped.mapping);
        let files: Vec<_> = mappings.filter(|mapping| mapping.has_file()).collect();
        note_len(image.process.auxv.len(), "auxiliary vector")?;
        Ok(Self {
            tasks,
            prpsinfo: prpsinfo(image.process),
            auxv: &image.process.auxv,
            files_len: files_len(&files)?,
            files,
            page_size: image.page_size,
        })
    }

    /// Returns how many bytes all notes take.
    pub(super) fn len(&self) -> Result<u64, CoreError> {
        let mut counter = Counter(0);
        match self.write(&mut counter) {
            Ok(()) => Ok(counter.0),
            Err(_) => Err(CoreError::TooLarge { what: "notes" }),
        }
    }

    /// Writes all notes.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for (index, task) in self.tasks.iter().enumerate() {
            write_note(out, Owner::Core, NT_PRSTATUS, &task.prstatus)?;
            if index == 0 {
                write_note(out, Owner::Core, NT_PRPSINFO, &self.prpsinfo)?;
            }
            if !task.siginfo.is_empty() {
                write_note(out, Owner::Core, NT_SIGINFO, task.siginfo)?;
            }
            if index == 0 {
                self.write_process(out)?;
            }
            task.write_other_registers(out)?;
        }
        Ok(())
    }

    /// Writes the notes that tell about the process as a whole.
    fn write_process(&self, out: &mut impl Write) -> io::Result<()> {
        if !self.auxv.is_empty() {
            write_note(out, Owner::Core, NT_AUXV, self.auxv)?;
        }
        if !self.files.is_empty() {
            self.write_files(out)?;
        }
        Ok(())
    }

    /// Writes the list of mapped files: their number, the page size, where each is mapped and
    /// which part of it, and then the names.
    fn write_files(&self, out: &mut impl Write) -> io::Result<()> {
        write_note_header(out, Owner::Core, NT_FILE, self.files_len)?;
        let count = u64::try_from(self.files.len()).expect("a length fits 64 bits");
        out.write_all(&count.to_le_bytes())?;
        out.write_all(&self.page_size.bytes().to_le_bytes())?;
        for mapping in &self.files {
            let first_page = mapping.file_offset >> self.page_size.shift();
            for field in [mapping.range.start().0, mapping.range.end().0, first_page] {
                out.write_all(&field.to_le_bytes())?;
            }
        }
        for mapping in &self.files {
            out.write_all(mapping.name.as_bytes())?;
            out.write_all(&[0])?;
        }
        write_padding(out, self.files_len)
    }
}

impl<'a> TaskNotes<'a> {
    fn new(image: &CoreImage<'a>, task: &'a TaskState, arch: Arch) -> Result<Self, CoreError> {
        let set = |note| task.registers.iter().find(move |set| set.note == note);
        let float = match arch {
            Arch::X86_64 if set(NT_PRFPREG).is_none() => {
                set(NT_X86_XSTATE).and_then(|set| set.bytes.get(..FXSAVE_LEN))
            }
            Arch::X86_64 | Arch::Arm64 => None,
        };
        let has_float = float.is_some() || set(NT_PRFPREG).is_some();
        let sets: Vec<_> = task
            .registers
            .iter()
            .filter(|set| set.note != NT_PRSTATUS)
            .collect();
        for set in &sets {
            note_len(set.bytes.len(), "registers of a thread")?;
        }
        note_len(task.siginfo.len(), "signal information of a thread")?;
        Ok(Self {
            prstatus: prstatus(image.process, task, arch, has_float)?,
            siginfo: &task.siginfo,
            float,
            sets,
        })
    }

    /// Writes the registers but for the general ones.
    fn write_other_registers(&self, out: &mut impl Write) -> io::Result<()> {
        if let Some(float) = self.float {
            write_note(out, Owner::Core, NT_PRFPREG, float)?;
        }
        for set in &self.sets {
            let owner = match set.note {
                NT_PRFPREG => Owner::Core,
                _ => Owner::Linux,
            };
            let bytes = match set.note {
                NT_X86_XSTATE => xstate::for_debuggers(&set.bytes),
                _ => Cow::Borrowed(set.bytes.as_slice()),
            };
            write_note(out, owner, set.note, &bytes)?;
        }
        Ok(())
    }
}

/// Returns the length of the list of files, in bytes.
fn files_len(files: &[&Mapping]) -> Result<u32, CoreError> {
    let header = 2 * 8;
    let lens = files.iter().map(|mapping| 3 * 8 + mapping.name.len() + 1);
    note_len(header + lens.sum::<usize>(), "list of mapped files")
}

/// Returns a note's length as its header holds it, with room for the padding behind it.
fn note_len(len: usize, what: &'static str) -> Result<u32, CoreError> {
    u32::try_from(len)
        .ok()
        .filter(|len| *len <= u32::MAX - 3)
        .ok_or(CoreError::TooLarge { what })
}

fn write_note(out: &mut impl Write, owner: Owner, kind: u32, bytes: &[u8]) -> io::Result<()> {
    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    write_note_header(out, owner, kind, len)?;
    out.write_all(bytes)?;
    write_padding(out, len)
}

fn write_note_header(out: &mut impl Write, owner: Owner, kind: u32, len: u32) -> io::Result<()> {
    let name = owner.name();
    let name_len = u32::try_from(name.len()).map_err(io::Error::other)?;
    for field in [name_len, len, kind] {
        out.write_all(&field.to_le_bytes())?;
    }
    out.write_all(name)?;
    write_padding(out, name_len)
}

/// Fills up to the next multiple of four bytes.
fn write_padding(out: &mut impl Write, len: u32) -> io::Result<()> {
    let padding: &[u8] = match len % 4 {
        0 => &[],
        1 => &[0; 3],
        2 => &[0; 2],
        _ => &[0],
    };
    out.write_all(padding)
}

/// Counts bytes.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = u64::try_from(bytes.len()).map_err(io::Error::other)?;
        self.0 = self.0.checked_add(len).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
