//! Where reading begins and ends, as users write it.
//!
//! | text | meaning |
//! |---|---|
//! | `start`, `end` | the log's start, its end |
//! | `47` | that offset |
//! | `+2`, `-3` | two behind the start, three before the end |
//! | `10:20`, `10:`, `:end` | from, and up to but not including |
//! | `@TIME`, `@TIME:@TIME` | the first record at or after a time |
//! | `s@TIME`, `e@TIME` | from, up to a time, alone |
//!
//! A time is Unix seconds or milliseconds, RFC 3339, YYYY-MM-DD (UTC), or an age such as -1h.

use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::cli::terminal::context::parse_duration;

/// One end of what is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    /// The log start offset.
    Start,
    /// The high watermark at the time of asking.
    End,
    /// This offset.
    Exact(i64),
    /// So many offsets behind the start.
    FromStart(i64),
    /// So many offsets before the end.
    BeforeEnd(i64),
    /// The first record at or after a time.
    Time(Time),
}

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
    /// Unix milliseconds.
    At(i64),
    /// Milliseconds before now.
    Ago(i64),
}

/// What is read: `from` inclusive, `to` exclusive; without `to` there is no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OffsetRange {
    /// Where reading begins; the start when nothing was said.
    pub(super) from: Option<Point>,
    /// Where it ends.
    pub(super) to: Option<Point>,
}

impl Time {
    /// Unix milliseconds.
    pub(super) fn unix_ms(self, now_ms: i64) -> i64 {
        match self {
            Self::At(time) => time,
            Self::Ago(age) => now_ms.saturating_sub(age),
        }
    }
}

impl OffsetRange {
    /// Everything, for ever.
    pub(super) const ALL: Self = Self {
        from: None,
        to: None,
    };

    /// Both: what `other` leaves open stays.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            from: other.from.or(self.from),
            to: other.to.or(self.to),
        }
    }
}

impl FromStr for OffsetRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "stored" {
            return Err("consumer groups do not exist yet, and with them no stored offsets".into());
        }
        if let Some(time) = text.strip_prefix("s@") {
            let from = Some(Point::Time(time.parse()?));
            return Ok(Self { from, to: None });
        }
        if let Some(time) = text.strip_prefix("e@") {
            let to = Some(Point::Time(time.parse()?));
            return Ok(Self { from: None, to });
        }
        match point(text) {
            Some(from) => Ok(Self {
                from: Some(from),
                to: None,
            }),
            None => range(text).ok_or_else(|| wrong(text)),
        }
    }
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        time(text).ok_or_else(|| {
            format!(
                "'{text}' is no time: Unix seconds or milliseconds, RFC 3339, YYYY-MM-DD or an age \
                 such as -1h"
            )
        })
    }
}

fn wrong(text: &str) -> String {
    format!("'{text}' is no offset: start, end, 47, +2, -3, 10:20, @2024-05-01, @-1h:end")
}

/// Times have colons of their own: the first colon with sense on both sides divides.
fn range(text: &str) -> Option<OffsetRange> {
    let is_time = text.starts_with('@');
    text.match_indices(':').find_map(|(at, _)| {
        let (from, to) = (&text[..at], &text[at + 1..]);
        let to_point = |to: &str| match point(to) {
            Some(Point::Exact(_)) | None if is_time => time(to).map(Point::Time),
            found => found,
        };
        let optional = |text: &str, read: &dyn Fn(&str) -> Option<Point>| match text {
            "" => Some(None),
            text => read(text).map(Some),
        };
        let range = OffsetRange {
            from: optional(from, &point)?,
            to: optional(to, &to_point)?,
        };
        (range != OffsetRange::ALL).then_some(range)
    })
}

fn point(text: &str) -> Option<Point> {
    let offset = |digits: &str| {
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<i64>().ok().filter(|_| plain)
    };
    match text {
        "start" => return Some(Point::Start),
        "end" => return Some(Point::End),
        _ => {}
    }
    match text.split_at_checked(1)? {
        ("@", rest) => time(rest).map(Point::Time),
        ("+", rest) => offset(rest).map(Point::FromStart),
        ("-", rest) => offset(rest).map(Point::BeforeEnd),
        _ => offset(text).map(Point::Exact),
    }
}

fn time(text: &str) -> Option<Time> {
    if let Some(age) = text.strip_prefix('-') {
        return age_ms(age).map(Time::Ago);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number: i64 = text.parse().ok()?;
        // Eleven digits of seconds reach the year 5138; of milliseconds, 1973.
        let is_seconds = text.len() <= 11;
        return Some(Time::At(if is_seconds { number * 1000 } else { number }));
    }
    // A date may be written with a time behind it, which is then a timestamp.
    if let Some(date) = text.parse::<Date>().ok().filter(|_| text.len() == 10) {
        let midnight = date.to_zoned(TimeZone::UTC).ok()?;
        return Some(Time::At(midnight.timestamp().as_millisecond()));
    }
    let timestamp: Timestamp = text.parse().ok()?;
    Some(Time::At(timestamp.as_millisecond()))
}

