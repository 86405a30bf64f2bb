//! The formats of strings that are checked (kube-openapi `pkg/validation/strfmt`); others mean nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{names, time};

/// Whether `text` has the format; `None` if the format is not one that is checked.
pub fn check(format: &str, text: &str) -> Option<bool> {
    let name = format.replace('-', "");
    let check: Check = CHECKS.iter().find(|(it, _)| *it == name)?.1;
    Some(check(text))
}

type Check = fn(&str) -> bool;

const CHECKS: &[(&str, Check)] = &[
    ("bsonobjectid", |t| t.len() == 24 && hex(t)),
    ("uri", uri),
    ("email", email),
    ("hostname", hostname),
    ("ipv4", |t| t.parse::<Ipv4Addr>().is_ok()),
    ("ipv6", |t| t.parse::<Ipv6Addr>().is_ok()),
    ("cidr", cidr),
    ("mac", mac),
    ("uuid", |t| uuid(t, None)),
    ("uuid3", |t| uuid(t, Some('3'))),
    ("uuid4", |t| uuid(t, Some('4'))),
    ("uuid5", |t| uuid(t, Some('5'))),
    ("isbn", |t| isbn10(t) || isbn13(t)),
    ("isbn10", isbn10),
    ("isbn13", isbn13),
    ("creditcard", credit_card),
    ("ssn", social_security),
    ("hexcolor", |t| {
        let t = t.strip_prefix('#').unwrap_or(t);
        matches!(t.len(), 3 | 6) && hex(t)
    }),
    ("rgbcolor", rgb),
    ("byte", |t| STANDARD.decode(t.replace(['\r', '\n'], "")).is_ok()),
    ("password", |_| true),
    ("date", date),
    ("duration", duration),
    ("datetime", date_time),
    ("k8sshortname", |t| names::dns1123_label(t).is_empty()),
    ("k8slongname", |t| names::dns1123_subdomain(t).is_empty()),
];

fn hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// As Go's `url.ParseRequestURI`: absolute, or an absolute path.
fn uri(text: &str) -> bool {
    let clean = !text.is_empty() && text.bytes().all(|b| b > b' ' && b != 0x7f);
    let escapes = text.split('%').skip(1).all(|rest| rest.get(..2).is_some_and(hex));
    let rooted = text.starts_with('/')
        || text.split_once(':').is_some_and(|(scheme, _)| {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
        });
    clean && escapes && rooted
}

fn email(text: &str) -> bool {
    let address = text.rsplit_once('<').map_or(text, |(_, rest)| rest.strip_suffix('>').unwrap_or(""));
    address.rsplit_once('@').is_some_and(|(local, host)| {
        let word = |t: &str| !t.is_empty() && !t.starts_with('.') && !t.ends_with('.') && !t.contains("..");
        word(local)
            && word(host)
            && !address.contains(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | ',' | ';'))
    })
}

fn hostname(text: &str) -> bool {
    let label = |t: &str| {
        !t.is_empty()
            && t.len() <= 63
            && !t.starts_with('-')
            && !t.ends_with('-')
            && t.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_')
    };
    text.len() <= 255 && text.trim_end_matches('.').split('.').all(label)
}

fn cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    digits(bits) && (bits == "0" || !bits.starts_with('0')) && bits.parse::<u32>().is_ok_and(|n| n <= most)
}

/// Six, eight or twenty bytes, with colons, hyphens or dots.
fn mac(text: &str) -> bool {
    let parts = |separator: char, width: usize, counts: [usize; 3]| {
        let parts: Vec<&str> = text.split(separator).collect();
        counts.contains(&parts.len()) && parts.iter().all(|p| p.len() == width && hex(p))
    };
    parts(':', 2, [6, 8, 20]) || parts('-', 2, [6, 8, 20]) || parts('.', 4, [3, 4, 10])
}

