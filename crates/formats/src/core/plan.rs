//! Where everything goes in the file.

use space::{ByteLen, PageRange, PageSize, Protection, RangeSet, Vaddr};

use super::elf::{
    HEADER_LEN, PN_XNUM, PROGRAM_HEADER_LEN, PT_LOAD, PT_NOTE, ProgramHeader, SECTION_HEADER_LEN,
};
use super::{CoreError, CoreImage, CoreMapping, Dumped};
use crate::copy::runs_within;

/// A hole this long in memory without a file becomes a segment of its own, without contents.
const LONG_HOLE: ByteLen = ByteLen(1 << 30);

/// Part of a mapping, as one program header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// The addresses it covers.
    pub(super) range: PageRange,
    /// Where its contents begin in the file, or would begin.
    pub(super) offset: u64,
    /// How much of it is in the file, from the start of `range`.
    file_len: u64,
    protection: Protection,
}

impl Segment {
    /// Returns the addresses whose contents are in the file, if any are.
    pub(super) fn content(&self) -> Option<PageRange> {
        let start = self.range.start();
        PageRange::new(start, Vaddr(start.0 + self.file_len))
    }

    /// Returns the program header.
    pub(super) fn header(&self, page_size: PageSize) -> ProgramHeader {
        ProgramHeader {
            kind: PT_LOAD,
            flags: segment_flags(self.protection),
            offset: self.offset,
            address: self.range.start().0,
            file_len: self.file_len,
            memory_len: self.range.len().0,
            align: page_size.bytes(),
        }
    }
}

/// Returns the `PF_*` flags of a protection.
fn segment_flags(protection: Protection) -> u32 {
    [
        (Protection::EXEC, 1),
        (Protection::WRITE, 2),
        (Protection::READ, 4),
    ]
    .into_iter()
    .filter(|(held, _)| protection.contains(*held))
    .map(|(_, flag)| flag)
    .sum()
}

/// The layout of the whole file.
pub(super) struct Plan {
    segments: Vec<Segment>,
    notes_at: u64,
    notes_len: u64,
    contents_end: u64,
    captured_len: u64,
    /// The number of program headers, as the section header holds it.
    segment_count: u32,
}

impl Plan {
    /// Lays out a core with `notes_len` bytes of notes.
    pub(super) fn new(
        image: &CoreImage<'_>,
        captured: &RangeSet,
        notes_len: u64,
    ) -> Result<Self, CoreError> {
        let mut segments = Vec::with_capacity(image.mappings.len());
        for mapping in image.mappings {
            cut(mapping, captured, image.page_size, &mut segments);
        }
        let count = u32::try_from(segments.len())
            .ok()
            .and_then(|loads| loads.checked_add(1))
            .ok_or(CoreError::TooLarge {
                what: "list of segments",
            })?;
        let notes_at = u64::from(HEADER_LEN) + u64::from(count) * u64::from(PROGRAM_HEADER_LEN);
        let contents_end = place(&mut segments, notes_at, notes_len, image.page_size)
            .ok_or(CoreError::TooLarge { what: "file" })?;
        let captured_len = segments
            .iter()
            .filter_map(Segment::content)
            .flat_map(|content| runs_within(captured, content))
            .map(|run| run.len().0)
            .sum();
        Ok(Self {
            segments,
            notes_at,
            notes_len,
            contents_end,
            captured_len,
            segment_count: count,
        })
    }

    /// Returns the segments of memory, by address.
    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Returns the program header of the notes.
    pub(super) fn note_segment(&self) -> ProgramHeader {
        ProgramHeader {
            kind: PT_NOTE,
            flags: 0,
            offset: self.notes_at,
            address: 0,
            file_len: self.notes_len,
            memory_len: 0,
            align: 4,
        }
    }

    /// Returns the number of program headers.
    pub(super) fn segment_count(&self) -> u64 {
        self.segment_count.into()
    }

    /// Returns the number of program headers, as the section header holds it.
    pub(super) fn segment_count_field(&self) -> u32 {
        self.segment_count
    }

    /// Returns where the section header is, if the number of segments needs one.
    pub(super) fn section_header_at(&self) -> Option<u64> {
        (self.segment_count >= u32::from(PN_XNUM)).then_some(self.contents_end)
    }

    /// Returns the length of the file.
    pub(super) fn file_len(&self) -> ByteLen {
        let section = self.section_header_at().map_or(0, |_| SECTION_HEADER_LEN);
        ByteLen(self.contents_end + u64::from(section))
    }

    /// Returns how many captured bytes are in the contents.
    pub(super) fn captured_len(&self) -> u64 {
        self.captured_len
    }
}

/// Gives each segment its place behind the notes and returns where the last one ends; `None`
/// where the file would be longer than a file can be.
fn place(
    segments: &mut [Segment],
    notes_at: u64,
    notes_len: u64,
    page_size: PageSize,
) -> Option<u64> {
    // The largest offset of a file is that of `loff_t`; the section header must fit too.
    let max = i64::MAX.unsigned_abs() - u64::from(SECTION_HEADER_LEN);
    let mut at = notes_at
        .checked_add(notes_len)?
        .checked_next_multiple_of(page_size.bytes())?;
    for segment in segments {
        segment.offset = at;
        at = at.checked_add(segment.file_len).filter(|&end| end <= max)?;
    }
    Some(at)
}

/// Adds the segments of one mapping; their places in the file come later.
fn cut(
    CoreMapping { mapping, dumped }: &CoreMapping,
    captured: &RangeSet,
    page_size: PageSize,
    segments: &mut Vec<Segment>,
) {
    let range = mapping.range;
    let mut add = |start: Vaddr, end: Vaddr, file_len: u64| {
        if let Some(range) = PageRange::new(start, end) {
            segments.push(Segment {
                range,
                offset: 0,
                file_len,
                protection: mapping.protection,
            });
        }
    };
    let hole_min = match dumped {
        Dumped::Nothing => return add(range.start(), range.end(), 0),
        Dumped::FirstPage => {
            let has_page = captured.contains(range.start());
            let len = if has_page { page_size.bytes() } else { 0 };
            return add(range.start(), range.end(), len);
        }
        Dumped::Whole if mapping.has_file() => {
            return add(range.start(), range.end(), range.len().0);
        }
        Dumped::Whole => LONG_HOLE,
        Dumped::Captured => ByteLen(1),
    };
    // `from` is where the segment with contents begins, `at` where the run before ended.
    let (mut from, mut at) = (range.start(), range.start());
    for run in runs_within(captured, range) {
        if run.start().0 - at.0 >= hole_min.0 {
            add(from, at, at.0 - from.0);
            add(at, run.start(), 0);
            from = run.start();
        }
        at = run.end();
    }
    if range.end().0 - at.0 >= hole_min.0 {
        add(from, at, at.0 - from.0);
        add(at, range.end(), 0);
    } else {
        add(from, range.end(), range.end().0 - from.0);
    }
}
