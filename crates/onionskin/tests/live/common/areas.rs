//! The comparison of an image with what `hidden` and `special` say of their areas.

use serde_json::Value;

use super::pages::Pages;
use super::target::number;

/// Compares one area, page by page: each must be filled with the byte that the target named.
///
/// A page of zeros may be missing from the image, as memory that was never touched is. Where the
/// target said -1 nothing can be read, and the image may hold nothing but zeros there.
pub(crate) fn compare_areas(name: &str, area: &Value, pages: &Pages<'_>) -> Result<(), String> {
    let size = pages.page_size().bytes();
    let start = number(area, "start");
    for (index, fill) in area["fill"]
        .as_array()
        .expect("fill is told")
        .iter()
        .enumerate()
    {
        let page = pages.page(start + index as u64 * size);
        let wanted = fill.as_i64().expect("fill is a number").max(0);
        match page {
            None if wanted == 0 => {}
            None => return Err(format!("{name}: page {index} is missing")),
            Some(bytes) => {
                if let Some(at) = bytes.iter().position(|&byte| i64::from(byte) != wanted) {
                    return Err(format!(
                        "{name}: page {index} holds {} at {at} and not {wanted}",
                        bytes[at]
                    ));
                }
            }
        }
    }
    Ok(())
}
