//! The audit of an image of `storm --mode map`.

use serde_json::Value;

use super::pages::{Pages, mix, word};
use super::target::number;

const PAGES: u64 = 16;

/// Checks every slot that was not being changed; returns how many pages held what they should.
pub(crate) fn audit_slots(ready: &Value, pages: &Pages<'_>) -> Result<u64, String> {
    let (count, len) = (number(ready, "slot_count"), number(ready, "slot_len"));
    let size = pages.page_size().bytes();
    let table = pages.read(number(ready, "slots"), (count * len).next_multiple_of(size))?;
    let mut good = 0;
    for slot in 0..count {
        let field = |at: u64| word(&table, slot * len + at);
        let (busy, start, slot_pages) = (field(0), field(8), field(16));
        if busy != 0 || start == 0 {
            continue;
        }
        for page in 0..slot_pages.min(PAGES) {
            let pair = field(24 + page / 2 * 8);
            let generation = if page % 2 == 0 {
                pair & 0xffff_ffff
            } else {
                pair >> 32
            };
            let expected = match generation {
                0 => 0,
                _ => mix(slot << 32 | page << 24 | generation),
            };
            // A page that was never touched, or was given back, need not be in the image.
            let content = match pages.page(start + page * size) {
                Some(content) => content,
                None if generation == 0 => continue,
                None => return Err(format!("page {page} of slot {slot} is missing")),
            };
            for at in [0, size / 2, size - 8] {
                let found = word(&content, at);
                if found != expected {
                    return Err(format!(
                        "slot {slot}, page {page} of generation {generation}, offset {at}: \
                         {found:#x} and not {expected:#x}"
                    ));
                }
            }
            good += 1;
        }
    }
    Ok(good)
}
