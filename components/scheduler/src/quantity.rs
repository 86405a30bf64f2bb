//! Reads quantities (<https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>) as integers, rounding up.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The quantity in whole units; 0 when it cannot be read (the API server refuses such values).
pub fn value(quantity: &Quantity) -> i64 {
    scaled(&quantity.0, 1).unwrap_or(0)
}

/// The quantity in thousandths: cores as millicores.
pub fn milli_value(quantity: &Quantity) -> i64 {
    scaled(&quantity.0, 1000).unwrap_or(0)
}

fn scaled(text: &str, scale: i128) -> Option<i64> {
    let text = text.trim();
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let fraction = &fraction[..fraction.len().min(12)];
    let mantissa: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let (factor, divisor) = multiplier(suffix)?;
    let numerator = mantissa.checked_mul(factor)?.checked_mul(scale)?;
    let denominator = divisor.checked_mul(10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
    // Requests round away from zero, as upstream's `Quantity.Value` does.
    let rounded = (numerator + denominator - 1) / denominator;
    let clamped = i64::try_from(rounded).unwrap_or(i64::MAX);
    Some(if negative { -clamped } else { clamped })
}

/// `(factor, divisor)` of a suffix.
fn multiplier(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let digits = exponent.strip_prefix(['e', 'E'])?;
            let power: i32 = digits.parse().ok()?;
            let size = 10i128.checked_pow(power.unsigned_abs().min(30))?;
            if power < 0 { (1, size) } else { (size, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_form() {
        for (text, units, milli) in [
            ("0", 0, 0),
            ("2", 2, 2000),
            ("250m", 1, 250),
            ("1.5", 2, 1500),
            ("0.1", 1, 100),
            (".5", 1, 500),
            ("128Mi", 128 << 20, (128 << 20) * 1000),
            ("1.5Gi", 3 << 29, (3i64 << 29) * 1000),
            ("1e3", 1000, 1_000_000),
            ("12E", i64::MAX, i64::MAX),
            ("100k", 100_000, 100_000_000),
            ("1500u", 1, 2),
            ("-1", -1, -1000),
        ] {
            let quantity = Quantity(text.into());
            assert_eq!((value(&quantity), milli_value(&quantity)), (units, milli), "{text}");
        }
        assert_eq!(value(&Quantity("x".into())), 0);
    }
}
