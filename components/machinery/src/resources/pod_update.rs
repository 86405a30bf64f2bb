use serde_json::Value;

use crate::field::FieldError;

pub(super) fn validate(_: &Value, _: &Value) -> Vec<FieldError> {
    Vec::new()
}
