//! Whether a schema is structural (apiextensions-apiserver `pkg/apiserver/schema/{validation,complete}.go`).

use serde_json::Value;

use super::{Additional, Schema};
use crate::field::{FieldError, Path};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// What keeps the schema at `path` from being structural, in the order of the texts.
pub fn check(schema: &Schema, path: &Path) -> Vec<FieldError> {
    let mut errors = invariants(schema, Level::Root, path);
    errors.extend(completeness(schema, schema, path));
    errors.sort_by_key(ToString::to_string);
    errors.dedup();
    errors
}

pub fn is_structural(schema: &Schema) -> bool {
    check(schema, &Path::default()).is_empty()
}

fn forbidden_if(condition: bool, path: &Path, key: &str, detail: &str) -> Option<FieldError> {
    condition.then(|| FieldError::forbidden(&path.child(key), detail))
}

fn invariants(s: &Schema, level: Level, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match &s.items {
        Some(items) => errors.extend(invariants(items, Level::Item, &path.child("items"))),
        None if s.kind == "array" => errors.push(FieldError::required(&path.child("items"), "must be specified")),
        None => {}
    }
    let properties = path.child("properties");
    for (key, inner) in &s.properties {
        errors.extend(invariants(inner, Level::Field, &properties.key(key)));
    }
    if let Some(additional) = &s.additional {
        let at = path.child("additionalProperties");
        if level == Level::Root {
            errors.push(FieldError::forbidden(&at, "must not be used at the root"));
        }
        if let Additional::Schema(values) = additional {
            errors.extend(invariants(values, Level::Field, &at));
        }
    }
    errors.extend(extensions(s, path));
    errors.extend(value_validation(s, is_int_or_string(&s.any_of), starts_with_int_or_string(s), path));
    errors.extend(kind(s, level, path));
    errors.extend(type_meta(s, level, path));
    errors
}

fn extensions(s: &Schema, path: &Path) -> Vec<FieldError> {
    let detail = "must be false if x-kubernetes-int-or-string is true";
    let wrong =
        |set: bool, key: &str| (s.int_or_string && set).then(|| FieldError::invalid(&path.child(key), true, detail));
    wrong(s.preserve_unknown, "x-kubernetes-preserve-unknown-fields")
        .into_iter()
        .chain(wrong(s.embedded, "x-kubernetes-embedded-resource"))
        .collect()
}

fn kind(s: &Schema, level: Level, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let at = path.child("type");
    if s.embedded && s.kind != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(match s.kind.is_empty() {
            true => FieldError::required(&at, detail),
            false => FieldError::invalid(&at, s.kind.as_str(), detail),
        });
    } else if s.kind.is_empty() && !s.int_or_string && !s.preserve_unknown {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(&at, detail));
    }
    if s.embedded && s.additional.is_some() {
        let detail = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(FieldError::forbidden(&path.child("additionalProperties"), detail));
    }
    if level == Level::Root && !s.kind.is_empty() && s.kind != "object" {
        errors.push(FieldError::invalid(&at, s.kind.as_str(), "must be object at the root"));
    }
    if s.embedded && !s.preserve_unknown && s.properties.is_empty() {
        let detail =
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(&path.child("properties"), detail));
    }
    errors
}

/// `kind`, `apiVersion` and `metadata` of resources have a shape that no schema may change.
fn type_meta(s: &Schema, level: Level, path: &Path) -> Vec<FieldError> {
    if level != Level::Root && !s.embedded {
        return Vec::new();
    }
    let mut errors = Vec::new();
    let properties = path.child("properties");
    for (key, wanted) in [("kind", "string"), ("apiVersion", "string"), ("metadata", "object")] {
        if let Some(other) = s.properties.get(key).filter(|it| it.kind != wanted) {
            let at = properties.key(key).child("type");
            errors.push(FieldError::invalid(&at, other.kind.as_str(), format!("must be {wanted}")));
        }
    }
    if level == Level::Root && s.properties.get("metadata").is_some_and(|it| !only_names(it)) {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(FieldError::forbidden(&properties.key("metadata"), detail));
    }
    errors
}

