//! The aggregated document as protobuf (`k8s.io/api/apidiscovery/v2` generated.proto): the JSON document in other words.

use machinery::protobuf::MAGIC;
use serde_json::Value;

use crate::openapi::protobuf::Message;

/// What lies at a key of an object: under which number it goes, and what it is made of.
type Field = (&'static str, u32, Kind);

enum Kind {
    Text,
    Object(&'static [Field]),
}
use Kind::{Object, Text};

const METADATA: &[Field] = &[("name", 1, Text)];
const RESPONSE_KIND: &[Field] = &[("group", 1, Text), ("version", 2, Text), ("kind", 3, Text)];
const SUBRESOURCE: &[Field] = &[
    ("subresource", 1, Text),
    ("responseKind", 2, Object(RESPONSE_KIND)),
    ("acceptedTypes", 3, Object(RESPONSE_KIND)),
    ("verbs", 4, Text),
];
const RESOURCE: &[Field] = &[
    ("resource", 1, Text),
    ("responseKind", 2, Object(RESPONSE_KIND)),
    ("scope", 3, Text),
    ("singularResource", 4, Text),
    ("verbs", 5, Text),
    ("shortNames", 6, Text),
    ("categories", 7, Text),
    ("subresources", 8, Object(SUBRESOURCE)),
];
const VERSION: &[Field] = &[("version", 1, Text), ("resources", 2, Object(RESOURCE)), ("freshness", 3, Text)];
const GROUP: &[Field] = &[("metadata", 1, Object(METADATA)), ("versions", 2, Object(VERSION))];
const LIST: &[Field] = &[("metadata", 1, Object(&[])), ("items", 2, Object(GROUP))];

/// An APIGroupDiscoveryList in its envelope.
pub fn encode(document: &Value) -> Vec<u8> {
    let text = |key: &str| document[key].as_str().unwrap_or_default();
    let type_meta = Message::default().string(1, text("apiVersion")).string(2, text("kind"));
    let unknown =
        Message::default().message(1, type_meta).message(2, message(LIST, document)).string(3, "").string(4, "");
    [MAGIC.as_slice(), &unknown.into_bytes()].concat()
}

fn message(fields: &[Field], object: &Value) -> Message {
    fields.iter().fold(Message::default(), |message, (key, number, kind)| match object.get(key) {
        None | Some(Value::Null) => message,
        Some(Value::Array(items)) => items.iter().fold(message, |message, item| put(message, *number, kind, item)),
        Some(one) => put(message, *number, kind, one),
    })
}

fn put(out: Message, number: u32, kind: &Kind, value: &Value) -> Message {
    match kind {
        Text => out.string(number, value.as_str().unwrap_or_default()),
        Object(fields) => out.message(number, message(fields, value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_are_messages() {
        let document = json!({"kind": "K", "apiVersion": "V", "metadata": {},
            "items": [{"metadata": {"name": "g"}, "versions": [{"version": "v1", "resources": [{"resource": "r", "verbs": ["a", "b"]}]}]}]});
        let resource = b"\x0a\x01r\x2a\x01a\x2a\x01b";
        let version = [b"\x0a\x02v1\x12\x09".as_slice(), resource].concat();
        let group = [b"\x0a\x03\x0a\x01g\x12\x0f".as_slice(), &version].concat();
        let list = [b"\x0a\x00\x12\x16".as_slice(), &group].concat();
        let wanted = [b"k8s\0\x0a\x06\x0a\x01V\x12\x01K\x12\x1a".as_slice(), &list, b"\x1a\x00\x22\x00"].concat();
        assert_eq!(encode(&document), wanted);
    }
}
