use serde_json::Value;

use crate::field::FieldError;

pub(in crate::resources) fn defaults(_: &mut Value) {}

pub(in crate::resources) fn prepare_create(_: &mut Value) {}

pub(in crate::resources) fn validate(_: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn validate_update(_: &Value, _: &Value) -> Vec<FieldError> {
    Vec::new()
}
