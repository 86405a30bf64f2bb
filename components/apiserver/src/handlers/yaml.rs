//! YAML within a budget: aliases may name a value again and again, so a small text can stand for a huge one.

use std::{cell::Cell, collections::HashSet, fmt};

use saphyr_parser::{Event, Parser};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::http::body::BODY_LIMIT;

/// Each value costs one and each text its length: no text without aliases that fits into a request costs more.
const BUDGET: usize = 2 * BODY_LIMIT;

/// The decoder follows no deeper; its scanner would take time by the square of the depth of brackets.
const MAX_DEPTH: usize = 128;

pub fn parse(bytes: &[u8]) -> Result<Value, serde_yaml::Error> {
    if brackets(bytes) > MAX_DEPTH && nests_too_deep(bytes) {
        return Err(serde_yaml::Error::custom(format!("exceeded max depth of {MAX_DEPTH}")));
    }
    let left = Cell::new(BUDGET);
    Node(&left).deserialize(serde_yaml::Deserializer::from_slice(bytes))
}

/// The most brackets open at once, those in texts too: never less than the depth.
fn brackets(bytes: &[u8]) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for byte in bytes {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// Ends where it is too deep. What this parser does not read is not given to the other one either.
fn nests_too_deep(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return true };
    let mut depth = 0_usize;
    for event in Parser::new_from_str(text) {
        match event {
            Ok((Event::MappingStart(..) | Event::SequenceStart(..), _)) => depth += 1,
            Ok((Event::MappingEnd | Event::SequenceEnd, _)) => depth = depth.saturating_sub(1),
            Ok(_) => {}
            Err(_) => return true,
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

/// How a report about a document begins.
pub const REPORT: &str = "yaml: unmarshal errors:\n";

/// Where the document gives a key twice, in the words of Go's decoder; `None` if it does nowhere.
pub fn duplicates(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut found = Vec::new();
    let mut open: Vec<Collection> = Vec::new();
    for event in Parser::new_from_str(text) {
        // a text that is no YAML has been refused before
        let (event, span) = event.ok()?;
        match event {
            Event::Scalar(key, ..) => {
                if let Some(Collection { keys: Some(keys), at_key: true, .. }) = open.last_mut()
                    && !keys.insert(key.to_string())
                {
                    found.push(format!("  line {}: key {key:?} already set in map", span.start.line()));
                }
                next(&mut open);
            }
            Event::Alias(_) => next(&mut open),
            Event::MappingStart(..) => open.push(Collection { keys: Some(HashSet::new()), at_key: true }),
            Event::SequenceStart(..) => open.push(Collection { keys: None, at_key: false }),
            Event::MappingEnd | Event::SequenceEnd => {
                open.pop();
                next(&mut open);
            }
            _ => {}
        }
    }
    (!found.is_empty()).then(|| format!("{REPORT}{}", found.join("\n")))
}

/// A map or list that is being read.
struct Collection {
    /// `None` for a list.
    keys: Option<HashSet<String>>,
    at_key: bool,
}

/// After a node: keys and values take turns.
fn next(open: &mut [Collection]) {
    if let Some(collection) = open.last_mut() {
        collection.at_key = collection.keys.is_some() && !collection.at_key;
    }
}

#[derive(Clone, Copy)]
struct Node<'a>(&'a Cell<usize>);

impl Node<'_> {
    fn charge<E: Error>(self, cost: usize) -> Result<(), E> {
        let left = self.0.get().checked_sub(cost);
        self.0.set(left.ok_or_else(|| E::custom("the document is too large with all of its aliases expanded"))?);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.charge(1)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value that JSON has too")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.charge(value.len())?;
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key_seed(Key(self))? {
            map.insert(key, entries.next_value_seed(self)?);
        }
        Ok(Value::Object(map))
    }
}

/// Keys are texts, whatever they look like.
struct Key<'a>(Node<'a>);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<String, E> {
        self.0.charge(1 + value.len())?;
        Ok(value.to_owned())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn deep_brackets_are_refused_before_they_cost_anything() {
        let deep = "[".repeat(100_000);
        assert!(parse(deep.as_bytes()).unwrap_err().to_string().contains("max depth"));
        let wide = format!("a: \"{deep}\"");
        assert_eq!(parse(wide.as_bytes()).unwrap()["a"], deep);
        let allowed = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert!(parse(allowed.as_bytes()).is_ok());
    }

    #[test]
    fn reads_what_json_has() {
        let text = b"a: &x {b: [1, -2, 0.5, true, null, 'x']}\n1: *x\ntrue: 2026-01-01\n";
        let inner = json!({"b": [1, -2, 0.5, true, null, "x"]});
        assert_eq!(parse(text).unwrap(), json!({"a": inner, "1": inner, "true": "2026-01-01"}));
        assert!(parse(b"a: [").is_err() && parse(b"a: 1\n---\nb: 2\n").is_err());
    }

    #[test]
    fn keys_given_twice_are_named_with_their_lines() {
        let text = "a: 1\nb:\n- {c: [x], c: 2}\n- c: 1\na: {b: 1}\n";
        let report = duplicates(text.as_bytes()).unwrap();
        assert_eq!(
            report,
            format!("{REPORT}  line 3: key \"c\" already set in map\n  line 5: key \"a\" already set in map")
        );
        assert_eq!(duplicates(b"a: &x {b: 1}\nc: *x\nd: [b, b]\n"), None);
    }

    #[test]
    fn aliases_do_not_expand_without_bound() {
        let long = "x".repeat(20_000);
        let mut text = format!("a: &a [{}]\n", [long.as_str(); 10].join(","));
        for (name, of) in ["b", "c", "d"].iter().zip(["a", "b", "c"]) {
            text += &format!("{name}: &{name} [{}]\n", vec![format!("*{of}"); 9].join(","));
        }
        let error = parse(text.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("too large"), "{error}");
    }
}
