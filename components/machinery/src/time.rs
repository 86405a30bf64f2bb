//! Timestamps as the API writes them, and durations as kubectl prints them (apimachinery `pkg/util/duration`).

use time::{OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

/// `metav1.Time`: RFC 3339, whole seconds, UTC.
pub fn rfc3339(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    at.to_offset(time::UtcOffset::UTC).format(&format).unwrap_or_default()
}

/// `metav1.MicroTime`: RFC 3339 with six digits.
pub fn rfc3339_micro(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
    at.to_offset(time::UtcOffset::UTC).format(&format).unwrap_or_default()
}

pub fn now() -> String {
    rfc3339(OffsetDateTime::now_utc())
}

pub fn now_micro() -> String {
    rfc3339_micro(OffsetDateTime::now_utc())
}

pub fn parse(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

/// How long ago a timestamp was, as kubectl's AGE; `<unknown>` if it cannot be read.
pub fn age(timestamp: &str) -> String {
    age_at(timestamp, OffsetDateTime::now_utc())
}

pub fn age_at(timestamp: &str, now: OffsetDateTime) -> String {
    parse(timestamp).map_or_else(|| "<unknown>".to_owned(), |then| human_duration((now - then).whole_seconds()))
}

/// `5s`, `2m30s`, `45m`, `5h10m`, `23h`, `3d4h`, `90d`, `2y300d`, `9y`.
pub fn human_duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |big: i64, b: &str, small: i64, s: &str| {
        if small == 0 { format!("{big}{b}") } else { format!("{big}{b}{small}{s}") }
    };
    match seconds {
        ..-1 => "<invalid>".into(),
        -1 => "0s".into(),
        0..120 => format!("{seconds}s"),
        120..600 => two(seconds / MINUTE, "m", seconds % MINUTE, "s"),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => two(seconds / HOUR, "h", seconds / MINUTE % 60, "m"),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => two(seconds / DAY, "d", seconds / HOUR % 24, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(s / YEAR, "y", s / DAY % 365, "d"),
        s => format!("{}y", s / YEAR),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn durations() {
        let table = [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (150, "2m30s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (11_100, "3h5m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (176_400, "2d1h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (63_158_400, "2y1d"),
            (400_000_000, "12y"),
            (-5, "<invalid>"),
        ];
        for (seconds, text) in table {
            assert_eq!(human_duration(seconds), text);
        }
    }

    #[test]
    fn timestamps_read_back() {
        let at = parse("2026-11-21T01:02:03.456789Z").unwrap();
        assert_eq!(rfc3339(at), "2026-11-21T01:02:03Z");
        assert_eq!(rfc3339_micro(at), "2026-11-21T01:02:03.456789Z");
        assert_eq!(age_at("2026-11-21T01:00:03Z", at), "2m");
        assert_eq!(age_at("x", at), "<unknown>");
    }
}
