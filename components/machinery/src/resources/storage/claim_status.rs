//! What the status of a PersistentVolumeClaim may become (kubernetes `ValidatePersistentVolumeClaimStatusUpdate`).

use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    names, quantity,
    resources::pod,
    value::get,
};

const RESIZES: &[&str] = &[
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

fn entries<'a>(claim: &'a Value, field: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    get(claim, "status").and_then(|s| s.get(field)).and_then(Value::as_object).into_iter().flatten()
}

pub(in crate::resources) fn claim_status(new: &Value, _: &Value) -> Vec<FieldError> {
    let path = Path::new("status");
    let mut errors: Vec<FieldError> =
        entries(new, "capacity").filter_map(|(name, size)| basic(size, &path.child("capacity").key(name))).collect();
    // upstream's path is not the field's name
    let at = path.child("allocatedResourceStatus");
    for (name, state) in entries(new, "allocatedResourceStatuses") {
        errors.extend(resource(name, &at));
        if !state.as_str().is_some_and(|state| RESIZES.contains(&state)) {
            errors.push(FieldError::not_supported(&at, name.as_str(), RESIZES));
        }
    }
    let at = path.child("allocatedResources");
    for (name, size) in entries(new, "allocatedResources") {
        let unknown = resource(name, &at);
        if !unknown.is_empty() {
            errors.extend(unknown);
            continue;
        }
        match basic(size, &at.key(name)) {
            Some(error) => errors.push(error),
            None => errors.extend(pod::quantity_value("storage", size, &at.key(name))),
        }
    }
    errors
}

fn basic(size: &Value, path: &Path) -> Option<FieldError> {
    let value = quantity::from_json(size).ok()?.value();
    (value < 0).then(|| FieldError::invalid(path, value, "must be a valid resource quantity"))
}

/// `storage`, or what somebody's own domain knows.
fn resource(name: &str, path: &Path) -> Vec<FieldError> {
    let problems = names::qualified_name(name);
    if !problems.is_empty() {
        return FieldError::each_invalid(path, name, problems);
    }
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    if native && name != "storage" {
        return vec![FieldError::not_supported(path, name, &["storage"])];
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_part_has_its_rule() {
        let found = |status: Value| {
            claim_status(&json!({"status": status}), &Value::Null).iter().map(FieldError::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            found(json!({"capacity": {"storage": "1Gi"}, "allocatedResources": {"storage": "1Gi", "a.io/b": "1"},
                "allocatedResourceStatuses": {"storage": "NodeResizePending"}})),
            [""; 0]
        );
        assert_eq!(
            found(json!({"capacity": {"storage": "-1"}, "allocatedResources": {"cpu": "1", "storage": "-2"},
                "allocatedResourceStatuses": {"storage": "x"}})),
            [
                "status.capacity[storage]: Invalid value: -1: must be a valid resource quantity",
                "status.allocatedResourceStatus: Unsupported value: \"storage\": supported values: \"ControllerResizeInProgress\", \"ControllerResizeInfeasible\", \"NodeResizeInProgress\", \"NodeResizeInfeasible\", \"NodeResizePending\"",
                "status.allocatedResources: Unsupported value: \"cpu\": supported values: \"storage\"",
                "status.allocatedResources[storage]: Invalid value: -2: must be a valid resource quantity",
            ]
        );
    }
}
