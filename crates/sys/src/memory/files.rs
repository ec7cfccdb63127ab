//! The files behind shared memory, opened through `/proc/PID/map_files`.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use rustix::fs::SeekFrom;
use space::{Errno, Mapping, MappingFlags, PageRange, PageSize, Sharing, Vaddr};

/// Shared memory that can be read through its file.
#[derive(Debug, Default)]
pub(crate) struct SharedFiles {
    /// Sorted by address.
    views: Vec<View>,
}

#[derive(Debug)]
struct View {
    mapping: Mapping,
    file: File,
}

impl View {
    /// Makes another of the same; `None` where we have no descriptor left for it, so that the
    /// memory is read through the page tables.
    fn duplicate(&self) -> Option<Self> {
        let file = self.file.try_clone().ok()?;
        Some(Self {
            mapping: self.mapping.clone(),
            file,
        })
    }
}

impl SharedFiles {
    /// Opens the files behind the shared mappings of `pid`, taking over from `earlier` those
    /// that are still mapped as they were.
    pub(crate) fn open(pid: u32, mappings: &[Mapping], earlier: &Self) -> Self {
        let shared = mappings.iter().filter(|mapping| may_be_opened(mapping));
        let views = shared.filter_map(|mapping| {
            let known = earlier.view_of(mapping.range.start());
            let file = match known {
                Some(view) if view.mapping.same_place(mapping) => view.file.try_clone().ok()?,
                _ => open(pid, mapping.range)?,
            };
            Some(View {
                mapping: mapping.clone(),
                file,
            })
        });
        Self {
            views: views.collect(),
        }
    }

    /// Returns the views that are still mapped as they were, if not all are: another mapping at
    /// the same address must not be read through a file that was there before.
    pub(crate) fn still_valid(&self, mappings: &[Mapping]) -> Option<Self> {
        let holds = |view: &View| {
            let at = mappings
                .partition_point(|mapping| mapping.range.start() < view.mapping.range.start());
            mappings
                .get(at)
                .is_some_and(|mapping| mapping.same_place(&view.mapping))
        };
        if self.views.iter().all(holds) {
            return None;
        }
        let kept = self
            .views
            .iter()
            .filter(|view| holds(view))
            .filter_map(View::duplicate);
        Some(Self {
            views: kept.collect(),
        })
    }

    /// Returns these and those of `more`, which are of other mappings.
    pub(crate) fn with(&self, more: Self) -> Self {
        let own = self.views.iter().filter_map(View::duplicate);
        let mut views: Vec<View> = more.views;
        let replaced: Vec<PageRange> = views.iter().map(|view| view.mapping.range).collect();
        views.extend(own.filter(|view| {
            replaced
                .iter()
                .all(|range| range.intersection(view.mapping.range).is_none())
        }));
        views.sort_by_key(|view| view.mapping.range);
        Self { views }
    }

    fn view_of(&self, address: Vaddr) -> Option<&View> {
        let next = self
            .views
            .partition_point(|view| view.mapping.range.end() <= address);
        self.views
            .get(next)
            .filter(|view| view.mapping.range.contains(address))
    }

    /// Returns the mapping that `range` lies in, if its file is open.
    pub(crate) fn find(&self, range: PageRange) -> Option<&Mapping> {
        self.view_of(range.start())
            .map(|view| &view.mapping)
            .filter(|mapping| mapping.range.covers(range))
    }

    /// Reads ranges that are all known; what lies behind the end of a file ends it.
    pub(crate) fn read(&self, ranges: &[PageRange], buf: &mut [u8]) -> usize {
        let mut done = 0;
        for &range in ranges {
            let Some(view) = self.view_of(range.start()) else {
                break;
            };
            let buf = &mut buf[done..done + range.len().as_usize()];
            let read = read_file(view, range, buf);
            done += read;
            if read < buf.len() {
                break;
            }
        }
        done
    }

    /// Reports the pages of a known mapping that its file has data for.
    ///
    /// # Errors
    ///
    /// [`Errno::EACCES`] where the file is not open to us.
    pub(crate) fn data(
        &self,
        mapping: &Mapping,
        page_size: PageSize,
        out: &mut Vec<PageRange>,
    ) -> Result<(), Errno> {
        let view = self
            .view_of(mapping.range.start())
            .filter(|view| view.mapping.same_place(mapping))
            .ok_or(Errno::EACCES)?;
        let size = view.file.metadata()?.len();
        let first = mapping.file_offset;
        let end = first.saturating_add(mapping.range.len().0).min(size);
        let mut push = |from: u64, to: u64| {
            let start = Vaddr(mapping.range.start().0 + (from - first));
            let end = Vaddr(mapping.range.start().0 + (to - first));
            let end = end
                .align_up(mapping.page_size)
                .unwrap_or(end)
                .min(mapping.range.end());
            out.extend(PageRange::new(start.align_down(page_size), end));
        };
        if mapping.flags.contains(MappingFlags::HUGETLB) {
            // hugetlbfs does not tell holes from data; reading a hole populates nothing.
            if first < end {
                push(first, end);
            }
            return Ok(());
        }
        let mut at = first;
        while at < end {
            let data = match rustix::fs::seek(&view.file, SeekFrom::Data(at)) {
                Ok(data) if data < end => data,
                Ok(_) | Err(rustix::io::Errno::NXIO) => break,
                Err(errno) => return Err(Errno(errno.raw_os_error())),
            };
            let hole = rustix::fs::seek(&view.file, SeekFrom::Hole(data))
                .map_err(|errno| Errno(errno.raw_os_error()))?
                .min(end);
            push(data, hole);
            at = hole;
        }
        Ok(())
    }
}

/// Reads one range of a view; the last page of a file is filled up with zeros, as a mapping has
/// it.
fn read_file(view: &View, range: PageRange, buf: &mut [u8]) -> usize {
    let offset = view.mapping.file_offset + (range.start().0 - view.mapping.range.start().0);
    let mut done = 0;
    while done < buf.len() {
        match view.file.read_at(&mut buf[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    let page = usize::try_from(view.mapping.page_size.bytes()).unwrap_or(usize::MAX);
    let whole = done.next_multiple_of(page).min(buf.len());
    buf[done..whole].fill(0);
    whole
}

/// Only memory of regular files: opening a device may have effects.
fn may_be_opened(mapping: &Mapping) -> bool {
    mapping.sharing == Sharing::Shared
        && mapping.has_file()
        && !mapping
            .flags
            .intersects(MappingFlags::IO | MappingFlags::PFN_MAP)
}

/// Tells whether a shared mapping is of a kind that is never opened: the ring of an io_uring, a
/// device. `None` where we may not look.
pub(crate) fn is_special(pid: u32, mapping: &Mapping) -> Option<bool> {
    let metadata = std::fs::metadata(format!("/proc/{pid}/map_files/{}", mapping.range)).ok()?;
    Some(!metadata.file_type().is_file())
}

fn open(pid: u32, range: PageRange) -> Option<File> {
    let path = PathBuf::from(format!("/proc/{pid}/map_files/{range}"));
    let kind = std::fs::metadata(&path).ok()?.file_type();
    if !kind.is_file() {
        return None;
    }
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOATIME | libc::O_NONBLOCK)
        .open(&path)
        .ok()
        .or_else(|| File::open(&path).ok())
}
