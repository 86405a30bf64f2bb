//! Durations as Go's time.ParseDuration reads them, with its complaints.

const UNITS: &[&str] = &["ns", "us", "µs", "μs", "ms", "s", "m", "h"];

/// Nanoseconds of `1h30m`, `-1.5s`, `0`; or what Go says against the text.
pub fn parse(text: &str) -> Result<i64, String> {
    cel::parse_duration(text).ok_or_else(|| complaint(text))
}

fn complaint(text: &str) -> String {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    while !rest.is_empty() {
        let tail = rest.trim_start_matches(is_number);
        let number = &rest[..rest.len() - tail.len()];
        if !number.contains(|c: char| c.is_ascii_digit()) || number.matches('.').count() > 1 {
            break;
        }
        let unit = &tail[..tail.find(is_number).unwrap_or(tail.len())];
        if unit.is_empty() {
            return format!("time: missing unit in duration {text:?}");
        }
        if !UNITS.contains(&unit) {
            return format!("time: unknown unit {unit:?} in duration {text:?}");
        }
        rest = &tail[unit.len()..];
    }
    format!("time: invalid duration {text:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, wanted) in [
            ("30s", Ok(30_000_000_000)),
            ("1m30s", Ok(90_000_000_000)),
            ("-1.5h", Ok(-5_400_000_000_000)),
            ("+300ms", Ok(300_000_000)),
            ("0", Ok(0)),
            ("30", Err("time: missing unit in duration \"30\"")),
            ("1x", Err("time: unknown unit \"x\" in duration \"1x\"")),
            ("", Err("time: invalid duration \"\"")),
            ("s", Err("time: invalid duration \"s\"")),
            (".s", Err("time: invalid duration \".s\"")),
            ("9999999999999h", Err("time: invalid duration \"9999999999999h\"")),
        ] {
            assert_eq!(parse(text), wanted.map_err(str::to_owned), "{text:?}");
        }
    }
}
