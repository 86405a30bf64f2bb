//! Protobuf to JSON values, with zero values dropped where Go's JSON encoding would drop them.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Number, Value};

use super::{
    DecodeError, MAGIC, MAX_DEPTH, MAX_JSON_DEPTH, META, Shape,
    fields::{self, Field, Form},
    shape, special,
    wire::{Raw, Reader},
};
use crate::schema::Type;

const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// What `runtime.Unknown` holds.
#[derive(Default)]
struct Envelope<'a> {
    api_version: &'a str,
    kind: &'a str,
    raw: &'a [u8],
    content_encoding: &'a str,
    content_type: &'a str,
}

/// Reads an enveloped object; `default` (apiVersion, kind) is what it is if the envelope does not say.
pub fn decode(bytes: &[u8], default: (&str, &str)) -> Result<Value, DecodeError> {
    let value = Decoder { depth: 0 }.envelope(bytes, default)?;
    if is_deeper(&value, MAX_JSON_DEPTH) { Err(DecodeError::Depth) } else { Ok(value) }
}

fn is_deeper(value: &Value, than: usize) -> bool {
    match (value, than.checked_sub(1)) {
        (Value::Array(list), Some(than)) => list.iter().any(|v| is_deeper(v, than)),
        (Value::Object(map), Some(than)) => map.values().any(|v| is_deeper(v, than)),
        (Value::Array(_) | Value::Object(_), None) => true,
        _ => false,
    }
}

struct Decoder {
    depth: usize,
}

fn text<'a>(bytes: &'a [u8], name: &'static str) -> Result<&'a str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::Utf8(name))
}

impl<'a> Envelope<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        if bytes.is_empty() {
            return Err(DecodeError::Empty);
        }
        let body = bytes.strip_prefix(MAGIC).ok_or(DecodeError::Magic)?;
        let mut envelope = Envelope::default();
        let mut reader = Reader::new(body);
        while let Some((number, raw)) = reader.next()? {
            match (number, raw) {
                (1, Raw::Bytes(bytes)) => envelope.type_meta(bytes)?,
                (2, Raw::Bytes(bytes)) => envelope.raw = bytes,
                (3, Raw::Bytes(bytes)) => envelope.content_encoding = text(bytes, "contentEncoding")?,
                (4, Raw::Bytes(bytes)) => envelope.content_type = text(bytes, "contentType")?,
                _ => {}
            }
        }
        Ok(envelope)
    }

    fn type_meta(&mut self, bytes: &'a [u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(bytes);
        while let Some((number, raw)) = reader.next()? {
            match (number, raw) {
                (1, Raw::Bytes(bytes)) => self.api_version = text(bytes, "apiVersion")?,
                (2, Raw::Bytes(bytes)) => self.kind = text(bytes, "kind")?,
                _ => {}
            }
        }
        Ok(())
    }
}

impl Decoder {
    fn envelope(&mut self, bytes: &[u8], default: (&str, &str)) -> Result<Value, DecodeError> {
        let envelope = Envelope::read(bytes)?;
        if !envelope.content_encoding.is_empty() {
            return Err(DecodeError::Encoding(envelope.content_encoding.to_owned()));
        }
        if envelope.content_type == "application/json" {
            return json(envelope.raw, "raw");
        }
        let or =
            |given: &'_ str, otherwise: &str| if given.is_empty() { otherwise.to_owned() } else { given.to_owned() };
        let (api_version, kind) = (or(envelope.api_version, default.0), or(envelope.kind, default.1));
        let Some(shape) = shape(&api_version, &kind) else { return Err(DecodeError::Kind { api_version, kind }) };
        let mut map = Map::new();
        map.insert("kind".into(), kind.into());
        map.insert("apiVersion".into(), api_version.into());
        self.shape(&shape, envelope.raw, &mut map)?;
        Ok(Value::Object(map))
    }

    fn shape(&mut self, shape: &Shape, bytes: &[u8], map: &mut Map<String, Value>) -> Result<(), DecodeError> {
        let (metadata, item) = match shape {
            Shape::Object(definition) => return self.definition(definition, bytes, map),
            Shape::Metadata => ("ObjectMeta", None),
            Shape::List(definition) => ("ListMeta", Some(definition.as_str())),
            Shape::MetadataList => ("ListMeta", None),
        };
        let mut items = Vec::new();
        let mut reader = Reader::new(bytes);
        while let Some((number, raw)) = reader.next()? {
            let Raw::Bytes(bytes) = raw else { continue };
            let mut inner = Map::new();
            match (number, item) {
                (1, _) => {
                    self.definition(&format!("{META}.{metadata}"), bytes, &mut inner)?;
                    map.insert("metadata".into(), Value::Object(inner));
                }
                (2, Some(definition)) => {
                    self.definition(definition, bytes, &mut inner)?;
                    items.push(Value::Object(inner));
                }
                (2, None) if *shape == Shape::MetadataList => {
                    self.shape(&Shape::Metadata, bytes, &mut inner)?;
                    items.push(Value::Object(inner));
                }
                _ => {}
            }
        }
        if *shape != Shape::Metadata {
            map.insert("items".into(), items.into());
        }
        Ok(())
    }

