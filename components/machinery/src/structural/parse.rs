//! JSON to [`Schema`].

use serde_json::Value;

use super::{Additional, Pattern, Schema};

/// Of `pattern`: what a definition of the largest allowed size could need, and no more.
const REGEX_BYTES: usize = 2 << 20;

/// Reads a schema that has the shape of `JSONSchemaProps`; what has not is left out.
pub fn parse(value: &Value) -> Schema {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let some_text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let flag = |key: &str| value.get(key).and_then(Value::as_bool).unwrap_or_default();
    let number = |key: &str| value.get(key).and_then(Value::as_f64);
    let count = |key: &str| value.get(key).and_then(Value::as_u64);
    let texts = |key: &str| list(value, key).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let schemas = |key: &str| list(value, key).iter().map(parse).collect();
    let properties = value.get("properties").and_then(Value::as_object).into_iter().flatten();
    Schema {
        kind: text("type"),
        title: text("title"),
        description: text("description"),
        format: text("format"),
        properties: properties.map(|(name, schema)| (name.clone(), parse(schema))).collect(),
        additional: match value.get("additionalProperties") {
            Some(Value::Bool(any)) => Some(Additional::Any(*any)),
            Some(schema @ Value::Object(_)) => Some(Additional::Schema(Box::new(parse(schema)))),
            _ => None,
        },
        items: value.get("items").filter(|it| it.is_object()).map(|it| Box::new(parse(it))),
        default: value.get("default").filter(|it| !it.is_null()).cloned(),
        nullable: flag("nullable"),
        preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
        embedded: flag("x-kubernetes-embedded-resource"),
        int_or_string: flag("x-kubernetes-int-or-string"),
        list_type: some_text("x-kubernetes-list-type"),
        list_map_keys: texts("x-kubernetes-list-map-keys"),
        map_type: some_text("x-kubernetes-map-type"),
        rules: list(value, "x-kubernetes-validations").to_vec(),
        required: texts("required"),
        allowed: list(value, "enum").to_vec(),
        maximum: number("maximum"),
        minimum: number("minimum"),
        exclusive_maximum: flag("exclusiveMaximum"),
        exclusive_minimum: flag("exclusiveMinimum"),
        multiple_of: number("multipleOf"),
        max_length: count("maxLength"),
        min_length: count("minLength"),
        max_items: count("maxItems"),
        min_items: count("minItems"),
        max_properties: count("maxProperties"),
        min_properties: count("minProperties"),
        pattern: some_text("pattern").filter(|it| !it.is_empty()).map(pattern),
        all_of: schemas("allOf"),
        any_of: schemas("anyOf"),
        one_of: schemas("oneOf"),
        not: value.get("not").filter(|it| it.is_object()).map(|it| Box::new(parse(it))),
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn pattern(text: String) -> Pattern {
    let compiled = regex::RegexBuilder::new(&text).size_limit(REGEX_BYTES).build();
    Pattern { compiled: compiled.map_err(|e| e.to_string()), text }
}
