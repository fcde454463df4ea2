//! Timestamps as text: RFC 3339 in UTC with three decimals.

use std::fmt::Write as _;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

const NANOSECONDS_PER_MILLISECOND: i128 = 1_000_000;

/// The text of a timestamp in milliseconds since 1970, `2024-02-29T12:00:00.000Z`.
///
/// `None` outside the years 0000 to 9999, which RFC 3339 cannot write; stock Automerge clients
/// can make such timestamps. They are shown as their number of milliseconds.
pub(super) fn print(ms: i64) -> Option<String> {
    let nanoseconds = i128::from(ms) * NANOSECONDS_PER_MILLISECOND;
    let at = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok()?;
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second, millisecond) = at.to_hms_milli();
    if year < 0 {
        return None;
    }
    let mut text = String::with_capacity("2024-02-29T12:00:00.000Z".len());
    let month = u8::from(month);
    let written = write!(
        text,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z"
    );
    written.ok().map(|()| text)
}

/// The milliseconds since 1970 that an RFC 3339 date and time names, in any offset.
///
/// `None` if it is none, or is finer than a millisecond, which would be lost.
pub(super) fn parse(text: &str) -> Option<i64> {
    let nanoseconds = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
    if nanoseconds % NANOSECONDS_PER_MILLISECOND != 0 {
        return None;
    }
    i64::try_from(nanoseconds / NANOSECONDS_PER_MILLISECOND).ok()
}

#[cfg(test)]
mod tests {
    use super::{parse, print};

    #[test]
    fn known_instants_are_printed_and_read() {
        let instants = [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_714_564_800_123, "2024-05-01T12:00:00.123Z"),
            (-62_167_219_200_000, "0000-01-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ];
        for (ms, text) in instants {
            assert_eq!(print(ms).as_deref(), Some(text));
            assert_eq!(parse(text), Some(ms));
        }
    }

    #[test]
    fn years_that_rfc_3339_cannot_write_have_no_text() {
        for ms in [-62_167_219_200_001, 253_402_300_800_000, i64::MIN, i64::MAX] {
            assert_eq!(print(ms), None);
        }
    }

    #[test]
    fn other_spellings_of_an_instant_are_read() {
        for text in
            ["1970-01-01T00:00:00Z", "1970-01-01T02:00:00.0+02:00", "1970-01-01T00:00:00.000000Z"]
        {
            assert_eq!(parse(text), Some(0), "{text}");
        }
    }

    #[test]
    fn text_that_is_no_whole_millisecond_is_refused() {
        for text in [
            "",
            "1970-01-01",
            "1970-01-01T00:00:00",
            "1970-01-01T00:00:00.0001Z",
            "1970-02-29T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "2016-12-31T23:59:60Z",
            "0",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
