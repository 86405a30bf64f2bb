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

    pub fn forbidden(path: &Path, detail: impl Into<String>) -> Self {
        Self::build(FieldErrorKind::Forbidden, path, None, detail)
    }

    pub fn duplicate(path: &Path, value: impl Into<Value>) -> Self {
        Self::build(FieldErrorKind::Duplicate, path, Some(value.into()), "")
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

    pub fn not_supported(path: &Path, value: impl Into<Value>, supported: &[&str]) -> Self {
        let mut list: Vec<String> = supported.iter().map(|s| format!("\"{s}\"")).collect();
        list.sort();
        let detail = if list.is_empty() { String::new() } else { format!("supported values: {}", list.join(", ")) };
        Self::build(FieldErrorKind::NotSupported, path, Some(value.into()), detail)
    }

    /// The message without the field.
    pub fn body(&self) -> String {
        use FieldErrorKind as K;
        let mut text = self.kind.text().to_owned();
        if !matches!(self.kind, K::Required | K::Forbidden | K::TooLong | K::Internal)
            && let Some(value) = &self.value
        {
            text.push_str(": ");
            text.push_str(&value.to_string());
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}
