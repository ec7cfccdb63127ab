//! The archive that a guest finds as its file system: cpio's "newc" form.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_000;
const DEVICE: u32 = 0o020_600;
/// Every part begins at a multiple of that.
const ALIGNMENT: usize = 4;

/// An archive being written.
pub(super) struct Initramfs {
    file: BufWriter<File>,
    path: PathBuf,
    folders: BTreeSet<PathBuf>,
    entries: u32,
}

impl Initramfs {
    /// Begins an archive that has a console.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
        let mut archive = Self {
            file: BufWriter::new(file),
            path: path.to_owned(),
            folders: BTreeSet::new(),
            entries: 0,
        };
        archive.folder(Path::new("/dev"))?;
        // Before /dev is mounted, init's output goes there.
        archive.entry(Path::new("/dev/console"), DEVICE, &[], (5, 1))?;
        Ok(archive)
    }

    /// Adds a folder and those around it.
    pub(super) fn folder(&mut self, path: &Path) -> Result<()> {
        let mut missing: Vec<_> = path
            .ancestors()
            .filter(|it| it.parent().is_some())
            .collect();
        missing.reverse();
        for folder in missing {
            if self.folders.insert(folder.to_owned()) {
                self.entry(folder, FOLDER, &[], (0, 0))?;
            }
        }
        Ok(())
    }

    /// Adds a file of this machine, with its permissions, under another path.
    pub(super) fn copy(&mut self, from: &Path, to: &Path) -> Result<()> {
        let bytes = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
        let mode = fs::metadata(from)?.permissions().mode() & 0o777;
        self.file(to, mode, &bytes)
    }

    /// Adds a folder of this machine with all that is in it, under another path.
    pub(super) fn copy_all(&mut self, from: &Path, to: &Path) -> Result<()> {
        self.folder(to)?;
        for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
            let path = entry?.path();
            let inside = to.join(path.file_name().context("an entry has a name")?);
            if path.is_dir() {
                self.copy_all(&path, &inside)?;
            } else {
                self.copy(&path, &inside)?;
            }
        }
        Ok(())
    }

    /// Adds a file.
    pub(super) fn file(&mut self, path: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
        self.folder(path.parent().context("a file is in a folder")?)?;
        self.entry(path, FILE | mode, bytes, (0, 0))
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> Result<()> {
        self.entry(Path::new("/TRAILER!!!"), 0, &[], (0, 0))?;
        let path = self.path.display();
        self.file.flush().with_context(|| format!("writing {path}"))
    }

    fn entry(&mut self, path: &Path, mode: u32, bytes: &[u8], device: (u32, u32)) -> Result<()> {
        let name = path.strip_prefix("/").context("paths begin at the root")?;
        let name = name.to_str().context("paths are text")?;
        self.entries += 1;
        let size = u32::try_from(bytes.len()).context("a file of 4 GiB")?;
        let name_size = u32::try_from(name.len() + 1).context("a long name")?;
        let (major, minor) = device;
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            major,
            minor,
            name_size,
            0,
        ];
        let mut header = "070701".to_owned();
        for field in fields {
            header.push_str(&format!("{field:08X}"));
        }
        header.push_str(name);
        header.push('\0');
        self.padded(header.as_bytes())?;
        self.padded(bytes)
    }

    fn padded(&mut self, bytes: &[u8]) -> Result<()> {
        let padding = bytes.len().next_multiple_of(ALIGNMENT) - bytes.len();
        let written = self.file.write_all(bytes);
        written
            .and_then(|()| self.file.write_all(&[0; ALIGNMENT][..padding]))
            .with_context(|| format!("writing {}", self.path.display()))
    }
}
