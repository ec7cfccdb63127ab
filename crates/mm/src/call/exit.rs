//! The end of a process.
//!
//! Linux reference: 6.18, `mm/mmap.c` (`exit_mmap`), `kernel/exit.c`.

use space::Errno;

use crate::machine::{Descriptor, Machine, Pid, Tid};
use crate::zap::{Zap, zap_range};

impl Machine {
    /// Ends the process of a thread, with all its threads, memory and descriptors.
    ///
    /// # Errors
    ///
    /// `ESRCH` where there is no such thread.
    pub fn exit(&mut self, tid: Tid) -> Result<(), Errno> {
        let pid = self.pid_of(tid)?;
        self.exit_process(pid)
    }

    /// As [`exit`](Self::exit), by the number of the process.
    ///
    /// # Errors
    ///
    /// `ESRCH` where there is no such process.
    pub fn exit_process(&mut self, pid: Pid) -> Result<(), Errno> {
        self.forget_waits(pid);
        let (world, process) = self.halves_of(pid)?;
        let mm = &mut process.mm;
        for index in 0..mm.vmas.len() {
            let view = mm.vmas.at(index).view();
            zap_range(world, mm, &view, view.start, view.end, Zap::UNMAP);
        }
        while !mm.vmas.is_empty() {
            let gone = mm.vmas.remove(mm.vmas.len() - 1);
            if gone.is_hugetlb() {
                crate::file::hugetlb::close_vma(world, &gone);
            }
            world.forget(gone);
        }
        let descriptors: Vec<Descriptor> = std::mem::take(&mut process.fds).into_values().collect();
        self.take_process(pid);
        crate::pin::exit(&mut self.world, pid);
        for descriptor in descriptors {
            self.drop_descriptor(descriptor);
        }
        Ok(())
    }

    /// Closes a descriptor.
    ///
    /// # Errors
    ///
    /// `EBADF` where the process has no such descriptor.
    pub fn close(&mut self, tid: Tid, fd: crate::machine::Fd) -> Result<(), Errno> {
        let (_, process) = self.halves(tid)?;
        let descriptor = process.fds.remove(&fd).ok_or(Errno::EBADF)?;
        self.drop_descriptor(descriptor);
        Ok(())
    }

    /// One descriptor less stands for this.
    pub(crate) fn drop_descriptor(&mut self, descriptor: Descriptor) {
        match descriptor {
            Descriptor::File { file, .. } => self.world.put_file(file),
            Descriptor::Uffd(uffd) => self.uffd_put(uffd),
            Descriptor::PipeRead(_) | Descriptor::PipeWrite(_) => {
                crate::pipe::drop_end(&mut self.world, descriptor);
            }
        }
    }
}
