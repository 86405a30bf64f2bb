//! Resource quantities (apimachinery `pkg/api/resource`): `100m`, `1.5Gi`, `2e3`.
//!
//! Exact: a quantity is an integer number of nano-units. What is finer is rounded up, as upstream does; what is larger than about
//! 1.7e29 is capped.

use std::{
    cmp::Ordering,
    fmt,
    ops::{Add, Sub},
    str::FromStr,
};

const NANO: i128 = 1_000_000_000;

/// How a quantity is written; kept from its first text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    BinarySi,
    DecimalSi,
    DecimalExponent,
}

#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
pub struct ParseError;

const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

impl Quantity {
    pub fn from_int(value: i64, format: Format) -> Self {
        Quantity { nano: i128::from(value) * NANO, format }
    }

    pub fn from_milli(value: i64) -> Self {
        Quantity { nano: i128::from(value) * (NANO / 1000), format: Format::DecimalSi }
    }

    pub fn zero() -> Self {
        Self::from_int(0, Format::DecimalSi)
    }

    pub fn is_zero(self) -> bool {
        self.nano == 0
    }

    /// -1, 0 or 1.
    pub fn sign(self) -> i32 {
        i32::from(self.nano > 0) - i32::from(self.nano < 0)
    }

    /// Whole units, rounded up, capped to 64 bits.
    pub fn value(self) -> i64 {
        clamp(div_up(self.nano, NANO))
    }

    /// Thousandths, rounded up, capped to 64 bits.
    pub fn milli_value(self) -> i64 {
        clamp(div_up(self.nano, NANO / 1000))
    }

    pub fn is_integer(self) -> bool {
        self.nano % NANO == 0
    }

    /// The nearest double.
    pub fn approximate(self) -> f64 {
        self.nano as f64 / NANO as f64
    }
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value > 0 { i64::MAX } else { i64::MIN })
}

/// Away from zero, as upstream's scaling rounds.
fn div_up(value: i128, by: i128) -> i128 {
    let (whole, rest) = (value / by, value % by);
    whole + rest.signum()
}

/// Number and rest: the sign, digits and point, then the suffix.
fn split(text: &str) -> (&str, &str) {
    let end = text
        .char_indices()
        .find(|(i, c)| !(c.is_ascii_digit() || *c == '.' || (*i == 0 && "+-".contains(*c))))
        .map_or(text.len(), |(i, _)| i);
    text.split_at(end)
}

impl FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (number, suffix) = split(text);
        let negative = number.starts_with('-');
        let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(ParseError);
        }
        let (format, scale) = parse_suffix(suffix)?;
        let magnitude = magnitude(whole, fraction, scale);
        Ok(Quantity { nano: if negative { -magnitude } else { magnitude }, format })
    }
}

/// What the suffix multiplies by: two or ten to a power.
#[derive(Clone, Copy)]
enum Scale {
    Two(u32),
    Ten(i32),
}

fn parse_suffix(suffix: &str) -> Result<(Format, Scale), ParseError> {
    if let Some((_, bits)) = BINARY.iter().find(|(s, _)| *s == suffix) {
        return Ok((Format::BinarySi, Scale::Two(*bits)));
    }
    if let Some((_, power)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
        return Ok((Format::DecimalSi, Scale::Ten(*power)));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(ParseError)?;
    let power: i32 = exponent.strip_prefix('+').unwrap_or(exponent).parse().map_err(|_| ParseError)?;
    Ok((Format::DecimalExponent, Scale::Ten(power)))
}

/// Nano-units of `whole.fraction` times the scale, rounded up and capped.
fn magnitude(whole: &str, fraction: &str, scale: Scale) -> i128 {
    const CAP: i128 = i128::MAX / 1000;
    let fraction = fraction.trim_end_matches('0');
    let mut places = i64::try_from(fraction.len()).unwrap_or(i64::MAX);
    let mut value: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        value = match value.checked_mul(10).and_then(|v| v.checked_add(i128::from(digit - b'0'))) {
            Some(v) => v,
            None => return CAP,
        };
    }
    if value == 0 {
        return 0;
    }
    let multiplied = match scale {
        Scale::Two(bits) => value.checked_mul(1 << bits),
        Scale::Ten(power) => {
            places -= i64::from(power);
            Some(value)
        }
    };
    let Some(value) = multiplied else { return CAP };
    scaled(value, 9 - places).unwrap_or(CAP).min(CAP)
}

