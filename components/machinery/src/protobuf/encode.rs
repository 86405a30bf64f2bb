//! JSON values to protobuf. A value that does not fit its type is left out: what is encoded was checked when it was stored.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use super::{
    MAGIC, META, Shape,
    fields::{self, Field, Form, Message},
    shape, special,
    wire::{put_bytes, put_double, put_int, put_message as message},
};
use crate::schema::Type;

const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// The whole object in its envelope; `None` if its kind has no protobuf form.
pub fn encode(object: &Value) -> Option<Vec<u8>> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let shape = shape(api_version, kind)?;
    Some(envelope(api_version, kind, |out| message(out, 2, |out| put_shape(out, &shape, object))))
}

/// A list whose items come one after the other, so that only one of them is a value at a time; `None` if its kind has no protobuf
/// form, otherwise the first item that cannot be got ends it.
pub fn encode_list<E>(
    api_version: &str,
    kind: &str,
    list_metadata: &Value,
    items: impl Iterator<Item = Result<Value, E>>,
) -> Option<Result<Vec<u8>, E>> {
    let Some(Shape::List(definition)) = shape(api_version, kind) else { return None };
    let mut body = Vec::with_capacity(4096);
    message(&mut body, 1, |out| put_definition(out, &format!("{META}.ListMeta"), list_metadata));
    for item in items {
        match item {
            Ok(item) => message(&mut body, 2, |out| put_definition(out, &definition, &item)),
            Err(error) => return Some(Err(error)),
        }
    }
    Some(Ok(envelope(api_version, kind, |out| put_bytes(out, 2, &body))))
}

fn envelope(api_version: &str, kind: &str, put_raw: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(MAGIC);
    message(&mut out, 1, |out| {
        put_bytes(out, 1, api_version.as_bytes());
        put_bytes(out, 2, kind.as_bytes());
    });
    put_raw(&mut out);
    put_bytes(&mut out, 3, b"");
    put_bytes(&mut out, 4, b"");
    out
}

