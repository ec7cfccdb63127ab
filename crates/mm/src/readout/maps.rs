//! `/proc/PID/maps` (`show_map_vma`).

use std::fmt::Write as _;

use space::Errno;

use crate::file::FileKind;
use crate::machine::{Machine, Pid};
use crate::vma::{Vma, VmaFlags};

impl Machine {
    /// The mappings of a process, in order of address.
    ///
    /// # Errors
    ///
    /// `ESRCH` where there is no such process.
    pub fn vmas(&self, pid: Pid) -> Result<impl Iterator<Item = &Vma>, Errno> {
        Ok(self.process(pid)?.mm.vmas.iter())
    }

    /// The size of the pages that a mapping is made of (`vma_kernel_pagesize`).
    pub fn vma_page_size(&self, vma: &Vma) -> u64 {
        match vma.file.map(|file| &self.world.files.get(file).kind) {
            Some(FileKind::Hugetlb(file)) => 1 << file.shift,
            Some(FileKind::Shmem) | None => self.world.page_size(),
        }
    }

    /// The text of `/proc/PID/maps`, with inode numbers counted from 1 in the order in which
    /// the files were made.
    ///
    /// # Errors
    ///
    /// `ESRCH` where there is no such process.
    pub fn maps(&self, pid: Pid) -> Result<String, Errno> {
        let mut text = String::new();
        for vma in self.vmas(pid)? {
            let letter = |flag, letter| if vma.has(flag) { letter } else { '-' };
            let (offset, inode, name) = match vma.file {
                Some(id) => (
                    vma.pgoff << self.world.page_shift(),
                    id.0 + 1,
                    self.world.files.get(id).name.as_str(),
                ),
                None => (0, 0, ""),
            };
            let line = writeln!(
                text,
                "{:08x}-{:08x} {}{}{}{} {offset:08x} 00:00 {inode} {name}",
                vma.start,
                vma.end,
                letter(VmaFlags::READ, 'r'),
                letter(VmaFlags::WRITE, 'w'),
                letter(VmaFlags::EXEC, 'x'),
                if vma.has(VmaFlags::MAYSHARE) {
                    's'
                } else {
                    'p'
                },
            );
            line.expect("a string takes any text");
        }
        Ok(text)
    }
}