fn only_names(metadata: &Schema) -> bool {
    let names = metadata.properties.keys().all(|it| it == "name" || it == "generateName");
    let plain = metadata.additional.is_none()
        && metadata.items.is_none()
        && !metadata.nullable
        && !metadata.preserve_unknown
        && !metadata.embedded
        && !metadata.int_or_string
        && metadata.title.is_empty()
        && metadata.description.is_empty()
        && metadata.rules.is_empty();
    names && plain && !has_value_validation(metadata)
}

fn has_value_validation(s: &Schema) -> bool {
    let numbers = [s.maximum, s.minimum, s.multiple_of];
    let counts = [s.max_length, s.min_length, s.max_items, s.min_items, s.max_properties, s.min_properties];
    let lists = [&s.all_of, &s.any_of, &s.one_of];
    numbers.iter().any(Option::is_some)
        || counts.iter().any(Option::is_some)
        || lists.iter().any(|it| !it.is_empty())
        || s.pattern.is_some()
        || s.not.is_some()
        || !s.format.is_empty()
        || !s.allowed.is_empty()
        || !s.required.is_empty()
}

/// `anyOf: [{type: integer}, {type: string}]`, the one place where alternatives may name types.
fn is_int_or_string(any_of: &[Schema]) -> bool {
    let bare = |s: &Schema, kind: &str| {
        s.kind == kind
            && s.properties.is_empty()
            && s.items.is_none()
            && s.additional.is_none()
            && !has_value_validation(s)
    };
    matches!(any_of, [a, b] if bare(a, "integer") && bare(b, "string"))
}

fn starts_with_int_or_string(s: &Schema) -> bool {
    s.all_of.first().is_some_and(|first| is_int_or_string(&first.any_of))
}

fn value_validation(s: &Schema, skip_any_of: bool, skip_first: bool, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, list) in [("anyOf", &s.any_of), ("allOf", &s.all_of), ("oneOf", &s.one_of)] {
        if key == "anyOf" && skip_any_of {
            continue;
        }
        for (index, inner) in list.iter().enumerate() {
            let skip = key == "allOf" && index == 0 && skip_first;
            errors.extend(nested(inner, skip, &path.child(key).index(index)));
        }
    }
    if let Some(not) = &s.not {
        errors.extend(nested(not, false, &path.child("not")));
    }
    if let Some(pattern) = &s.pattern
        && let Err(why) = &pattern.compiled
    {
        let detail = format!("must be a valid regular expression, but isn't: {why}");
        errors.push(FieldError::invalid(&path.child("pattern"), pattern.text.as_str(), detail));
    }
    errors
}

/// Below `allOf` and the like only values may be restricted.
fn nested(s: &Schema, skip_any_of: bool, path: &Path) -> Vec<FieldError> {
    let mut errors = value_validation(s, skip_any_of, false, path);
    if let Some(items) = &s.items {
        errors.extend(nested(items, false, &path.child("items")));
    }
    for (key, inner) in &s.properties {
        errors.extend(nested(inner, false, &path.child("properties").key(key)));
    }
    let (empty, off, none) =
        ("must be empty to be structural", "must be false to be structural", "must be undefined to be structural");
    let checks = [
        (!s.kind.is_empty(), "type", empty),
        (s.additional.is_some(), "additionalProperties", none),
        (s.default.is_some(), "default", none),
        (!s.title.is_empty(), "title", empty),
        (!s.description.is_empty(), "description", empty),
        (s.nullable, "nullable", off),
        (s.preserve_unknown, "x-kubernetes-preserve-unknown-fields", off),
        (s.embedded, "x-kubernetes-embedded-resource", off),
        (s.int_or_string, "x-kubernetes-int-or-string", off),
        (!s.list_map_keys.is_empty(), "x-kubernetes-list-map-keys", empty),
        (s.list_type.is_some(), "x-kubernetes-list-type", none),
        (s.map_type.is_some(), "x-kubernetes-map-type", none),
        (!s.rules.is_empty(), "x-kubernetes-validations", empty),
    ];
    errors.extend(checks.iter().filter_map(|(wrong, key, detail)| forbidden_if(*wrong, path, key, detail)));
    if s.properties.contains_key("metadata") {
        let at = path.child("properties").key("metadata");
        errors.push(FieldError::forbidden(&at, "must not be specified in a nested context"));
    }
    errors
}

