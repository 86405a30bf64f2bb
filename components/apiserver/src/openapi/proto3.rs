//! An OpenAPI v3 document in protobuf (`openapi.v3.Document` of gnostic): the JSON document, written in other words.

use serde_json::{Map, Value};

use super::protobuf::Message;

/// What lies at a key of an object: under which number it goes, and what it is made of. A list is repeated.
type Field = (&'static str, u32, Kind);

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Flag,
    Integer,
    Double,
    /// Any JSON, as YAML.
    Any,
    /// The value of `default`.
    Default,
    Schema,
    /// A schema, or a reference to one.
    Reference,
    Items,
    /// A schema, or whether there may be any.
    Additional,
    Object(&'static Shape),
    /// An object that a reference could stand for.
    Inline(&'static Shape),
    /// Objects by name, in a message whose entries have this number.
    Named(u32, &'static Kind),
}
use Kind::{Additional, Any, Default, Double, Flag, Inline, Integer, Items, Named, Object, Reference, Schema, Text};

/// A message: its fields, and the number of its extensions (`x-…`) if it has any.
struct Shape(&'static [Field], Option<u32>);

const INFO: Shape = Shape(&[("title", 1, Text), ("version", 6, Text)], None);
const MEDIA_TYPE: Shape = Shape(&[("schema", 1, Reference)], Some(5));
const CONTENT: Kind = Named(1, &Object(&MEDIA_TYPE));
const PARAMETER: Shape = Shape(
    &[("name", 1, Text), ("in", 2, Text), ("description", 3, Text), ("required", 4, Flag), ("schema", 10, Reference)],
    Some(14),
);
const BODY: Shape = Shape(&[("description", 1, Text), ("content", 2, CONTENT), ("required", 3, Flag)], Some(4));
const RESPONSE: Shape = Shape(&[("description", 1, Text), ("content", 3, CONTENT)], Some(5));
const OPERATION: Shape = Shape(
    &[
        ("tags", 1, Text),
        ("description", 3, Text),
        ("operationId", 5, Text),
        ("parameters", 6, Inline(&PARAMETER)),
        ("requestBody", 7, Inline(&BODY)),
        ("responses", 8, Named(2, &Inline(&RESPONSE))),
    ],
    Some(13),
);
const PATH: Shape = Shape(
    &[
        ("get", 4, Object(&OPERATION)),
        ("put", 5, Object(&OPERATION)),
        ("post", 6, Object(&OPERATION)),
        ("delete", 7, Object(&OPERATION)),
        ("options", 8, Object(&OPERATION)),
        ("head", 9, Object(&OPERATION)),
        ("patch", 10, Object(&OPERATION)),
        ("parameters", 13, Inline(&PARAMETER)),
    ],
    Some(14),
);
const SECURITY: Shape =
    Shape(&[("type", 1, Text), ("description", 2, Text), ("name", 3, Text), ("in", 4, Text)], Some(9));
const COMPONENTS: Shape =
    Shape(&[("schemas", 1, Named(1, &Reference)), ("securitySchemes", 7, Named(1, &Inline(&SECURITY)))], None);
const DOCUMENT: Shape = Shape(
    &[
        ("openapi", 1, Text),
        ("info", 2, Object(&INFO)),
        ("paths", 4, Named(1, &Object(&PATH))),
        ("components", 5, Object(&COMPONENTS)),
    ],
    Some(9),
);
static SCHEMA: Shape = Shape(
    &[
        ("nullable", 1, Flag),
        ("title", 9, Text),
        ("multipleOf", 10, Double),
        ("maximum", 11, Double),
        ("exclusiveMaximum", 12, Flag),
        ("minimum", 13, Double),
        ("exclusiveMinimum", 14, Flag),
        ("maxLength", 15, Integer),
        ("minLength", 16, Integer),
        ("pattern", 17, Text),
        ("maxItems", 18, Integer),
        ("minItems", 19, Integer),
        ("uniqueItems", 20, Flag),
        ("maxProperties", 21, Integer),
        ("minProperties", 22, Integer),
        ("required", 23, Text),
        ("enum", 24, Any),
        ("type", 25, Text),
        ("allOf", 26, Reference),
        ("oneOf", 27, Reference),
        ("anyOf", 28, Reference),
        ("not", 29, Schema),
        ("items", 30, Items),
        ("properties", 31, Named(1, &Reference)),
        ("additionalProperties", 32, Additional),
        ("default", 33, Default),
        ("description", 34, Text),
        ("format", 35, Text),
    ],
    Some(36),
);

/// A JSON document as protobuf; `None` if it is no JSON.
pub fn document(json: &[u8]) -> Option<Vec<u8>> {
    let value: Value = serde_json::from_slice(json).ok()?;
    Some(message(&DOCUMENT, &value).into_bytes())
}

fn message(Shape(fields, extensions): &Shape, value: &Value) -> Message {
    let message = fields.iter().fold(Message::default(), |message, (key, number, kind)| match value.get(key) {
        None | Some(Value::Null) => message,
        Some(Value::Array(items)) => items.iter().fold(message, |message, item| put(message, *number, *kind, item)),
        Some(one) => put(message, *number, *kind, one),
    });
    let Some(number) = extensions else { return message };
    entries(value)
        .filter(|(key, _)| key.starts_with("x-"))
        .fold(message, |message, (key, value)| message.message(*number, named(key, any(value))))
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn named(name: &str, value: Message) -> Message {
    Message::default().string(1, name).message(2, value)
}

/// JSON is YAML.
fn any(value: &Value) -> Message {
    Message::default().string(2, &format!("{value}\n"))
}

fn reference(value: &Value) -> Message {
    match value.get("$ref").and_then(Value::as_str) {
        Some(target) => Message::default().message(2, Message::default().string(1, target)),
        None => Message::default().message(1, message(&SCHEMA, value)),
    }
}

fn put(out: Message, number: u32, kind: Kind, value: &Value) -> Message {
    match kind {
        Text => out.string(number, value.as_str().unwrap_or_default()),
        Flag if value == &Value::Bool(true) => out.boolean(number),
        Flag => out,
        Integer => out.integer(number, value.as_u64().unwrap_or_default()),
        Double => out.double(number, value.as_f64().unwrap_or_default()),
        _ => out.message(number, inner(kind, value)),
    }
}

fn inner(kind: Kind, value: &Value) -> Message {
    match kind {
        Any => any(value),
        Default => match value {
            Value::Number(number) => Message::default().double(1, number.as_f64().unwrap_or_default()),
            Value::Bool(true) => Message::default().boolean(2),
            Value::String(text) => Message::default().string(3, text),
            _ => Message::default(),
        },
        Schema => message(&SCHEMA, value),
        Reference => reference(value),
        Items => Message::default().message(1, reference(value)),
        Additional if value.is_object() => Message::default().message(1, reference(value)),
        Additional => put(Message::default(), 2, Flag, value),
        Object(shape) => message(shape, value),
        Inline(shape) => Message::default().message(1, message(shape, value)),
        Named(number, kind) => entries(value)
            .fold(Message::default(), |out, (name, value)| out.message(number, named(name, inner(*kind, value)))),
        Text | Flag | Integer | Double => put(Message::default(), 1, kind, value),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn schemas_and_references() {
        assert_eq!(inner(Reference, &json!({"$ref": "#/b"})).into_bytes(), b"\x12\x05\x0a\x03#/b");
        let number = json!({"type": "number", "maximum": 1.5, "maxLength": 300});
        let wanted = b"\x0a\x15\x59\0\0\0\0\0\0\xf8\x3f\x78\xac\x02\xca\x01\x06number";
        assert_eq!(inner(Reference, &number).into_bytes(), wanted);
        let object = json!({"properties": {"a": {"$ref": "#/b"}}, "default": {}, "x-k": [1]});
        let text = String::from_utf8_lossy(&inner(Reference, &object).into_bytes()).into_owned();
        assert!(text.contains("#/b") && text.contains("x-k") && text.contains("[1]\n"), "{text:?}");
    }

    #[test]
    fn only_json_is_a_document() {
        assert!(document(b"{").is_none());
        let written = document(br#"{"openapi":"3.0.0","info":{"title":"K","version":"v1"},"paths":{}}"#).unwrap();
        assert_eq!(written, b"\x0a\x053.0.0\x12\x07\x0a\x01K\x32\x02v1\x22\x00");
    }
}
