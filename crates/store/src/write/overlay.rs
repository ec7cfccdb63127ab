//! The pages that a writer took so far: what came later replaces what came before.

use std::collections::BTreeMap;

use crate::page_map::{Content, Extent};

/// Extents by their first page, disjoint.
#[derive(Default)]
pub(super) struct Overlay {
    extents: BTreeMap<u64, (u32, Content)>,
}

impl Overlay {
    /// Puts an extent over what is there.
    pub(super) fn put(&mut self, extent: Extent) {
        self.clear(extent.start, extent.end());
        if !matches!(extent.content, Content::Data { .. })
            && let Some((&start, (pages, content))) =
                self.extents.range_mut(..extent.start).next_back()
            && *content == extent.content
            && start + u64::from(*pages) == extent.start
            && let Some(longer) = pages.checked_add(extent.pages)
        {
            *pages = longer;
            return;
        }
        self.extents
            .insert(extent.start, (extent.pages, extent.content));
    }

    /// Takes out what lies between two pages; what reaches over them is cut.
    fn clear(&mut self, start: u64, end: u64) {
        let first = self.extents.range(..start).next_back().map(as_extent);
        if let Some(first) = first
            && first.end() > start
        {
            self.insert(first.part(first.start, start));
            if first.end() > end {
                self.insert(first.part(end, first.end()));
            }
        }
        while let Some(next) = self.extents.range(start..end).next().map(as_extent) {
            self.extents.remove(&next.start);
            if next.end() > end {
                self.insert(next.part(end, next.end()));
            }
        }
    }

    fn insert(&mut self, extent: Extent) {
        self.extents
            .insert(extent.start, (extent.pages, extent.content));
    }

    /// Returns the parts of extents between two pages, in order.
    pub(super) fn parts(&self, start: u64, end: u64) -> Vec<Extent> {
        let first = self.extents.range(..start).next_back().map(as_extent);
        let first = first.filter(|extent| extent.end() > start);
        let rest = self.extents.range(start..end).map(as_extent);
        first
            .into_iter()
            .chain(rest)
            .map(|extent| extent.part(extent.start.max(start), extent.end().min(end)))
            .collect()
    }

    /// Takes all extents out, in order.
    pub(super) fn take(&mut self) -> Vec<Extent> {
        let extents = std::mem::take(&mut self.extents);
        extents.iter().map(as_extent).collect()
    }
}

fn as_extent((&start, &(pages, content)): (&u64, &(u32, Content))) -> Extent {
    Extent {
        start,
        pages,
        content,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_last_put_wins(puts in prop::collection::vec((0u64..60, 1u8..9, 0u8..4), 0..40)) {
            let mut overlay = Overlay::default();
            let mut want = BTreeMap::new();
            for (chunk, (start, pages, kind)) in (0u32..).zip(puts) {
                let content = match kind {
                    0 => Content::Zeros,
                    1 => Content::Discarded,
                    _ => Content::Data { chunk, skip: 0 },
                };
                overlay.put(Extent { start, pages: u32::from(pages), content });
                for page in 0..pages {
                    let content = match content {
                        Content::Data { chunk, .. } => Content::Data { chunk, skip: page },
                        other => other,
                    };
                    want.insert(start + u64::from(page), content);
                }
            }
            let parts = (0..80).step_by(5).flat_map(|at| overlay.parts(at, at + 5));
            let single = |part: Extent| {
                (part.start..part.end()).map(move |page| (page, part.part(page, page + 1).content))
            };
            let found: BTreeMap<u64, Content> = parts.flat_map(single).collect();
            prop_assert_eq!(found, want);
            let all = overlay.take();
            prop_assert!(all.windows(2).all(|two| two[0].end() <= two[1].start));
        }
    }
}
