//! Times, sizes and rates: how users write them and how we show them.

use std::time::Duration;

/// Reads the id of a process.
///
/// # Errors
///
/// A sentence that says what one looks like.
pub(crate) fn parse_pid(text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| "a process is named by its id, a number as `pgrep NAME` prints it".to_owned())
}

/// Reads the name of a snapshot.
///
/// # Errors
///
/// A sentence that says what one may consist of.
pub(crate) fn parse_name(text: &str) -> Result<String, String> {
    let fits = onionskin::store::check_name(text);
    fits.map(|()| text.to_owned())
        .map_err(|error| error.to_string())
}

/// Reads a length of time as `10ms`, `1.5s` or `2m`, longer than nothing.
///
/// # Errors
///
/// A sentence that says what a length of time looks like.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration_or_zero(text)?;
    if duration.is_zero() {
        return Err("it must be longer than nothing".to_owned());
    }
    Ok(duration)
}

/// Reads a length of time as `10ms`, `1.5s` or `0s`.
///
/// # Errors
///
/// A sentence that says what a length of time looks like.
pub(crate) fn parse_duration_or_zero(text: &str) -> Result<Duration, String> {
    let units = [
        ("us", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("min", 60.0),
        ("h", 3600.0),
        ("d", 86_400.0),
    ];
    let expected = "a time is a number and a unit: 10ms, 1.5s, 2m, 1h";
    let (number, unit) = split_unit(text);
    let number: f64 = number.parse().map_err(|_| expected)?;
    let scale = units.iter().find(|(name, _)| *name == unit);
    let seconds = number * scale.ok_or(expected)?.1;
    Duration::try_from_secs_f64(seconds).map_err(|_| expected.to_owned())
}

/// Reads a number of bytes as `4096`, `256MiB` or `1G`; all units are powers of 1024.
///
/// # Errors
///
/// A sentence that says what a size looks like.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let expected = "a size is a whole number and a unit: 64KiB, 256MiB, 1GiB";
    let (number, unit) = split_unit(text);
    let number: u64 = number.parse().map_err(|_| expected)?;
    let power = match unit {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        _ => return Err(expected.to_owned()),
    };
    let bytes = number.checked_mul(1 << power);
    bytes.ok_or_else(|| format!("{text} is more than any memory holds"))
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

/// Shows a number of bytes with three digits or so: `17 B`, `1.5 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    bytes_f64(as_f64(count))
}

/// Shows a rate in bytes per second: `1.5 MiB/s`.
pub(crate) fn rate(bytes_per_s: f64) -> String {
    if bytes_per_s < 0.5 {
        return "0".to_owned();
    }
    format!("{}/s", bytes_f64(bytes_per_s))
}

fn bytes_f64(count: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut value, mut unit) = (count, 0);
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {}", units[unit])
}

/// Shows a length of time in milliseconds with three digits or so: `83 µs`, `3.71 ms`, `2.5 s`.
pub(crate) fn millis(ms: f64) -> String {
    let digits = |value: f64| match value {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    if ms < 0.000_5 {
        "0".to_owned()
    } else if ms < 1.0 {
        format!("{:.0} µs", ms * 1000.0)
    } else if ms < 1000.0 {
        format!("{ms:.*} ms", digits(ms))
    } else if ms < 120_000.0 {
        format!("{:.*} s", digits(ms / 1000.0), ms / 1000.0)
    } else {
        clock(ms / 1000.0)
    }
}

/// Shows seconds as `1:02` or `3:04:05`.
pub(crate) fn clock(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds.max(0.0)).map_or(u64::MAX, |d| d.as_secs());
    let (h, m, s) = (whole / 3600, whole / 60 % 60, whole % 60);
    if h > 0 {
        format!("{h}:{m:02}:{s:02}")
    } else {
        format!("{m}:{s:02}")
    }
}

/// Shows a count with separated thousands: `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Shows a count and its noun: `1 page`, `2,000 pages`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// A count as a floating point number, for ratios and pictures.
#[expect(
    clippy::cast_precision_loss,
    reason = "pictures need no more than 52 bits"
)]
pub(crate) fn as_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_units() {
        for (text, ms) in [
            ("10ms", 10),
            ("1.5s", 1500),
            ("2m", 120_000),
            ("1 h", 3_600_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(ms)),
                "{text}"
            );
        }
        assert_eq!(parse_duration("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(parse_duration_or_zero("0s"), Ok(Duration::ZERO));
        for wrong in [
            "",
            "10",
            "ms",
            "-1s",
            "1.2.3s",
            "0ms",
            "9e99d",
            "99999999999999999999d",
        ] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_read_with_their_units() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("256MiB"), Ok(256 << 20));
        assert_eq!(parse_size("1G"), Ok(1 << 30));
        for wrong in ["", "1.5G", "MiB", "3 apples", "99999999999T"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_and_times_show_about_three_digits() {
        let sizes = [0, 999, 1000, 1536, 10_240_000, 1 << 30, u64::MAX].map(bytes);
        assert_eq!(
            sizes,
            [
                "0 B", "999 B", "0.98 KiB", "1.50 KiB", "9.77 MiB", "1.00 GiB", "16.0 EiB"
            ]
        );
        let times = [0.0, 0.083, 3.714, 42.25, 999.0, 2500.0, 3_661_000.0].map(millis);
        assert_eq!(
            times,
            [
                "0", "83 µs", "3.71 ms", "42.2 ms", "999 ms", "2.50 s", "1:01:01"
            ]
        );
        assert_eq!(rate(0.0), "0");
        assert_eq!(rate(2048.0), "2.00 KiB/s");
    }

    #[test]
    fn thousands_are_apart() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(counted(1, "page"), "1 page");
        assert_eq!(counted(2000, "page"), "2,000 pages");
    }
}
