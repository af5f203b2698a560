//! Wall-clock times in JSON: RFC 3339 in UTC with milliseconds, in the one form that we write.

use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

/// `2026-11-21T09:30:00.000Z` from Unix milliseconds.
pub(crate) fn format(unix_ms: u64) -> String {
    let (days, in_day) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let (year, month, day) = civil(days);
    let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
    let (second, ms) = (in_day / 1_000 % 60, in_day % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// The inverse of [`format`]; any other form, and any time before 1970, is refused.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| -> Option<u64> {
        let digits = text.get(range)?;
        digits
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| digits.parse().ok())?
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    if year < 1970 || !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let in_day = number(11..13)? * 3_600_000 + number(14..16)? * 60_000 + number(17..19)? * 1_000 + number(20..23)?;
    let unix_ms = days(year, month, day) * 86_400_000 + in_day;
    // Whatever is out of range or of another form does not come back as it was.
    (format(unix_ms) == text).then_some(unix_ms)
}

/// Days since 1970-01-01, proleptic Gregorian. The year is counted from March, so that the leap
/// day is its last.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    // A first guess that is never too early.
    let mut year = days * 400 / 146_097 + 1;
    let first = |year: u64| year * 365 + year / 4 - year / 100 + year / 400;
    while first(year) > days {
        year -= 1;
    }
    let in_year = days - first(year);
    let month = (5 * in_year + 2) / 153;
    let day = in_year - (153 * month + 2) / 5 + 1;
    if month < 10 {
        (year, month + 3, day)
    } else {
        (year + 1, month - 9, day)
    }
}

pub(crate) fn serialize<S: Serializer>(unix_ms: &u64, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&format(*unix_ms))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    parse(&String::deserialize(from)?).ok_or_else(|| D::Error::custom("not a time in UTC"))
}

/// The same for a time that may be missing.
pub(crate) mod optional {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(at: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(unix_ms) => to.serialize_some(&format(*unix_ms)),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        Option::<String>::deserialize(from)?
            .map(|text| parse(&text).ok_or_else(|| D::Error::custom("not a time in UTC")))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_200_000, "2024-03-01T00:00:00.000Z"),
            (1_767_225_599_000, "2025-12-31T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(format(unix_ms), text);
            assert_eq!(parse(text), Some(unix_ms));
        }
    }

    #[test]
    fn every_day_for_a_thousand_years() {
        for day in 0..366_000 {
            let unix_ms = day * 86_400_000 + 1;
            assert_eq!(parse(&format(unix_ms)), Some(unix_ms));
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for text in [
            "",
            "1970-01-01T00:00:00Z",
            "1970-02-30T00:00:00.000Z",
            "1970-01-01T24:00:00.000Z",
            "1970-01-01 00:00:00.000Z",
            "+970-01-01T00:00:00.000Z",
            "1970-01-01T00:00:00.000+",
            "1970-01-01T00:00:00.000Z ",
            "1970-0é-01T00:00:00.000Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
