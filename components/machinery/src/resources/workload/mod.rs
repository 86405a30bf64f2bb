pub(super) mod job;
pub(super) mod service;
use serde_json::Value;

use crate::field::FieldError;

pub(super) fn daemon_set(_: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(super) fn daemon_set_defaults(_: &mut Value) {}

pub(super) fn daemon_set_update(_: &Value, _: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(super) fn deployment(_: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(super) fn deployment_defaults(_: &mut Value) {}

pub(super) fn deployment_update(_: &Value, _: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(super) fn replica_set(_: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(super) fn replica_set_defaults(_: &mut Value) {}

pub(super) fn replica_set_update(_: &Value, _: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(super) fn stateful_set(_: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(super) fn stateful_set_defaults(_: &mut Value) {}

pub(super) fn stateful_set_update(_: &Value, _: &Value) -> Vec<FieldError> {
    Vec::new()
}