/// `value` times ten to `power`, rounded up.
fn scaled(value: i128, power: i64) -> Option<i128> {
    let steps = u32::try_from(power.unsigned_abs()).unwrap_or(u32::MAX);
    match 10i128.checked_pow(steps) {
        Some(ten) if power >= 0 => value.checked_mul(ten),
        Some(ten) => Some(div_up(value, ten)),
        None if power >= 0 => None,
        None => Some(1),
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that allows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        // small or fractional binary quantities are written in decimal, as upstream
        if self.format == Format::BinarySi && self.nano % NANO == 0 && self.nano.abs() >= 1024 * NANO {
            return self.fmt_binary(f);
        }
        let mut value = self.nano;
        let mut power = -9;
        while value % 1000 == 0 && power < 18 {
            value /= 1000;
            power += 3;
        }
        match self.format {
            Format::DecimalExponent if power != 0 => write!(f, "{value}e{power}"),
            _ => {
                let suffix = DECIMAL.iter().find(|(_, p)| *p == power).map_or("", |(s, _)| s);
                write!(f, "{value}{suffix}")
            }
        }
    }
}

impl Quantity {
    fn fmt_binary(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.nano / NANO;
        let mut suffix = "";
        for (name, _) in BINARY {
            if value % 1024 != 0 {
                break;
            }
            value /= 1024;
            suffix = name;
        }
        write!(f, "{value}{suffix}")
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl Add for Quantity {
    type Output = Self;

    /// Zero takes the other's format.
    fn add(self, other: Self) -> Self {
        let format = if self.nano == 0 { other.format } else { self.format };
        Quantity { nano: self.nano.saturating_add(other.nano), format }
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        let format = if self.nano == 0 { other.format } else { self.format };
        Quantity { nano: self.nano.saturating_sub(other.nano), format }
    }
}

/// A quantity from JSON: a string, or a bare number.
pub fn from_json(value: &serde_json::Value) -> Result<Quantity, ParseError> {
    match value {
        serde_json::Value::String(text) => text.parse(),
        serde_json::Value::Number(number) => number.to_string().parse(),
        _ => Err(ParseError),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn q(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    #[test]
    fn canonical_forms() {
        let table = [
            ("0", "0"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("1.5", "1500m"),
            ("0.5Gi", "512Mi"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1000k", "1M"),
            ("2e3", "2e3"),
            ("1500", "1500"),
            ("12e6", "12e6"),
            ("1E", "1E"),
            ("-5m", "-5m"),
            ("1Ki", "1Ki"),
            ("1023Ki", "1023Ki"),
            ("0.001Ki", "1024m"),
            (".5", "500m"),
            ("5.", "5"),
            ("1e-3", "1e-3"),
            ("0.1n", "1n"),
            ("100000", "100k"),
        ];
        for (text, canonical) in table {
            assert_eq!(q(text).to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn bad_texts() {
        for text in ["", "x", "1x", "1.2.3", "1 ", "--1", "Ki", ".", "1e", "1Kii", "1ki"] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }

    #[test]
    fn arithmetic() {
        assert_eq!(q("1Gi") + q("1Gi"), q("2Gi"));
        assert_eq!((q("100m") + q("0.9")).to_string(), "1");
        assert!(q("1Gi") > q("1G") && q("0.1") == q("100m"));
        assert_eq!((q("1m").value(), q("1.1").milli_value(), q("-1.5").value()), (1, 1100, -2));
        assert_eq!(q("99999999999999999999999999999999999999999999999").value(), i64::MAX);
    }

    #[test]
    fn canonical_is_stable() {
        for n in 0..2000i64 {
            for suffix in ["m", "", "k", "Ki", "Mi", "e3"] {
                let first = q(&format!("{n}{suffix}"));
                assert_eq!(q(&first.to_string()), first);
                assert_eq!(q(&first.to_string()).to_string(), first.to_string());
            }
        }
    }
}
