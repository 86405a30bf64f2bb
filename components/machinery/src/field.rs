//! Field paths and field errors with upstream's texts (apimachinery `pkg/util/validation/field`).

use std::fmt;

use serde_json::Value;

/// Where a field is: `spec.containers[0].image`, `metadata.labels[app]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    pub fn new(root: &str) -> Self {
        Path(root.to_owned())
    }

    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Path(name.to_owned()) } else { Path(format!("{}.{name}", self.0)) }
    }

    pub fn index(&self, index: usize) -> Self {
        Path(format!("{}[{index}]", self.0))
    }

    pub fn key(&self, key: &str) -> Self {
        Path(format!("{}[{key}]", self.0))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    Internal,
    TypeInvalid,
}

impl FieldErrorKind {
    /// The words a person reads.
    pub fn text(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }

    /// The `reason` of a cause in a Status.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }
}

/// One thing that is wrong with an object.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    pub kind: FieldErrorKind,
    pub field: String,
    pub value: Option<Value>,
    pub detail: String,
}

impl FieldError {
    fn build(kind: FieldErrorKind, path: &Path, value: Option<Value>, detail: impl Into<String>) -> Self {
        FieldError { kind, field: path.0.clone(), value, detail: detail.into() }
    }

    pub fn required(path: &Path, detail: impl Into<String>) -> Self {
        Self::build(FieldErrorKind::Required, path, None, detail)
    }

    pub fn invalid(path: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::build(FieldErrorKind::Invalid, path, Some(value.into()), detail)
    }

    /// Invalid, where the value is too large to be shown (`field.OmitValueType`).
    pub fn invalid_omitted(path: &Path, detail: impl Into<String>) -> Self {
        Self::build(FieldErrorKind::Invalid, path, None, detail)
    }

    /// Invalid, where a list should be and none is: Go writes it without quotes.
    pub fn invalid_no_list(path: &Path, detail: &str) -> Self {
        Self::build(FieldErrorKind::Invalid, path, None, format!("null: {detail}"))
    }

    /// One error for each of the problems that a check of `value` found.
    pub fn each_invalid(path: &Path, value: &str, problems: Vec<String>) -> Vec<Self> {
        problems.into_iter().map(|problem| Self::invalid(path, value, problem)).collect()
    }

    pub fn forbidden(path: &Path, detail: impl Into<String>) -> Self {
        Self::build(FieldErrorKind::Forbidden, path, None, detail)
    }

    pub fn duplicate(path: &Path, value: impl Into<Value>) -> Self {
        Self::build(FieldErrorKind::Duplicate, path, Some(value.into()), "")
    }

    /// Duplicate, where what is shown is a structure of upstream's own that has no JSON form here.
    pub fn duplicate_shown(path: &Path, shown: &str) -> Self {
        Self::build(FieldErrorKind::Duplicate, path, None, shown)
    }

    pub fn not_found(path: &Path, value: impl Into<Value>) -> Self {
        Self::build(FieldErrorKind::NotFound, path, Some(value.into()), "")
    }

    pub fn too_long(path: &Path, max: usize) -> Self {
        Self::build(FieldErrorKind::TooLong, path, None, format!("may not be more than {max} bytes"))
    }

    pub fn too_many(path: &Path, actual: usize, max: usize) -> Self {
        Self::build(FieldErrorKind::TooMany, path, Some(actual.into()), format!("must have at most {max} items"))
    }

    /// Lists `supported` in the order given: upstream sorts most of its lists, but not all.
    pub fn not_supported(path: &Path, value: impl Into<Value>, supported: &[&str]) -> Self {
        let list: Vec<String> = supported.iter().map(|s| quoted(s)).collect();
        let detail = if list.is_empty() { String::new() } else { format!("supported values: {}", list.join(", ")) };
        Self::build(FieldErrorKind::NotSupported, path, Some(value.into()), detail)
    }

    /// Not supported, where what is shown is a structure of upstream's own that has no JSON form here.
    pub fn not_supported_shown(path: &Path, shown: &str, supported: &[&str]) -> Self {
        let FieldError { detail, .. } = Self::not_supported(path, "", supported);
        Self::build(FieldErrorKind::NotSupported, path, None, format!("{shown}: {detail}"))
    }

    /// The message without the field.
    pub fn body(&self) -> String {
        use FieldErrorKind as K;
        let mut text = self.kind.text().to_owned();
        if !matches!(self.kind, K::Required | K::Forbidden | K::TooLong | K::Internal)
            && let Some(value) = &self.value
        {
            text.push_str(": ");
            text.push_str(&rendered(value));
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

/// A value as the message shows it: what is missing as the word `"null"`, structures as JSON.
fn rendered(value: &Value) -> String {
    match value {
        Value::Null => "\"null\"".to_owned(),
        Value::String(text) => quoted(text),
        Value::Array(_) | Value::Object(_) => shown(value),
        plain => plain.to_string(),
    }
}

/// JSON in the way Go's encoder writes it.
pub fn shown(value: &Value) -> String {
    let mut text = String::new();
    for c in value.to_string().chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            other => text.push(other),
        }
    }
    text
}

/// Go's `%q`.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() || (c.is_whitespace() && c != ' ') => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_written_as_go_writes_them() {
        let at = Path::new("spec").child("x");
        for (value, wanted) in [
            (json!(null), r#""null""#),
            (json!("a\"b\u{1}\u{7f}é\n"), r#""a\"b\x01\x7fé\n""#),
            (json!(7), "7"),
            (json!(true), "true"),
            (json!(["<a>", "b&c"]), r#"["\u003ca\u003e","b\u0026c"]"#),
            (json!({"matchLabels": {"a": "b"}}), r#"{"matchLabels":{"a":"b"}}"#),
        ] {
            assert_eq!(
                FieldError::invalid(&at, value, "why").to_string(),
                format!("spec.x: Invalid value: {wanted}: why")
            );
        }
        assert_eq!(
            FieldError::not_supported(&at, "c", &["b", "a"]).to_string(),
            r#"spec.x: Unsupported value: "c": supported values: "b", "a""#
        );
        assert_eq!(FieldError::too_long(&at, 3).to_string(), "spec.x: Too long: may not be more than 3 bytes");
        assert_eq!(FieldError::too_many(&at, 4, 3).to_string(), "spec.x: Too many: 4: must have at most 3 items");
    }
}