fn uuid(text: &str, version: Option<char>) -> bool {
    let plain: String = text.chars().filter(|c| *c != '-').collect();
    let groups = text.split('-').map(str::len).collect::<Vec<_>>();
    let well_grouped = groups == [32] || groups == [8, 4, 4, 4, 12];
    let at = |index: usize| plain.chars().nth(index).unwrap_or_default().to_ascii_lowercase();
    let fits = version.is_none_or(|v| at(12) == v && (v == '3' || matches!(at(16), '8' | '9' | 'a' | 'b')));
    plain.len() == 32 && hex(&plain) && well_grouped && fits
}

fn isbn10(text: &str) -> bool {
    let plain: String = text.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
    let values: Option<Vec<u32>> =
        plain.chars().enumerate().map(|(i, c)| if i == 9 && c == 'X' { Some(10) } else { c.to_digit(10) }).collect();
    values.is_some_and(|v| v.len() == 10 && v.iter().zip(1u32..).map(|(d, n)| d * n).sum::<u32>() % 11 == 0)
}

fn isbn13(text: &str) -> bool {
    let values: Option<Vec<u32>> = text.chars().filter(|c| !matches!(c, ' ' | '-')).map(|c| c.to_digit(10)).collect();
    let weighted = |v: &[u32]| v.iter().enumerate().map(|(i, d)| d * if i % 2 == 0 { 1 } else { 3 }).sum::<u32>();
    values.is_some_and(|v| v.len() == 13 && weighted(&v) % 10 == 0)
}

/// Luhn's sum over the digits.
fn credit_card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    let sum: u32 =
        digits.iter().rev().enumerate().map(|(i, d)| if i % 2 == 0 { *d } else { (d * 2) / 10 + (d * 2) % 10 }).sum();
    (13..=16).contains(&digits.len()) && sum.is_multiple_of(10)
}

fn social_security(text: &str) -> bool {
    let plain: String = text.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
    let groups: Vec<usize> = text.split([' ', '-']).map(str::len).collect();
    plain.len() == 9 && digits(&plain) && [&[9][..], &[3, 6], &[5, 4], &[3, 2, 4]].contains(&groups.as_slice())
}

fn rgb(text: &str) -> bool {
    let inner = text.strip_prefix("rgb(").and_then(|t| t.strip_suffix(')'));
    inner.is_some_and(|t| {
        let parts: Vec<&str> = t.split(',').map(str::trim).collect();
        parts.len() == 3 && parts.iter().all(|p| digits(p) && p.parse::<u8>().is_ok())
    })
}

fn date(text: &str) -> bool {
    text.len() == 10 && time::parse(&format!("{text}T00:00:00Z")).is_some()
}

/// RFC 3339, where the zone and the fraction may be left out.
fn date_time(text: &str) -> bool {
    let upper = text.to_ascii_uppercase();
    time::parse(&upper).is_some() || time::parse(&format!("{upper}Z")).is_some() || {
        // a zone without its colon
        upper.len() > 5 && upper.is_char_boundary(upper.len() - 2) && {
            let (head, tail) = upper.split_at(upper.len() - 2);
            time::parse(&format!("{head}:{tail}")).is_some()
        }
    }
}

const UNITS: &[&str] = &[
    "ns",
    "nanosecond",
    "nanoseconds",
    "nano",
    "nanos",
    "us",
    "µs",
    "μs",
    "micro",
    "micros",
    "microsecond",
    "microseconds",
    "ms",
    "milli",
    "millis",
    "millisecond",
    "milliseconds",
    "s",
    "sec",
    "secs",
    "second",
    "seconds",
    "m",
    "min",
    "mins",
    "minute",
    "minutes",
    "h",
    "hr",
    "hour",
    "hours",
    "d",
    "day",
    "days",
    "w",
    "wk",
    "week",
    "weeks",
];

/// Go's durations (`1h30m`), and one number with a word (`22 seconds`).
fn duration(text: &str) -> bool {
    let text = text.trim().trim_start_matches(['+', '-']);
    if text == "0" {
        return true;
    }
    let mut rest = text;
    while !rest.is_empty() {
        let number: usize = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let after = rest[number..].trim_start();
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').unwrap_or(after.len());
        if number == 0 || rest[..number].parse::<f64>().is_err() || !UNITS.contains(&&after[..unit]) {
            return false;
        }
        rest = after[unit..].trim_start();
    }
    !text.is_empty()
}