    fn definition(&mut self, name: &str, bytes: &[u8], map: &mut Map<String, Value>) -> Result<(), DecodeError> {
        let fields = fields::message(name).map(|m| m.fields.as_slice()).unwrap_or_default();
        self.fields(fields, 0, bytes, map)
    }

    /// Fills `map` from one message; fields of embedded messages go into the same map.
    fn fields(
        &mut self,
        fields: &'static [Field],
        level: usize,
        bytes: &[u8],
        map: &mut Map<String, Value>,
    ) -> Result<(), DecodeError> {
        if self.depth >= MAX_DEPTH {
            return Err(DecodeError::Depth);
        }
        self.depth += 1;
        let mut reader = Reader::new(bytes);
        while let Some((number, raw)) = reader.next()? {
            let at = |f: &Field| f.path.get(level).copied().unwrap_or(0);
            let begin = fields.partition_point(|f| at(f) < number);
            let end = begin + fields[begin..].partition_point(|f| at(f) == number);
            match (&fields[begin..end], raw) {
                // a field of a newer client
                ([], _) => {}
                ([field], raw) if field.path.len() == level + 1 => self.field(field, raw, map)?,
                (embedded, Raw::Bytes(bytes)) => self.fields(embedded, level + 1, bytes, map)?,
                (embedded, _) => return Err(DecodeError::Mismatch(embedded[0].name)),
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn field(&mut self, field: &'static Field, raw: Raw<'_>, map: &mut Map<String, Value>) -> Result<(), DecodeError> {
        match field.kind {
            Type::List(inner) if field.form != Form::Strings => {
                let list = map.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
                let Value::Array(list) = list else { return Ok(()) };
                self.items(field, inner, raw, list)
            }
            Type::Map(inner) => self.entry(field, inner, raw, map),
            kind => {
                let before = map.remove(field.name);
                let value = self.value(field, kind, raw, before)?;
                if let Some(value) = value.filter(|v| field.keeps_zero || field.form == Form::Raw || !is_zero(v)) {
                    map.insert(field.name.to_owned(), value);
                }
                Ok(())
            }
        }
    }

    /// One element of a list, or many packed numbers.
    fn items(
        &mut self,
        field: &'static Field,
        inner: &Type,
        raw: Raw<'_>,
        list: &mut Vec<Value>,
    ) -> Result<(), DecodeError> {
        match (inner, raw) {
            (Type::Int32 | Type::Int64 | Type::Bool, Raw::Bytes(packed)) => {
                let mut reader = Reader::new(packed);
                while !reader.is_empty() {
                    let number = reader.varint()?;
                    list.extend(self.value(field, inner, Raw::Varint(number), None)?);
                }
            }
            _ => list.push(self.value(field, inner, raw, None)?.unwrap_or_default()),
        }
        Ok(())
    }

    /// One entry of a map: a message of key and value, either of which may be left out when it is zero.
    fn entry(
        &mut self,
        field: &'static Field,
        inner: &Type,
        raw: Raw<'_>,
        map: &mut Map<String, Value>,
    ) -> Result<(), DecodeError> {
        let Raw::Bytes(bytes) = raw else { return Err(DecodeError::Mismatch(field.name)) };
        let (mut key, mut value) = ("", None);
        let mut reader = Reader::new(bytes);
        while let Some((number, raw)) = reader.next()? {
            match (number, raw) {
                (1, Raw::Bytes(bytes)) => key = text(bytes, field.name)?,
                (2, raw) => value = self.value(field, inner, raw, None)?,
                _ => {}
            }
        }
        let value = value.unwrap_or_else(|| zero(field, inner));
        let entries = map.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(entries) = entries {
            entries.insert(key.to_owned(), value);
        }
        Ok(())
    }

    /// One value; `None` for a time that is not set. A message given in pieces is merged into `before`.
    fn value(
        &mut self,
        field: &'static Field,
        kind: &Type,
        raw: Raw<'_>,
        before: Option<Value>,
    ) -> Result<Option<Value>, DecodeError> {
        let wrong = || DecodeError::Mismatch(field.name);
        let bytes = match raw {
            Raw::Bytes(bytes) => bytes,
            Raw::Varint(n) => {
                return match kind {
                    Type::Bool => Ok(Some((n != 0).into())),
                    Type::Int32 => Ok(Some(special::signed32(n).into())),
                    Type::Int64 => Ok(Some(special::signed(n).into())),
                    _ => Err(wrong()),
                };
            }
            Raw::Fixed64(bits) if *kind == Type::Float => {
                return Ok(Number::from_f64(f64::from_bits(bits)).map(Value::Number));
            }
            Raw::Fixed64(_) | Raw::Fixed32(_) => return Err(wrong()),
        };
        match field.form {
            Form::Raw => return self.raw(bytes, field.name),
            Form::SchemaOrArray => return self.schema_or_array(bytes).map(Some),
            Form::SchemaOrBool => return self.schema_or_bool(bytes).map(Some),
            Form::SchemaOrStrings => return self.schema_or_strings(bytes).map(Some),
            Form::Strings => return strings(bytes, 1, field.name).map(Some),
            Form::Typed => {}
        }
        Ok(Some(match kind {
            Type::String => text(bytes, field.name)?.into(),
            Type::Bytes => STANDARD.encode(bytes).into(),
            Type::Time => return special::time(bytes, false),
            Type::MicroTime => return special::time(bytes, true),
            Type::Quantity => match text(special::wrapped(bytes)?, field.name)? {
                "" => "0".into(),
                written => written.into(),
            },
            Type::IntOrString => special::int_or_string(bytes, field.name)?,
            Type::Object(definition) => {
                let mut map = match before {
                    Some(Value::Object(map)) => map,
                    _ => Map::new(),
                };
                self.definition(definition, bytes, &mut map)?;
                Value::Object(map)
            }
            _ => return Err(wrong()),
        }))
    }

    /// JSON in a message of its own, or an object in its envelope.
    fn raw(&mut self, bytes: &[u8], name: &'static str) -> Result<Option<Value>, DecodeError> {
        let inner = special::wrapped(bytes)?;
        if inner.is_empty() {
            return Ok(None);
        }
        if !inner.starts_with(MAGIC) {
            return json(inner, name).map(Some);
        }
        self.depth += 1;
        let value = if self.depth < MAX_DEPTH { self.envelope(inner, ("", "")) } else { Err(DecodeError::Depth) };
        self.depth -= 1;
        value.map(Some)
    }

    fn schema(&mut self, bytes: &[u8]) -> Result<Value, DecodeError> {
        let mut map = Map::new();
        self.definition(SCHEMA, bytes, &mut map)?;
        Ok(Value::Object(map))
    }

    fn schema_or_array(&mut self, bytes: &[u8]) -> Result<Value, DecodeError> {
        let (mut one, mut many) = (None, Vec::new());
        let mut reader = Reader::new(bytes);
        while let Some((number, raw)) = reader.next()? {
            match (number, raw) {
                (1, Raw::Bytes(bytes)) => one = Some(self.schema(bytes)?),
                (2, Raw::Bytes(bytes)) => many.push(self.schema(bytes)?),
                _ => {}
            }
        }
        Ok(one.unwrap_or(Value::Array(many)))
    }

    fn schema_or_bool(&mut self, bytes: &[u8]) -> Result<Value, DecodeError> {
        let (mut allows, mut schema) = (false, None);
        let mut reader = Reader::new(bytes);
        while let Some((number, raw)) = reader.next()? {
            match (number, raw) {
                (1, Raw::Varint(n)) => allows = n != 0,
                (2, Raw::Bytes(bytes)) => schema = Some(self.schema(bytes)?),
                _ => {}
            }
        }
        Ok(schema.unwrap_or(Value::Bool(allows)))
    }

    fn schema_or_strings(&mut self, bytes: &[u8]) -> Result<Value, DecodeError> {
        let mut reader = Reader::new(bytes);
        while let Some((number, raw)) = reader.next()? {
            if let (1, Raw::Bytes(bytes)) = (number, raw) {
                return self.schema(bytes);
            }
        }
        strings(bytes, 2, "property")
    }
}

fn json(bytes: &[u8], name: &'static str) -> Result<Value, DecodeError> {
    serde_json::from_slice(bytes).map_err(|e| DecodeError::Json(name, e.to_string()))
}

fn strings(bytes: &[u8], wanted: u32, name: &'static str) -> Result<Value, DecodeError> {
    let mut list = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Some((number, raw)) = reader.next()? {
        if let Raw::Bytes(bytes) = raw
            && number == wanted
        {
            list.push(text(bytes, name)?.into());
        }
    }
    Ok(Value::Array(list))
}

/// What Go's JSON encoding leaves out under `omitempty`; also empty structs, which say nothing.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// The value of a map's entry that was left out because it is zero.
fn zero(field: &Field, kind: &Type) -> Value {
    match kind {
        _ if field.form == Form::Strings => Value::Array(Vec::new()),
        Type::String | Type::Bytes => "".into(),
        Type::Int32 | Type::Int64 | Type::IntOrString | Type::Float => 0.into(),
        Type::Bool => false.into(),
        Type::Quantity => "0".into(),
        Type::Object(_) => Value::Object(Map::new()),
        _ => Value::Null,
    }
}
