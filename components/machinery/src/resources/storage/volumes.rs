use serde_json::Value;

use crate::field::FieldError;

pub(in crate::resources) fn claim(_: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn claim_create(_: &mut Value) {}

pub(in crate::resources) fn claim_defaults(_: &mut Value) {}

pub(in crate::resources) fn claim_update(_: &Value, _: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn volume(_: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn volume_create(_: &mut Value) {}

pub(in crate::resources) fn volume_defaults(_: &mut Value) {}

pub(in crate::resources) fn volume_update(_: &Value, _: &Value) -> Vec<FieldError> {
    Vec::new()
}
