//! Reading page contents as `process_vm_readv` and `/proc/PID/mem` do, and shared memory through
//! its file.

use space::{ByteLen, Errno, PageRange, PageSource};

use super::{SharedMachine, lock};
use crate::file::{Cached, FileId};
use crate::gup::{self, Foll};
use crate::machine::{Mm, Pid, Tid, World};
use crate::vma::VmaFlags;

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
                let page = &mut buf[done..done + page_size];
                if !read_page(world, &mut process.mm, tid, addr, page) {
                    return if done == 0 {
                        Err(Errno::EFAULT)
                    } else {
                        Ok(bytes(done))
                    };
                }
                done += page_size;
            }
        }
        Ok(bytes(done))
    }
}

/// Reads a page; tells whether that can be.
fn read_page(world: &mut World, mm: &mut Mm, tid: Tid, addr: u64, buf: &mut [u8]) -> bool {
    let Some(vma) = mm.vmas.lookup(addr) else {
        return false;
    };
    if vma.has(VmaFlags::MAYSHARE)
        && let Some(file) = vma.file.filter(|_| !vma.is_hugetlb())
    {
        let index = vma.index_of(addr, world.page_shift());
        return read_file(world, file, index, buf);
    }
    if gup::check_vma_flags(vma, Foll::FORCE).is_err() {
        return false;
    }
    match gup::get_page(world, mm, tid, addr, Foll::empty()) {
        Ok(pfn) => {
            world.frames.frame(pfn).content.read(0, buf);
            true
        }
        Err(_) => false,
    }
}

/// Reads a page of shared memory through its file: nothing comes into the page tables.
fn read_file(world: &World, file: FileId, index: u64, buf: &mut [u8]) -> bool {
    let file = world.files.get(file);
    match file.pages.get(&index) {
        _ if index << world.page_shift() >= file.size => return false,
        Some(&Cached::Page(pfn)) => world.frames.frame(pfn).content.read(0, buf),
        Some(&Cached::Swap(slot)) => world.swap.content(slot).read(0, buf),
        None => buf.fill(0),
    }
    true
}

fn bytes(len: usize) -> ByteLen {
    ByteLen(u64::try_from(len).expect("a length of memory fits"))
}
