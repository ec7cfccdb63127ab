//! What the generator believes of a program's state: enough to aim well, not enough to predict.

use crate::program::{Context, FileSlot};

/// What a mapping is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Private anonymous memory.
    Anon,
    /// Shared anonymous memory.
    SharedAnon,
    /// A shared mapping of a file.
    SharedFile(FileSlot),
    /// A private mapping of a file.
    PrivateFile(FileSlot),
    /// Huge pages from the pool.
    Hugetlb,
}

/// A mapping, in pages of the window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    pub(super) start: i64,
    pub(super) len: i64,
    pub(super) kind: Kind,
    pub(super) registered: Option<Context>,
}

impl Area {
    pub(super) fn end(&self) -> i64 {
        self.start + self.len
    }
}

/// A mapping whose place the kernel chose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stray {
    /// The step that returned its address.
    pub(super) step: u32,
    /// Its length, in pages.
    pub(super) len: i64,
}

/// A userfaultfd.
#[derive(Clone, Copy, Debug)]
pub(super) struct ContextState {
    pub(super) slot: Context,
}

/// A memory file.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileState {
    pub(super) slot: FileSlot,
    pub(super) pages: i64,
    pub(super) huge: bool,
}

/// A process, or a thread of one.
#[derive(Clone, Debug, Default)]
pub(super) struct LaneState {
    pub(super) alive: bool,
    pub(super) thread: bool,
    pub(super) areas: Vec<Area>,
}

impl LaneState {
    /// Puts a new mapping over what is there.
    pub(super) fn map(&mut self, area: Area) {
        self.unmap(area.start, area.len);
        self.areas.push(area);
        self.areas.sort_by_key(|area| area.start);
    }

    /// Takes a range away.
    pub(super) fn unmap(&mut self, start: i64, len: i64) {
        let end = start + len;
        let mut left = Vec::new();
        for area in &self.areas {
            if area.start < start {
                let len = area.len.min(start - area.start);
                left.push(Area { len, ..*area });
            }
            if area.end() > end {
                let first = area.start.max(end);
                let len = area.end() - first;
                left.push(Area {
                    start: first,
                    len,
                    ..*area
                });
            }
        }
        left.sort_by_key(|area| area.start);
        self.areas = left;
    }

    /// Moves what is in a range.
    pub(super) fn copy_to(&mut self, start: i64, len: i64, target: i64) {
        let moved: Vec<Area> = self
            .areas
            .iter()
            .filter(|area| area.start < start + len && area.end() > start)
            .map(|area| {
                let first = area.start.max(start);
                let last = area.end().min(start + len);
                Area {
                    start: first - start + target,
                    len: last - first,
                    ..*area
                }
            })
            .collect();
        self.unmap(target, len);
        for area in moved {
            self.map(area);
        }
    }

    /// Notes that a context watches a range, or none.
    pub(super) fn register(&mut self, start: i64, len: i64, context: Option<Context>) {
        for area in &mut self.areas {
            if area.start < start + len && area.end() > start {
                area.registered = context;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(start: i64, len: i64) -> Area {
        Area {
            start,
            len,
            kind: Kind::Anon,
            registered: None,
        }
    }

    fn shape(lane: &LaneState) -> Vec<(i64, i64)> {
        lane.areas
            .iter()
            .map(|area| (area.start, area.len))
            .collect()
    }

    #[test]
    fn mappings_replace_and_leave_the_rest() {
        let mut lane = LaneState::default();
        lane.map(area(0, 10));
        lane.map(area(4, 2));
        assert_eq!(shape(&lane), [(0, 4), (4, 2), (6, 4)]);
        lane.unmap(3, 4);
        assert_eq!(shape(&lane), [(0, 3), (7, 3)]);
        lane.copy_to(1, 2, 20);
        assert_eq!(shape(&lane), [(0, 3), (7, 3), (20, 2)]);
    }
}
