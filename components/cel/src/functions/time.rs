//! Durations and timestamps: texts and parts.

use time::{Date, Month, OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

use super::{Answer, Function, no_overload, operators::in_range};
use crate::{eval::Fault, value::Val};

/// A part of a timestamp in a time zone; some are parts of durations too.
macro_rules! part {
    ($name:literal, $of_time:expr) => {
        Function {
            name: $name,
            overloads: &[
                ("timestamp_part", "timestamp.() -> int"),
                ("timestamp_part_with_tz", "timestamp.(string) -> int"),
            ],
            run: |_, args| timestamp_part(args, $of_time),
        }
    };
    ($name:literal, $of_time:expr, $nanos:expr) => {
        Function {
            name: $name,
            overloads: &[
                ("timestamp_part", "timestamp.() -> int"),
                ("timestamp_part_with_tz", "timestamp.(string) -> int"),
                ("duration_part", "duration.() -> int"),
            ],
            run: |_, args| match args {
                [Val::Duration(nanos)] => Ok(Val::Int($nanos(*nanos))),
                _ => timestamp_part(args, $of_time),
            },
        }
    };
}

pub(super) static TABLE: &[Function] = &[
    part!("getFullYear", |t| t.year().into()),
    part!("getMonth", |t| i64::from(u8::from(t.month())) - 1),
    part!("getDate", |t| t.day().into()),
    part!("getDayOfMonth", |t| i64::from(t.day()) - 1),
    part!("getDayOfWeek", |t| t.weekday().number_days_from_sunday().into()),
    part!("getDayOfYear", |t| i64::from(t.ordinal()) - 1),
    part!("getHours", |t| t.hour().into(), |n| n / 3_600_000_000_000),
    part!("getMinutes", |t| t.minute().into(), |n| n / 60_000_000_000),
    part!("getSeconds", |t| t.second().into(), |n| n / 1_000_000_000),
    part!("getMilliseconds", |t| t.millisecond().into(), |n| n / 1_000_000),
];

fn timestamp_part<'a>(args: &[Val<'a>], part: fn(OffsetDateTime) -> i64) -> Answer<'a> {
    match args {
        [Val::Timestamp(at)] => Ok(Val::Int(part(*at))),
        [Val::Timestamp(at), Val::Str(zone)] => Ok(Val::Int(part(at.to_offset(offset(zone, *at)?)))),
        _ => no_overload(args),
    }
}

/// The offset of a zone (`America/New_York`, or fixed: `-08:00`) at a moment.
fn offset(zone: &str, at: OffsetDateTime) -> Result<UtcOffset, Fault> {
    let moment = jiff::Timestamp::from_second(at.unix_timestamp()).ok();
    if let (Some(zone), Some(moment)) = (cron::zone(zone), moment) {
        return UtcOffset::from_whole_seconds(zone.to_offset(moment).seconds())
            .map_err(|_| Fault::new("time zone offset out of range"));
    }
    let (negative, digits) = match zone.as_bytes().first() {
        Some(b'-') => (true, &zone[1..]),
        Some(b'+') => (false, &zone[1..]),
        _ => (false, zone),
    };
    let parts = digits.split_once(':').and_then(|(h, m)| Some((h.parse::<i8>().ok()?, m.parse::<i8>().ok()?)));
    parts
        .and_then(
            |(h, m)| if negative { UtcOffset::from_hms(-h, -m, 0).ok() } else { UtcOffset::from_hms(h, m, 0).ok() },
        )
        .ok_or_else(|| Fault::new(format!("unknown time zone {zone}")))
}

/// RFC 3339; with `date`, also a day alone.
pub fn parse_timestamp(text: &str, date: bool) -> Option<OffsetDateTime> {
    if date && text.len() == 10 {
        let mut parts = text.split('-');
        let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
        let month = Month::try_from(month.parse::<u8>().ok()?).ok()?;
        let day = Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()?;
        return Some(day.midnight().assume_utc());
    }
    OffsetDateTime::parse(text, &Rfc3339).ok().map(|t| t.to_offset(UtcOffset::UTC)).filter(in_range)
}

/// Go's duration texts: `1h30m`, `-1.5s`, `100ms`; in nanoseconds.
pub fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: i128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        total = total.checked_add(scaled(number, scale)?)?;
        rest = tail;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// A decimal number times a scale, rounded down.
fn scaled(number: &str, scale: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut result = whole.checked_mul(scale)?;
    let mut unit = scale;
    for digit in fraction.bytes() {
        unit /= 10;
        result += unit * i128::from(digit - b'0');
    }
    Some(result)
}

/// Seconds with their fraction: `90s`, `0.5s`.
pub fn duration_text(nanos: i64) -> String {
    let (seconds, fraction) = (nanos / 1_000_000_000, (nanos % 1_000_000_000).unsigned_abs());
    let sign = if nanos < 0 && seconds == 0 { "-" } else { "" };
    if fraction == 0 {
        return format!("{seconds}s");
    }
    format!("{sign}{seconds}.{}s", format!("{fraction:09}").trim_end_matches('0'))
}

pub fn timestamp_text(at: OffsetDateTime) -> String {
    at.to_offset(UtcOffset::UTC).format(&Rfc3339).unwrap_or_default()
}
