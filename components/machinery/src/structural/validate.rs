//! Validation of values with the texts of upstream's validator (kube-openapi `pkg/validation/validate` and `errors`, and how
//! apiextensions-apiserver `pkg/apiserver/validation` turns its results into field errors).

use serde_json::Value;

use super::{Additional, Schema, formats, lists::key_of};
use crate::field::{FieldError, FieldErrorKind, Path};

/// Checks an object. What did not change against `old` and can be told to be the same is right, whatever the schema says now.
pub fn validate(schema: &Schema, value: &Value, old: Option<&Value>) -> Vec<FieldError> {
    Validator { base: None }.node(schema, value, old, "").errors
}

/// As [`validate`], for a value that lies at `base` (a default in a definition).
pub fn validate_at(schema: &Schema, value: &Value, base: &Path) -> Vec<FieldError> {
    Validator { base: Some(base) }.node(schema, value, None, "").errors
}

struct Validator<'a> {
    base: Option<&'a Path>,
}

/// Errors, and how many checks were made: alternatives that got further explain a failure better.
#[derive(Default)]
struct Outcome {
    errors: Vec<FieldError>,
    checks: usize,
}

impl Outcome {
    fn is_valid(&self) -> bool {
        self.errors.is_empty()
    }

    fn merge(&mut self, other: Outcome) {
        self.errors.extend(other.errors);
        self.checks += other.checks;
    }
}

/// As Go's `%v` writes floats.
fn number_text(number: f64) -> String {
    if number != 0.0 && !(1e-4..1e21).contains(&number.abs()) {
        let text = format!("{number:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    number.to_string()
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_whole(value: &Value) -> bool {
    value.as_f64().is_some_and(|f| f.fract() == 0.0)
}

/// What lies at a field of the old object, if the two objects can be compared field by field.
fn old_field<'a>(schema: &Schema, old: Option<&'a Value>, key: &str) -> Option<&'a Value> {
    old.filter(|_| schema.map_type.as_deref() != Some("atomic"))?.get(key)
}

/// The old item that a new one stands for: that with the same keys, in map lists.
pub fn correlated<'a>(schema: &Schema, old: Option<&'a Value>, item: &Value) -> Option<&'a Value> {
    if schema.list_type.as_deref() != Some("map") {
        return None;
    }
    let keys = key_of(schema, item);
    old?.as_array()?.iter().find(|it| key_of(schema, it) == keys)
}

