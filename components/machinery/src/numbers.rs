//! Numbers as Go keeps and writes them: what fits is an `int64`, everything else a `float64` in its shortest form.

use std::io;

use serde_json::{Value, ser::Formatter};

/// Writes JSON whose numbers look as Go's encoder writes them: 1.0 as `1`, 1e20 with all of its digits, 1e21 as `1e+21`.
pub struct GoNumbers;

impl Formatter for GoNumbers {
    fn write_f64<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(float(value).as_bytes())
    }

    fn write_u64<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: u64) -> io::Result<()> {
        match i64::try_from(value) {
            Ok(_) => write!(writer, "{value}"),
            // no int64: for Go it has been a float64 all the time
            #[allow(clippy::cast_precision_loss)]
            Err(_) => self.write_f64(writer, value as f64),
        }
    }
}

fn float(value: f64) -> String {
    if value == 0.0 || (1e-6..1e21).contains(&value.abs()) {
        return value.to_string();
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, power)) if !power.starts_with('-') => format!("{digits}e+{power}"),
        _ => text,
    }
}

/// Equal values; 1 and 1.0 are, for they are stored as the same.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || ((x.is_f64() || y.is_f64()) && x.as_f64() == y.as_f64()),
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y)),
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(key, x)| y.get(key).is_some_and(|y| same(x, y)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde::Serialize;
    use serde_json::json;

    fn written(text: &str) -> String {
        let value: Value = serde_json::from_str(text).unwrap();
        let mut out = Vec::new();
        value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, GoNumbers)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_written_as_go_does() {
        for (text, wanted) in [
            ("1.0", "1"),
            ("-0.0", "-0"),
            ("0.1", "0.1"),
            ("1e2", "100"),
            ("9223372036854775807", "9223372036854775807"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("9223372036854775808", "9223372036854776000"),
            ("18446744073709551615", "18446744073709552000"),
            ("1e20", "100000000000000000000"),
            ("1e21", "1e+21"),
            ("0.000001", "0.000001"),
            ("0.0000001", "1e-7"),
            ("[2.50,{\"a\":1e-10}]", "[2.5,{\"a\":1e-10}]"),
        ] {
            assert_eq!(written(text), wanted, "{text}");
        }
    }

    #[test]
    fn floats_keep_every_digit() {
        // of a parser that is content with nearly all digits, one in ten comes out as a neighbour
        let mut bits = 1_u64;
        for _ in 0..10_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let value = f64::from_bits(bits);
            if value.is_finite() {
                let read: f64 = written(&float(value)).parse().unwrap();
                assert_eq!(read.to_bits(), bits, "{value:e}");
            }
        }
    }

    #[test]
    fn one_is_one() {
        assert!(same(&json!({"a": [1, 2.0]}), &json!({"a": [1.0, 2]})));
        assert!(!same(&json!({"a": [1]}), &json!({"a": [1.5]})) && !same(&json!({"a": 1}), &json!({"b": 1})));
        assert!(!same(&json!(9_007_199_254_740_993_i64), &json!(9_007_199_254_740_992_i64)));
    }
}
