//! Reading page contents as `process_vm_readv` and `/proc/PID/mem` do.

use space::{ByteLen, Errno, PageRange, PageSource};

use super::{SharedMachine, lock};
use crate::gup::{self, Foll};
use crate::machine::Pid;

/// Reads the memory of a process of a machine. A page that waits for the handler of a userfaultfd
/// can't be read.
#[derive(Debug)]
pub struct Reader {
    pub(super) machine: SharedMachine,
    pub(super) pid: Pid,
}

impl PageSource for Reader {
    fn read(&self, ranges: &[PageRange], buf: &mut [u8]) -> Result<ByteLen, Errno> {
        let mut machine = lock(&self.machine);
        let tid = machine.threads_of(self.pid).next().ok_or(Errno::ESRCH)?;
        let (world, process) = machine.halves_of(self.pid)?;
        let page_size = world.frames.page_size();
        let mut done = 0;
        for range in ranges {
            for addr in (range.start().0..range.end().0).step_by(page_size) {
                let vma = process.mm.vmas.lookup(addr);
                let allowed = vma.is_some_and(|vma| gup::check_vma_flags(vma, Foll::FORCE).is_ok());
                let pfn = if allowed {
                    gup::get_page(world, &mut process.mm, tid, addr, Foll::empty()).ok()
                } else {
                    None
                };
                match pfn {
                    Some(pfn) => {
                        let page = &mut buf[done..done + page_size];
                        world.frames.frame(pfn).content.read(0, page);
                    }
                    None if done == 0 => return Err(Errno::EFAULT),
                    None => return Ok(bytes(done)),
                }
                done += page_size;
            }
        }
        Ok(bytes(done))
    }
}

fn bytes(len: usize) -> ByteLen {
    ByteLen(u64::try_from(len).expect("a length of memory fits"))
}
