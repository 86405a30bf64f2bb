//! ReplicationControllers and PodTemplates (kubernetes `pkg/apis/core/validation`, `pkg/apis/core/v1/defaults.go`).

use serde_json::{Map, Value, json};

use crate::{
    field::{FieldError, Path},
    resources::{meta, pod},
    value::{default_to, get, int_at, map_at, object_mut},
};

pub(in crate::resources) fn pod_template_defaults(object: &mut Value) {
    if let Some(template) = object_mut(object, "template") {
        pod::template_defaults(template);
    }
}

pub(in crate::resources) fn pod_template(object: &Value) -> Vec<FieldError> {
    pod::validate_template(object.get("template").unwrap_or(&Value::Null), &Path::new("template"))
}

/// The labels of the template are those of the controller and its selector, unless it has some of its own.
pub(in crate::resources) fn defaults(controller: &mut Value) {
    let labels = map_at(controller, "spec.template.metadata.labels").filter(|l| !l.is_empty()).cloned();
    let Some(spec) = object_mut(controller, "spec") else { return };
    if spec.get("template").is_some()
        && let Some(template) = object_mut(spec, "template")
    {
        pod::template_defaults(template);
    }
    default_to(spec, "replicas", 1);
    let Some(labels) = labels else { return };
    if map_at(spec, "selector").is_none_or(Map::is_empty) {
        spec["selector"] = Value::Object(labels.clone());
    }
    if map_at(controller, "metadata.labels").is_none_or(Map::is_empty)
        && let Some(metadata) = object_mut(controller, "metadata")
    {
        metadata["labels"] = Value::Object(labels);
    }
}

pub(in crate::resources) fn validate(controller: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let spec = controller.get("spec").unwrap_or(&Value::Null);
    let mut errors: Vec<FieldError> = meta::non_negative(spec, "minReadySeconds", &path).into_iter().collect();
    let selector = map_at(spec, "selector").filter(|s| !s.is_empty());
    if selector.is_none() {
        errors.push(FieldError::required(&path.child("selector"), ""));
    }
    match int_at(spec, "replicas") {
        None => errors.push(FieldError::required(&path.child("replicas"), "")),
        Some(_) => errors.extend(meta::non_negative(spec, "replicas", &path)),
    }
    let at = path.child("template");
    let Some(template) = spec.get("template") else {
        errors.push(FieldError::required(&at, ""));
        return errors;
    };
    if let Some(selector) = selector {
        let labels = get(template, "metadata.labels").cloned().unwrap_or_else(|| json!({}));
        if !selector.iter().all(|(key, value)| labels.get(key) == Some(value)) {
            let detail = "`selector` does not match template `labels`";
            errors.push(FieldError::invalid(&at.child("metadata").child("labels"), labels, detail));
        }
    }
    errors.extend(super::always_restarting(template, &at, "ReplicationController"));
    errors
}