fn age_ms(text: &str) -> Option<i64> {
    let days = text
        .strip_suffix('d')
        .and_then(|days| days.parse::<i64>().ok());
    if let Some(days) = days {
        return days.checked_mul(86_400_000);
    }
    let age = parse_duration(text).ok()?;
    i64::try_from(age.0.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<Point>, Option<Point>) {
        let range: OffsetRange = text.parse().unwrap_or_else(|error| panic!("{error}"));
        (range.from, range.to)
    }

    #[test]
    fn points() {
        assert_eq!(read("start"), (Some(Point::Start), None));
        assert_eq!(read("end"), (Some(Point::End), None));
        assert_eq!(read("47"), (Some(Point::Exact(47)), None));
        assert_eq!(read("+2"), (Some(Point::FromStart(2)), None));
        assert_eq!(read("-3"), (Some(Point::BeforeEnd(3)), None));
    }

    #[test]
    fn ranges() {
        let exact = |offset| Some(Point::Exact(offset));
        assert_eq!(read("10:20"), (exact(10), exact(20)));
        assert_eq!(read("10:"), (exact(10), None));
        assert_eq!(read(":20"), (None, exact(20)));
        assert_eq!(read(":end"), (None, Some(Point::End)));
        assert_eq!(
            read("-10:end"),
            (Some(Point::BeforeEnd(10)), Some(Point::End))
        );
        assert_eq!(
            read("start:+5"),
            (Some(Point::Start), Some(Point::FromStart(5)))
        );
    }

    #[test]
    fn times() {
        let at = |ms| Some(Point::Time(Time::At(ms)));
        assert_eq!(read("@1700000000"), (at(1_700_000_000_000), None));
        assert_eq!(read("@1700000000123"), (at(1_700_000_000_123), None));
        assert_eq!(read("@2023-11-14"), (at(1_699_920_000_000), None));
        assert_eq!(read("@2023-11-14T22:13:20Z"), (at(1_700_000_000_000), None));
        assert_eq!(
            read("@2023-11-14T23:13:20+01:00"),
            (at(1_700_000_000_000), None)
        );
        assert_eq!(
            read("@-1h"),
            (Some(Point::Time(Time::Ago(3_600_000))), None)
        );
        assert_eq!(read("s@1700000000"), (at(1_700_000_000_000), None));
        assert_eq!(read("e@1700000000"), (None, at(1_700_000_000_000)));
    }

    #[test]
    fn ranges_of_times_have_colons_within() {
        let at = |ms| Some(Point::Time(Time::At(ms)));
        let both = (at(1_700_000_000_000), at(1_700_000_060_000));
        assert_eq!(read("@2023-11-14T22:13:20Z:@2023-11-14T22:14:20Z"), both);
        assert_eq!(read("@2023-11-14T22:13:20Z:2023-11-14T22:14:20Z"), both);
        assert_eq!(read("@1700000000:1700000060"), both);
        let days = |days: i64| Some(Point::Time(Time::Ago(days * 86_400_000)));
        assert_eq!(read("@-2d:@-1d"), (days(2), days(1)));
        assert_eq!(read("@-2d:-1d"), (days(2), days(1)));
        assert_eq!(read("@-2d:end"), (days(2), Some(Point::End)));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            ":",
            "x",
            "--3",
            "+-3",
            "1.5",
            "10:x",
            "x:10",
            "@",
            "@x",
            "s@",
            "e@x",
            "@-1y",
            "99999999999999999999",
            "@2023-13-01",
            "1:2:3",
            "é",
        ] {
            assert!(text.parse::<OffsetRange>().is_err(), "{text}");
        }
        let stored = "stored".parse::<OffsetRange>().unwrap_err();
        assert!(stored.contains("groups do not exist yet"), "{stored}");
    }

    #[test]
    fn later_words_complete_earlier_ones() {
        let [from, to]: [OffsetRange; 2] = ["s@1", "e@2"].map(|text| text.parse().unwrap());
        let both = OffsetRange::ALL.and(from).and(to);
        assert_eq!(both.from, Some(Point::Time(Time::At(1000))));
        assert_eq!(both.to, Some(Point::Time(Time::At(2000))));
    }

    #[test]
    fn ages_count_back_from_now() {
        assert_eq!(Time::Ago(10).unix_ms(100), 90);
        assert_eq!(Time::At(10).unix_ms(100), 10);
    }
}
