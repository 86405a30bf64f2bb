//! Resource quantities as numbers: exact, rounded up as upstream rounds.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const NANO: i128 = 1_000_000_000;

/// In billionths; `None` if it is not a quantity.
pub fn parse(text: &str) -> Option<i128> {
    let text = text.trim();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let mantissa = decimal(number)?;
    let scaled = match suffix {
        "" => mantissa,
        "n" => mantissa / NANO,
        "u" => mantissa / 1_000_000,
        "m" => mantissa / 1000,
        "k" => mantissa.checked_mul(1000)?,
        "M" => mantissa.checked_mul(1_000_000)?,
        "G" => mantissa.checked_mul(NANO)?,
        "T" => mantissa.checked_mul(1000 * NANO)?,
        "P" => mantissa.checked_mul(1_000_000 * NANO)?,
        "E" => mantissa.checked_mul(NANO * NANO)?,
        "Ki" => mantissa.checked_mul(1 << 10)?,
        "Mi" => mantissa.checked_mul(1 << 20)?,
        "Gi" => mantissa.checked_mul(1 << 30)?,
        "Ti" => mantissa.checked_mul(1 << 40)?,
        "Pi" => mantissa.checked_mul(1 << 50)?,
        "Ei" => mantissa.checked_mul(1 << 60)?,
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let factor = 10i128.checked_pow(exponent.unsigned_abs())?;
            if exponent < 0 { mantissa / factor } else { mantissa.checked_mul(factor)? }
        }
    };
    Some(scaled)
}

fn decimal(number: &str) -> Option<i128> {
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut value = whole.checked_mul(NANO)?;
    for (place, digit) in fraction.chars().take(9).enumerate() {
        value += i128::from(digit.to_digit(10)?) * 10i128.pow(8 - u32::try_from(place).ok()?);
    }
    Some(if negative { -value } else { value })
}

fn ceil(value: i128, unit: i128) -> i64 {
    i64::try_from(value.div_euclid(unit) + i128::from(value.rem_euclid(unit) != 0)).unwrap_or(i64::MAX)
}

/// Thousandths, rounded up; 0 if it is not a quantity.
pub fn milli(quantity: &Quantity) -> i64 {
    parse(&quantity.0).map_or(0, |n| ceil(n, NANO / 1000))
}

/// Whole units, rounded up; 0 if it is not a quantity.
pub fn value(quantity: &Quantity) -> i64 {
    parse(&quantity.0).map_or(0, |n| ceil(n, NANO))
}

/// How many `divisor`s fit, rounded up; a missing or zero divisor counts as one.
pub fn divided(quantity: &Quantity, divisor: Option<&Quantity>) -> i64 {
    let value = parse(&quantity.0).unwrap_or(0);
    let divisor = divisor.and_then(|d| parse(&d.0)).filter(|d| *d > 0).unwrap_or(NANO);
    ceil(value, divisor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn q(text: &str) -> Quantity {
        Quantity(text.into())
    }

    #[test]
    fn suffixes() {
        assert_eq!(milli(&q("100m")), 100);
        assert_eq!(milli(&q("1.5")), 1500);
        assert_eq!(milli(&q("1n")), 1);
        assert_eq!(value(&q("64Mi")), 64 << 20);
        assert_eq!(value(&q("1e3")), 1000);
        assert_eq!(value(&q("12E2")), 1200);
        assert_eq!(value(&q("1.5Gi")), 3 << 29);
        assert_eq!(value(&q("nonsense")), 0);
    }

    #[test]
    fn division_rounds_up() {
        assert_eq!(divided(&q("1250m"), None), 2);
        assert_eq!(divided(&q("1250m"), Some(&q("1m"))), 1250);
        assert_eq!(divided(&q("64Mi"), Some(&q("1Mi"))), 64);
        assert_eq!(divided(&q("65Mi"), Some(&q("64Mi"))), 2);
        assert_eq!(divided(&q("1"), Some(&q("0"))), 1);
    }
}
