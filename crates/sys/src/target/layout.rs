//! The mappings of a process: their places fresh each time, their flags from the last full look.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use space::{Errno, Mapping, PageSize};

use crate::procfs::{Process, parse_maps};

/// What is remembered of the mappings between looks.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// As `smaps` showed them, sorted.
    full: Vec<Mapping>,
    text: Vec<u8>,
}

impl Layout {
    /// Takes a full look, which walks all page tables: not for a freeze.
    pub(super) fn refresh(&mut self, process: &Process, page_size: PageSize) -> Result<(), Errno> {
        let smaps = process.smaps(page_size).map_err(|error| error.errno())?;
        self.full = smaps.into_iter().map(|smap| smap.mapping).collect();
        Ok(())
    }

    /// Lists the mappings through `maps`, which belongs to the memory and not to the process.
    pub(super) fn read(
        &mut self,
        mut maps: &File,
        page_size: PageSize,
    ) -> Result<Vec<Mapping>, Errno> {
        self.text.clear();
        maps.seek(SeekFrom::Start(0))?;
        maps.read_to_end(&mut self.text)?;
        if self.text.is_empty() {
            return Err(Errno::ESRCH);
        }
        let mut mappings = Vec::with_capacity(self.full.len() + 16);
        parse_maps(&self.text, page_size, &mut mappings).map_err(|_| Errno::EIO)?;
        self.add_flags(&mut mappings);
        Ok(mappings)
    }

    /// Tells whether a mapping was there at the last full look, whole and with the same protection.
    pub(super) fn knows(&self, mapping: &Mapping) -> bool {
        let next = self
            .full
            .partition_point(|known| known.range.end() <= mapping.range.start());
        self.full.get(next).is_some_and(|known| {
            known.range.covers(mapping.range)
                && known.protection == mapping.protection
                && same_file(known, mapping)
        })
    }

    /// Gives each mapping the flags that it, or the mapping that it was cut from, had at the last
    /// full look.
    fn add_flags(&self, mappings: &mut [Mapping]) {
        let mut full = self.full.iter().peekable();
        for mapping in mappings {
            while full
                .next_if(|known| known.range.end() <= mapping.range.start())
                .is_some()
            {}
            let Some(known) = full.peek() else { return };
            if known.range.intersection(mapping.range).is_some() && same_file(known, mapping) {
                mapping.flags |= known.flags;
                mapping.page_size = known.page_size;
            }
        }
    }
}

fn same_file(one: &Mapping, other: &Mapping) -> bool {
    one.sharing == other.sharing
        && one.device == other.device
        && one.inode == other.inode
        && one.name == other.name
}
