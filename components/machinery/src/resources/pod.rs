use serde_json::Value;

use crate::field::FieldError;

pub(super) fn defaults(_: &mut Value) {}

pub(super) fn prepare_create(_: &mut Value) {}

pub(super) fn validate(_: &Value) -> Vec<FieldError> {
    Vec::new()
}