/// One event of a watch: its length in four bytes, then a `metav1.WatchEvent` around the enveloped object.
pub fn watch_frame(out: &mut Vec<u8>, kind: &str, object: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    put_bytes(out, 1, kind.as_bytes());
    message(out, 2, |out| put_bytes(out, 1, object));
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn put_shape(out: &mut Vec<u8>, shape: &Shape, object: &Value) {
    let metadata = |out: &mut Vec<u8>, value: &Value, kind: &str| {
        let metadata = value.get("metadata").unwrap_or(&Value::Null);
        message(out, 1, |out| put_definition(out, &format!("{META}.{kind}"), metadata));
    };
    let items = || object.get("items").and_then(Value::as_array).into_iter().flatten();
    match shape {
        Shape::Object(definition) => put_definition(out, definition, object),
        Shape::Metadata => metadata(out, object, "ObjectMeta"),
        Shape::List(definition) => {
            metadata(out, object, "ListMeta");
            items().for_each(|item| message(out, 2, |out| put_definition(out, definition, item)));
        }
        Shape::MetadataList => {
            metadata(out, object, "ListMeta");
            items().for_each(|item| message(out, 2, |out| metadata(out, item, "ObjectMeta")));
        }
    }
}

fn put_definition(out: &mut Vec<u8>, definition: &str, value: &Value) {
    if let (Some(Message { fields, .. }), Some(map)) = (fields::message(definition), value.as_object()) {
        put_fields(out, fields, 0, map);
    }
}

/// Fields of one message; those that are embedded at this level lie side by side, as the table is sorted.
fn put_fields(out: &mut Vec<u8>, fields: &[Field], level: usize, map: &Map<String, Value>) {
    for group in fields.chunk_by(|a, b| a.path.get(level) == b.path.get(level)) {
        let Some(number) = group.first().and_then(|f| f.path.get(level)) else { continue };
        match group {
            [field] if field.path.len() == level + 1 => {
                if let Some(value) = map.get(field.name).filter(|v| !v.is_null()) {
                    put_field(out, *number, field, value);
                }
            }
            // Go's clients expect an embedded message, which is never absent for them
            _ => message(out, *number, |out| put_fields(out, group, level + 1, map)),
        }
    }
}

fn put_field(out: &mut Vec<u8>, number: u32, field: &Field, value: &Value) {
    match (field.kind, value) {
        // a list in a message of its own is one value
        (Type::List(_), _) if field.form == Form::Strings => put_value(out, number, field.form, field.kind, value),
        (Type::List(inner), Value::Array(items)) => {
            items.iter().for_each(|item| put_value(out, number, field.form, inner, item));
        }
        (Type::Map(inner), Value::Object(entries)) => {
            for (key, item) in entries {
                message(out, number, |out| {
                    put_bytes(out, 1, key.as_bytes());
                    put_value(out, 2, field.form, inner, item);
                });
            }
        }
        _ => put_value(out, number, field.form, field.kind, value),
    }
}

fn put_value(out: &mut Vec<u8>, number: u32, form: Form, kind: &Type, value: &Value) {
    match form {
        Form::Raw => return message(out, number, |out| put_bytes(out, 1, value.to_string().as_bytes())),
        Form::SchemaOrArray => return message(out, number, |out| put_schema_or_array(out, value)),
        Form::SchemaOrBool => return message(out, number, |out| put_schema_or_bool(out, value)),
        Form::SchemaOrStrings => return message(out, number, |out| put_schema_or_strings(out, value)),
        Form::Strings => return message(out, number, |out| put_strings(out, 1, value)),
        Form::Typed => {}
    }
    match (kind, value) {
        (Type::String, Value::String(text)) => put_bytes(out, number, text.as_bytes()),
        (Type::Bytes, Value::String(text)) => {
            if let Ok(bytes) = STANDARD.decode(text) {
                put_bytes(out, number, &bytes);
            }
        }
        (Type::Bool, Value::Bool(flag)) => put_int(out, number, i64::from(*flag)),
        (Type::Int32 | Type::Int64, Value::Number(n)) => put_int(out, number, n.as_i64().unwrap_or(0)),
        (Type::Float, Value::Number(n)) => put_double(out, number, n.as_f64().unwrap_or(0.0)),
        (Type::Time, Value::String(text)) => message(out, number, |out| special::put_time(out, text, false)),
        (Type::MicroTime, Value::String(text)) => message(out, number, |out| special::put_time(out, text, true)),
        (Type::Quantity, Value::String(text)) => message(out, number, |out| put_bytes(out, 1, text.as_bytes())),
        (Type::Quantity, Value::Number(n)) => message(out, number, |out| put_bytes(out, 1, n.to_string().as_bytes())),
        (Type::IntOrString, _) => message(out, number, |out| special::put_int_or_string(out, value)),
        (Type::Object(definition), Value::Object(_)) => {
            message(out, number, |out| put_definition(out, definition, value));
        }
        // lists of lists and maps of maps have no protobuf form, and no kind has them
        _ => {}
    }
}

fn put_strings(out: &mut Vec<u8>, number: u32, value: &Value) {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .for_each(|text| put_bytes(out, number, text.as_bytes()));
}

fn put_schema(out: &mut Vec<u8>, number: u32, value: &Value) {
    message(out, number, |out| put_definition(out, SCHEMA, value));
}

fn put_schema_or_array(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Array(all) => all.iter().for_each(|one| put_schema(out, 2, one)),
        one => put_schema(out, 1, one),
    }
}

fn put_schema_or_bool(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Bool(allows) => put_int(out, 1, i64::from(*allows)),
        schema => {
            put_int(out, 1, 1);
            put_schema(out, 2, schema);
        }
    }
}

fn put_schema_or_strings(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Array(_) => put_strings(out, 2, value),
        schema => put_schema(out, 1, schema),
    }
}
