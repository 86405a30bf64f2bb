//! JSON parsing that notices keys given twice, for strict field validation.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Parses JSON and names each duplicate key by its path (`spec.replicas`); the last one wins.
pub fn parse(bytes: &[u8]) -> Result<(Value, Vec<String>), serde_json::Error> {
    let mut found = Found::default();
    let value = read(bytes, &mut found)?;
    Ok((value, found.duplicates))
}

/// The path of every key, in the order of the text; keys given twice come twice.
pub fn keys(bytes: &[u8]) -> Vec<String> {
    let mut found = Found { all: Some(Vec::new()), ..Found::default() };
    // what was read before an error is in order all the same
    let _ = read(bytes, &mut found);
    found.all.unwrap_or_default()
}

fn read(bytes: &[u8], found: &mut Found) -> Result<Value, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Node { path: &Path::Root, found }.deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

#[derive(Default)]
struct Found {
    duplicates: Vec<String>,
    /// Every key, if they are wanted.
    all: Option<Vec<String>>,
}

/// Where a value stands; written out only when somebody must be told.
enum Path<'p> {
    Root,
    Field(&'p Path<'p>, &'p str),
    Index(&'p Path<'p>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Field(Path::Root, name) => f.write_str(name),
            Path::Field(parent, name) => write!(f, "{parent}.{name}"),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

struct Node<'a> {
    path: &'a Path<'a>,
    found: &'a mut Found,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let path = Path::Index(self.path, list.len());
            let node = Node { path: &path, found: &mut *self.found };
            match seq.next_element_seed(node)? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let path = Path::Field(self.path, &key);
            if let Some(all) = &mut self.found.all {
                all.push(path.to_string());
            }
            if map.contains_key(&key) {
                self.found.duplicates.push(path.to_string());
            }
            let value = access.next_value_seed(Node { path: &path, found: &mut *self.found })?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn duplicates_are_named() {
        let (value, duplicates) = parse(br#"{"a": 1, "b": [{"c": 1, "c": -2.5}], "a": "x\n"}"#).unwrap();
        assert_eq!(duplicates, ["b[0].c", "a"]);
        assert_eq!(value, serde_json::json!({"a": "x\n", "b": [{"c": -2.5}]}));
        assert_eq!(keys(br#"{"a": 1, "b": [{"c": 1, "c": 2}], "a": 3}"#), ["a", "b", "b[0].c", "b[0].c", "a"]);
        assert!(parse(b"{} x").is_err() && parse(b"").is_err());
    }
}
