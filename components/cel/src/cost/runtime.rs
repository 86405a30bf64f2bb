//! The cost of one call with the values it gets.

use super::{AUTHORIZATION_CHECK, REGEX_LENGTH, STRING_TRAVERSAL, scale};
use crate::{functions::operators, value::Val};

fn size(value: Option<&Val<'_>>) -> u64 {
    value.and_then(operators::size).map_or(1, |n| n as u64)
}

/// As far as it is known before the call.
pub fn call(function: &str, args: &[Val<'_>]) -> u64 {
    let traversal = |n: u64| scale(n, STRING_TRAVERSAL);
    let first = || size(args.first());
    let second = || size(args.get(1));
    match function {
        "check" => AUTHORIZATION_CHECK,
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => args.first().map_or(1, traverse),
        "url" | "isURL" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "cidr" | "isIP" | "isCIDR"
        | "quantity" | "isQuantity" | "semver" | "isSemver" | "validate" | "strings.quote" => traversal(first()),
        "ip" => match args.first() {
            Some(Val::Str(_)) => traversal(first()),
            _ => 1,
        },
        "ip.isCanonical" => scale(first(), 2.0 * STRING_TRAVERSAL),
        "replace" | "split" => scale(first(), 2.0 * STRING_TRAVERSAL),
        // one pass over the parts; what comes of them is what they are
        "join" => match args.first() {
            Some(Val::List(list)) => {
                let parts: u64 = list.iter().map(|v| size(Some(&v))).sum();
                let between =
                    (list.len() as u64).saturating_sub(1).saturating_mul(args.get(1).map_or(0, |v| size(Some(v))));
                scale(parts.saturating_add(between), 2.0 * STRING_TRAVERSAL)
            }
            _ => 1,
        },
        "find" | "findAll" | "matches" => {
            traversal(first().saturating_add(1)).saturating_mul(scale(second(), REGEX_LENGTH))
        }
        "containsIP" => 4 + if matches!(args.get(1), Some(Val::Str(_))) { traversal(second()) } else { 0 },
        "containsCIDR" => 7 + if matches!(args.get(1), Some(Val::Str(_))) { traversal(second()) } else { 0 },
        "startsWith" | "endsWith" => traversal(first()),
        "bytes" | "string" | "format" => match args.first() {
            Some(Val::Str(_) | Val::Bytes(_)) => traversal(first()).max(1),
            _ => 1,
        },
        "@in" => match args.get(1) {
            Some(Val::List(list)) => list.len() as u64,
            _ => 1,
        },
        "_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_" => traversal(first().min(second())),
        "_+_" => match args {
            [Val::Str(_) | Val::Bytes(_), _] => traversal(first().saturating_add(second())),
            _ => 1,
        },
        "contains" => traversal(first()).saturating_mul(traversal(second())),
        "slice" | "reverse" | "flatten" => first(),
        "sort" | "@sortByAssociatedKeys" | "distinct" => first().saturating_mul(first()),
        "lists.range" => match args.first() {
            Some(Val::Int(count)) => u64::try_from(*count).unwrap_or(0),
            _ => 1,
        },
        "sets.contains" | "sets.intersects" => first().saturating_mul(second()).saturating_add(1),
        "sets.equivalent" => first().saturating_mul(second()).saturating_mul(2).saturating_add(1),
        _ => 1,
    }
}

/// The cost of looking at everything in a value once.
fn traverse(value: &Val<'_>) -> u64 {
    match value {
        Val::Str(text) => (text.len() as f64 * STRING_TRAVERSAL) as u64,
        Val::Bytes(bytes) => (bytes.len() as f64 * STRING_TRAVERSAL) as u64,
        Val::List(list) => list.iter().map(|v| traverse(&v)).fold(0, u64::saturating_add),
        Val::Map(map) => map
            .keys()
            .iter()
            .map(|key| traverse(&key.value()) + map.get(key).map_or(0, |v| traverse(&v)))
            .fold(0, u64::saturating_add),
        _ => 1,
    }
}