/// Every field and item that alternatives speak of must be known outside of them, too.
fn completeness(s: &Schema, alternatives: &Schema, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, list) in
        [("allOf", &alternatives.all_of), ("anyOf", &alternatives.any_of), ("oneOf", &alternatives.one_of)]
    {
        for (index, inner) in list.iter().enumerate() {
            errors.extend(mirrored(s, inner, path, &path.child(key).index(index)));
        }
    }
    if let Some(not) = &alternatives.not {
        errors.extend(mirrored(s, not, path, &path.child("not")));
    }
    // the alternatives of what lies below
    if std::ptr::eq(s, alternatives) {
        for (key, inner) in &s.properties {
            errors.extend(completeness(inner, inner, &path.child("properties").key(key)));
        }
        for (inner, key) in [(s.items.as_deref(), "items"), (s.values(), "additionalProperties")] {
            errors.extend(inner.into_iter().flat_map(|inner| completeness(inner, inner, &path.child(key))));
        }
    }
    errors
}

fn mirrored(s: &Schema, nested: &Schema, path: &Path, at: &Path) -> Vec<FieldError> {
    let mut errors = completeness(s, nested, at);
    let because = |at: &Path| format!("because it is defined in {at}");
    for (key, inner) in &nested.properties {
        let inner_at = at.child("properties").key(key);
        let outer_at = path.child("properties").key(key);
        match s.properties.get(key) {
            Some(outer) => errors.extend(mirrored(outer, inner, &outer_at, &inner_at)),
            None => errors.push(FieldError::required(&outer_at, because(&inner_at))),
        }
    }
    if let Some(inner) = &nested.items {
        let (outer_at, inner_at) = (path.child("items"), at.child("items"));
        match &s.items {
            Some(outer) => errors.extend(mirrored(outer, inner, &outer_at, &inner_at)),
            None => errors.push(FieldError::required(&outer_at, because(&inner_at))),
        }
    }
    errors
}

/// A default must be what the schema allows: the problems of all defaults below `path`.
pub(super) fn defaults(schema: &Schema, path: &Path, inside_meta: bool) -> Vec<FieldError> {
    let inside_meta = inside_meta && !schema.embedded;
    let mut errors = Vec::new();
    if let Some(default) = &schema.default {
        let at = path.child("default");
        if !inside_meta && has_unknown(schema, default) {
            errors.push(FieldError::invalid(&at, default.clone(), "must not have unknown fields"));
        }
        let embedded = super::embedded(schema, default, &at);
        match embedded.is_empty() {
            true => errors.extend(super::validate_at(schema, default, &at)),
            false => errors.extend(embedded),
        }
    }
    if let Some(items) = &schema.items {
        errors.extend(defaults(items, &path.child("items"), inside_meta));
    }
    for (key, inner) in &schema.properties {
        let meta = schema.embedded && matches!(key.as_str(), "metadata" | "apiVersion" | "kind");
        errors.extend(defaults(inner, &path.child("properties").key(key), inside_meta || meta));
    }
    errors
}

fn has_unknown(schema: &Schema, default: &Value) -> bool {
    let mut pruned = default.clone();
    !super::prune(schema, &mut pruned, false).is_empty()
}
