//! A number of bytes as people write it: `512M`, `8G`.

use anyhow::{Context as _, Result, bail};
use std::str::FromStr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(u64);

impl Size {
    pub const fn mib(n: u64) -> Self {
        Size(n << 20)
    }
    pub const fn gib(n: u64) -> Self {
        Size(n << 30)
    }
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match &text[digits.len()..] {
            "" => 0,
            "K" | "k" | "Ki" => 10,
            "M" | "m" | "Mi" => 20,
            "G" | "g" | "Gi" => 30,
            unit => bail!("size {text:?} has the unknown unit {unit:?}; write for example 512M or 8G"),
        };
        let number: u64 =
            digits.parse().with_context(|| format!("size {text:?} is not a number; write for example 8G"))?;
        Ok(Size(number.checked_mul(1 << shift).with_context(|| format!("size {text:?} is too large"))?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        for (text, bytes) in [("512", 512), ("4K", 4096), ("512M", 512 << 20), ("8Gi", 8 << 30)] {
            assert_eq!(text.parse::<Size>().unwrap().bytes(), bytes);
        }
        for text in ["", "G", "8X", "-1", "99999999999G"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
