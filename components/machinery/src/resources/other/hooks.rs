use serde_json::Value;

use crate::field::FieldError;

pub(in crate::resources) fn binding(_: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn csr(_: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn ingress(_: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn ingress_class(_: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn lease(_: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn network_policy(_: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn priority_class(_: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn runtime_class(_: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn config_map(_: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn controller_revision(_: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn endpoints(_: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn event(_: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn node(_: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn pdb(_: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn secret(_: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn slice(_: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn binding_update(_: &Value, _: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn csr_status_update(_: &Value, _: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn ingress_class_update(_: &Value, _: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn priority_class_update(_: &Value, _: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn runtime_class_update(_: &Value, _: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn config_map_update(_: &Value, _: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn controller_revision_update(_: &Value, _: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn node_update(_: &Value, _: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn secret_update(_: &Value, _: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn slice_update(_: &Value, _: &Value) -> Vec<FieldError> {
    Vec::new()
}

pub(in crate::resources) fn binding_defaults(_: &mut Value) {}

pub(in crate::resources) fn csr_defaults(_: &mut Value) {}

pub(in crate::resources) fn network_policy_defaults(_: &mut Value) {}

pub(in crate::resources) fn priority_class_defaults(_: &mut Value) {}

pub(in crate::resources) fn endpoints_defaults(_: &mut Value) {}

pub(in crate::resources) fn namespace_create(_: &mut Value) {}

pub(in crate::resources) fn namespace_defaults(_: &mut Value) {}

pub(in crate::resources) fn node_defaults(_: &mut Value) {}

pub(in crate::resources) fn secret_defaults(_: &mut Value) {}

pub(in crate::resources) fn slice_defaults(_: &mut Value) {}

pub(in crate::resources) fn role(_: &Value, _: bool) -> Vec<FieldError> {
    Vec::new()
}
