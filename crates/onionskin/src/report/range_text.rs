//! Address ranges as text in JSON: 64-bit numbers lose digits in many readers.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};
use space::{PageRange, Vaddr};

/// Writes a range as `start-end` in hexadecimal.
pub(super) fn serialize<S: Serializer>(range: &PageRange, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(range)
}

/// Reads a range from `start-end` in hexadecimal.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<PageRange, D::Error> {
    let text = String::deserialize(input)?;
    parse(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no address range")))
}

fn parse(text: &str) -> Option<PageRange> {
    let (start, end) = text.split_once('-')?;
    let address = |digits| u64::from_str_radix(digits, 16).ok().map(Vaddr);
    PageRange::new(address(start)?, address(end)?)
}

/// The same for a list of ranges.
pub(super) mod list {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use space::PageRange;

    /// Writes each range as `start-end` in hexadecimal.
    pub(in crate::report) fn serialize<S: Serializer>(
        ranges: &[PageRange],
        out: S,
    ) -> Result<S::Ok, S::Error> {
        out.collect_seq(ranges.iter().map(ToString::to_string))
    }

    /// Reads ranges from a list of `start-end` in hexadecimal.
    pub(in crate::report) fn deserialize<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<Vec<PageRange>, D::Error> {
        let texts = Vec::<String>::deserialize(input)?;
        let parsed = texts.iter().map(|text| {
            super::parse(text)
                .ok_or_else(|| D::Error::custom(format!("{text:?} is no address range")))
        });
        parsed.collect()
    }
}
