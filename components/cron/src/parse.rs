//! The text of a schedule (the grammar of robfig/cron's `ParseStandard`).

use std::time::Duration;

use crate::{Fields, Kind, ParseError, Set};

type Parsed<T> = Result<T, ParseError>;

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const DESCRIPTORS: &[(&str, &str)] = &[
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// What numbers and names a field takes.
struct Bounds {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const MINUTES: Bounds = Bounds { min: 0, max: 59, names: &[] };
const HOURS: Bounds = Bounds { min: 0, max: 23, names: &[] };
const DAYS: Bounds = Bounds { min: 1, max: 31, names: &[] };
const MONTH: Bounds = Bounds { min: 1, max: 12, names: &MONTHS };
const WEEKDAY: Bounds = Bounds { min: 0, max: 6, names: &WEEKDAYS };

fn fail<T>(text: impl Into<String>) -> Parsed<T> {
    Err(ParseError(text.into()))
}

pub(crate) fn schedule(text: &str) -> Parsed<Kind> {
    if text.is_empty() {
        return fail("empty spec string");
    }
    let mut text = text;
    for prefix in ["TZ=", "CRON_TZ="] {
        if let Some(rest) = text.strip_prefix(prefix) {
            let (name, fields) = rest.split_once(' ').unwrap_or((rest, ""));
            if crate::zone(name).is_none() {
                return fail(format!("provided bad location {name}: unknown time zone {name}"));
            }
            text = fields.trim();
        }
    }
    if text.starts_with('@') {
        return descriptor(text);
    }
    fields(text).map(Kind::Fields)
}

fn descriptor(text: &str) -> Parsed<Kind> {
    if let Some((_, meaning)) = DESCRIPTORS.iter().find(|(name, _)| *name == text) {
        return fields(meaning).map(Kind::Fields);
    }
    let Some(pause) = text.strip_prefix("@every ") else { return fail(format!("unrecognized descriptor: {text}")) };
    match duration(pause) {
        Some(pause) => Ok(Kind::Every(Duration::from_secs(pause.as_secs().max(1)))),
        None => fail(format!("failed to parse duration {text}: time: invalid duration \"{pause}\"")),
    }
}

/// Go's duration: `1h30m`, `90s`, `1.5h`.
fn duration(text: &str) -> Option<Duration> {
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit_end = rest[end..].find(|c: char| c.is_ascii_digit() || c == '.').map_or(rest.len(), |at| end + at);
        let seconds = match &rest[end..unit_end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number * seconds;
        rest = &rest[unit_end..];
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(total).ok()).flatten()
}

fn fields(text: &str) -> Parsed<Fields> {
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [minutes, hours, days, months, weekdays] = parts.as_slice() else {
        return fail(format!("expected exactly 5 fields, found {}: [{}]", parts.len(), parts.join(" ")));
    };
    let (minutes, _) = list(minutes, &MINUTES)?;
    let (hours, _) = list(hours, &HOURS)?;
    let (days, any_day) = list(days, &DAYS)?;
    let (months, _) = list(months, &MONTH)?;
    let (weekdays, any_weekday) = list(weekdays, &WEEKDAY)?;
    Ok(Fields { minutes, hours, days, months, weekdays, any_day, any_weekday })
}

/// The numbers of a field; whether a star was among its parts.
fn list(text: &str, bounds: &Bounds) -> Parsed<(Set, bool)> {
    let (mut set, mut star) = (0, false);
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (numbers, is_star) = range(part, bounds)?;
        set |= numbers;
        star |= is_star;
    }
    Ok((Set(set), star))
}

fn range(text: &str, bounds: &Bounds) -> Parsed<(u64, bool)> {
    let halves: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = halves[0].split('-').collect();
    let mut star = matches!(ends[0], "*" | "?");
    let (start, mut end) = if star {
        (bounds.min, bounds.max)
    } else {
        let start = number(ends[0], bounds)?;
        match ends.as_slice() {
            [_] => (start, start),
            [_, end] => (start, number(end, bounds)?),
            _ => return fail(format!("too many hyphens: {text}")),
        }
    };
    let step = match halves.as_slice() {
        [_] => 1,
        [_, step] => {
            let step = integer(step)?;
            // "5/20" is "5-59/20"
            if ends.len() == 1 {
                end = bounds.max;
            }
            star &= step <= 1;
            step
        }
        _ => return fail(format!("too many slashes: {text}")),
    };
    if start < bounds.min {
        return fail(format!("beginning of range ({start}) below minimum ({}): {text}", bounds.min));
    }
    if end > bounds.max {
        return fail(format!("end of range ({end}) above maximum ({}): {text}", bounds.max));
    }
    if start > end {
        return fail(format!("beginning of range ({start}) beyond end of range ({end}): {text}"));
    }
    let Ok(step) = usize::try_from(step) else { return fail(format!("step of range is too large: {text}")) };
    if step == 0 {
        return fail(format!("step of range should be a positive number: {text}"));
    }
    Ok(((start..=end).step_by(step).fold(0, |set, n| set | 1 << n), star))
}

fn number(text: &str, bounds: &Bounds) -> Parsed<u32> {
    let lower = text.to_lowercase();
    match bounds.names.iter().position(|name| *name == lower).and_then(|at| u32::try_from(at).ok()) {
        Some(at) => Ok(at + bounds.min),
        None => integer(text),
    }
}

fn integer(text: &str) -> Parsed<u32> {
    let parsed: Result<i64, _> = text.parse();
    match parsed {
        Ok(n) if n < 0 => fail(format!("negative number ({n}) not allowed: {text}")),
        Ok(n) => u32::try_from(n).or_else(|_| fail(format!("end of range ({n}) above maximum: {text}"))),
        Err(_) => fail(format!("failed to parse int from {text}: strconv.Atoi: parsing \"{text}\": invalid syntax")),
    }
}
