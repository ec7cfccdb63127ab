//! Numbers and lines in bytes.

/// Iterates over the lines of `text`, without their ends.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.strip_suffix(b"\n")
        .unwrap_or(text)
        .split(|&byte| byte == b'\n')
}

/// Iterates over what stands between blanks.
pub(crate) fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace)
        .filter(|field| !field.is_empty())
}

/// Reads a whole field as a number in base `radix`.
fn number(field: &[u8], radix: u32) -> Option<u64> {
    if field.is_empty() {
        return None;
    }
    field.iter().try_fold(0_u64, |value, &byte| {
        let digit = char::from(byte).to_digit(radix)?;
        value
            .checked_mul(u64::from(radix))?
            .checked_add(u64::from(digit))
    })
}

/// Reads a whole field as a decimal number.
pub(crate) fn decimal(field: &[u8]) -> Option<u64> {
    number(field, 10)
}

/// Reads a whole field as a decimal number that may be negative.
pub(crate) fn signed(field: &[u8]) -> Option<i64> {
    match field.strip_prefix(b"-") {
        Some(digits) => 0_i64.checked_sub_unsigned(number(digits, 10)?),
        None => number(field, 10)?.try_into().ok(),
    }
}

/// Reads a whole field as an octal number.
pub(crate) fn octal(field: &[u8]) -> Option<u64> {
    number(field, 8)
}

/// Reads a whole field as a hexadecimal number, without a prefix.
pub(crate) fn hex(field: &[u8]) -> Option<u64> {
    const DIGITS_MAX: usize = 16;
    if field.is_empty() || field.len() > DIGITS_MAX {
        return None;
    }
    field.iter().try_fold(0_u64, |value, &byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

/// Reads a whole field as a decimal number that fits the type asked for.
pub(crate) fn small<T: TryFrom<u64>>(field: &[u8]) -> Option<T> {
    decimal(field)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_whole_fields_that_fit() {
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(decimal(b"18446744073709551616"), None);
        assert_eq!(signed(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(signed(b"9223372036854775808"), None);
        assert_eq!(hex(b"ffffffffff600000"), Some(0xffff_ffff_ff60_0000));
        assert_eq!(hex(b"10000000000000000"), None);
        assert_eq!(octal(b"02000002"), Some(0o2_000_002));
        for wrong in [&b""[..], b"-", b"+1", b" 1", b"1 ", b"0x1", b"\xff"] {
            assert_eq!(decimal(wrong), None, "{wrong:?}");
            assert_eq!(signed(wrong), None, "{wrong:?}");
            assert_eq!(hex(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_last_line_may_lack_its_end() {
        assert_eq!(lines(b"a\nb").count(), 2);
        assert_eq!(lines(b"a\nb\n").count(), 2);
        assert_eq!(fields(b" a\t b ").collect::<Vec<_>>(), [b"a", b"b"]);
    }
}