impl Validator<'_> {
    fn place(&self, path: &str) -> Path {
        match self.base {
            None if path.is_empty() => Path::new("<nil>"),
            None => Path::new(path),
            Some(base) if path.is_empty() => base.clone(),
            Some(base) => base.child(path),
        }
    }

    fn error(&self, kind: FieldErrorKind, path: &str, value: Option<Value>, detail: String) -> FieldError {
        FieldError { kind, field: self.place(path).as_str().to_owned(), value, detail }
    }

    fn invalid(&self, path: &str, value: impl Into<Value>, detail: String) -> FieldError {
        self.error(FieldErrorKind::Invalid, path, Some(value.into()), format!("{path} in body {detail}"))
    }

    /// About alternatives: upstream tells no field of it.
    fn composite(&self, path: &str, detail: &str) -> FieldError {
        self.error(FieldErrorKind::Invalid, "", Some("".into()), format!("{path:?} {detail}"))
    }

    fn node(&self, schema: &Schema, value: &Value, old: Option<&Value>, path: &str) -> Outcome {
        if old == Some(value) {
            return Outcome { checks: 1, ..Outcome::default() };
        }
        self.changed(schema, value, old, path)
    }

    fn changed(&self, schema: &Schema, value: &Value, old: Option<&Value>, path: &str) -> Outcome {
        let mut outcome = Outcome::default();
        self.kind(schema, value, path, &mut outcome);
        if !value.is_null() {
            self.alternatives(schema, value, old, path, &mut outcome);
            match value {
                Value::String(text) => self.text(schema, text, path, &mut outcome),
                Value::Number(number) => {
                    self.number(schema, number.as_f64().unwrap_or_default(), value, path, &mut outcome)
                }
                Value::Array(items) => self.list(schema, items, old, path, &mut outcome),
                Value::Object(_) => self.object(schema, value, old, path, &mut outcome),
                Value::Null | Value::Bool(_) => {}
            }
        }
        self.allowed(schema, value, path, &mut outcome);
        outcome
    }

    fn kind(&self, schema: &Schema, value: &Value, path: &str, outcome: &mut Outcome) {
        let wanted = if schema.int_or_string { "integer,string" } else { schema.kind.as_str() };
        outcome.checks += 1;
        if wanted.is_empty() || (value.is_null() && schema.nullable) {
            return;
        }
        let found = type_of(value);
        let fits = wanted.split(',').any(|wanted| {
            wanted == found
                || (wanted == "number" && found == "integer")
                || (wanted == "integer" && found == "number" && is_whole(value))
        });
        if !fits {
            let detail = format!("{path} in body must be of type {wanted}: \"{found}\"");
            outcome.errors.push(self.error(FieldErrorKind::TypeInvalid, path, Some(found.into()), detail));
        }
    }

    fn allowed(&self, schema: &Schema, value: &Value, path: &str, outcome: &mut Outcome) {
        outcome.checks += 1;
        let same = |it: &Value| it == value || (it.is_number() && it.as_f64() == value.as_f64());
        if schema.allowed.is_empty() || (value.is_null() && schema.nullable) || schema.allowed.iter().any(same) {
            return;
        }
        let texts = schema.allowed.iter().map(|it| it.as_str().map_or_else(|| it.to_string(), str::to_owned));
        let quoted: Vec<String> = texts.map(|it| format!("{it:?}")).collect();
        let detail = format!("supported values: {}", quoted.join(", "));
        outcome.errors.push(self.error(FieldErrorKind::NotSupported, path, Some(value.clone()), detail));
    }

    fn text(&self, schema: &Schema, text: &str, path: &str, outcome: &mut Outcome) {
        outcome.checks += 1;
        let length = text.chars().count() as u64;
        if let Some(max) = schema.max_length.filter(|max| length > *max) {
            let detail = format!("may not be more than {max} bytes");
            outcome.errors.push(self.error(FieldErrorKind::TooLong, path, Some(text.into()), detail));
        }
        if let Some(min) = schema.min_length.filter(|min| length < *min) {
            outcome.errors.push(self.invalid(path, text, format!("should be at least {min} chars long")));
        }
        if let Some(pattern) = &schema.pattern
            && !pattern.compiled.as_ref().is_ok_and(|it| it.is_match(text))
        {
            outcome.errors.push(self.invalid(path, text, format!("should match '{}'", pattern.text)));
        }
        if formats::check(&schema.format, text) == Some(false) {
            let detail = format!("{path} in body must be of type {}: {text:?}", schema.format);
            outcome.errors.push(self.error(FieldErrorKind::TypeInvalid, path, Some(text.into()), detail));
        }
    }

    fn number(&self, schema: &Schema, number: f64, value: &Value, path: &str, outcome: &mut Outcome) {
        outcome.checks += 1;
        if let Some(step) = schema.multiple_of.filter(|step| *step > 0.0) {
            let times = number / step;
            if (times - times.round()).abs() > 1e-9 * times.abs().max(1.0) {
                let detail = format!("should be a multiple of {}", number_text(step));
                outcome.errors.push(self.invalid(path, value.clone(), detail));
            }
        }
        let bounds = [
            (schema.maximum, schema.exclusive_maximum, "less than", f64::gt as fn(&f64, &f64) -> bool),
            (schema.minimum, schema.exclusive_minimum, "greater than", f64::lt),
        ];
        for (bound, exclusive, words, beyond) in bounds {
            #[allow(clippy::float_cmp)]
            let Some(bound) = bound.filter(|b| beyond(&number, b) || (exclusive && number == *b)) else { continue };
            let or_equal = if exclusive { "" } else { " or equal to" };
            let detail = format!("should be {words}{or_equal} {}", number_text(bound));
            outcome.errors.push(self.invalid(path, value.clone(), detail));
        }
    }

    fn list(&self, schema: &Schema, items: &[Value], old: Option<&Value>, path: &str, outcome: &mut Outcome) {
        outcome.checks += 1;
        if let Some(inner) = &schema.items {
            for (index, item) in items.iter().enumerate() {
                let before = correlated(schema, old, item);
                outcome.merge(self.node(inner, item, before, &format!("{path}[{index}]")));
            }
        }
        let count = items.len() as u64;
        if let Some(min) = schema.min_items.filter(|min| count < *min) {
            outcome.errors.push(self.invalid(path, items.to_vec(), format!("should have at least {min} items")));
        }
        outcome.errors.extend(self.too_many(path, count, schema.max_items));
    }

    fn too_many(&self, path: &str, count: u64, max: Option<u64>) -> Option<FieldError> {
        let max = max.filter(|max| count > *max)?;
        let detail = format!("must have at most {max} items");
        Some(self.error(FieldErrorKind::TooMany, path, Some(count.into()), detail))
    }

    fn object(&self, schema: &Schema, value: &Value, old: Option<&Value>, path: &str, outcome: &mut Outcome) {
        outcome.checks += 1;
        let Some(map) = value.as_object() else { return };
        let count = map.len() as u64;
        if let Some(min) = schema.min_properties.filter(|min| count < *min) {
            outcome.errors.push(self.invalid(path, count, format!("should have at least {min} properties")));
        }
        outcome.errors.extend(self.too_many(path, count, schema.max_properties));
        let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        for key in schema.required.iter().filter(|key| !map.contains_key(*key)) {
            outcome.errors.push(self.error(FieldErrorKind::Required, &below(key), None, String::new()));
        }
        for (key, inner) in map {
            // the type of an object is not what changes; its fields at the root are the server's own
            let before = old_field(schema, old, key);
            match (schema.properties.get(key), &schema.additional) {
                (Some(known), _) => outcome.merge(self.node(known, inner, before, &below(key))),
                (None, Some(Additional::Schema(values))) => {
                    outcome.merge(self.node(values, inner, before, &below(key)))
                }
                (None, Some(Additional::Any(false))) => {
                    let detail = format!("{path}.{key} in body is a forbidden property");
                    outcome.errors.push(self.error(FieldErrorKind::Invalid, &below(key), Some("".into()), detail));
                }
                (None, _) => {}
            }
        }
    }

    fn alternatives(&self, schema: &Schema, value: &Value, old: Option<&Value>, path: &str, outcome: &mut Outcome) {
        let try_all =
            |all: &[Schema]| -> Vec<Outcome> { all.iter().map(|it| self.changed(it, value, old, path)).collect() };
        let any_of = try_all(&schema.any_of);
        if !any_of.is_empty() && !any_of.iter().any(Outcome::is_valid) {
            outcome.errors.push(self.composite(path, "must validate at least one schema (anyOf)"));
            outcome.merge(furthest(any_of));
        }
        let one_of = try_all(&schema.one_of);
        match one_of.iter().filter(|it| it.is_valid()).count() {
            _ if one_of.is_empty() => {}
            1 => {}
            0 => {
                let detail = "must validate one and only one schema (oneOf). Found none valid";
                outcome.errors.push(self.composite(path, detail));
                outcome.merge(furthest(one_of));
            }
            several => {
                let detail =
                    format!("must validate one and only one schema (oneOf). Found {several} valid alternatives");
                outcome.errors.push(self.composite(path, &detail));
            }
        }
        let all_of = try_all(&schema.all_of);
        let valid = all_of.iter().filter(|it| it.is_valid()).count();
        if valid != all_of.len() {
            let none = if valid == 0 { ". None validated" } else { "" };
            all_of.into_iter().for_each(|it| outcome.merge(it));
            outcome.errors.push(self.composite(path, &format!("must validate all the schemas (allOf){none}")));
        }
        if let Some(not) = &schema.not
            && self.changed(not, value, old, path).is_valid()
        {
            outcome.errors.push(self.composite(path, "must not validate the schema (not)"));
        }
    }
}

/// Of the alternatives that failed, the first of those that were checked most.
fn furthest(all: Vec<Outcome>) -> Outcome {
    let mut best = Outcome::default();
    for (index, outcome) in all.into_iter().enumerate() {
        if index == 0 || outcome.checks > best.checks {
            best = outcome;
        }
    }
    best
}
