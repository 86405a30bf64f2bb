//! StorageClasses, CSI drivers and attachments (kubernetes `pkg/apis/storage`).

use serde_json::{Value, json};

use crate::{
    field::{FieldError, Path},
    names,
    resources::meta,
    value::{default_to, object_mut, str_at},
};

pub(in crate::resources) fn defaults(class: &mut Value) {
    default_to(class, "reclaimPolicy", "Delete");
    default_to(class, "volumeBindingMode", "Immediate");
}

pub(in crate::resources) fn validate(class: &Value) -> Vec<FieldError> {
    let root = Path::default();
    let at = root.child("provisioner");
    let provisioner = str_at(class, "provisioner");
    let mut errors = Vec::new();
    if provisioner.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else {
        let lower = provisioner.to_lowercase();
        errors.extend(names::qualified_name(&lower).into_iter().map(|p| FieldError::invalid(&at, provisioner, p)));
    }
    errors.extend(meta::one_of(class, "reclaimPolicy", &root, &["Delete", "Retain"]));
    errors.extend(meta::one_of(class, "volumeBindingMode", &root, &["Immediate", "WaitForFirstConsumer"]));
    errors
}

pub(in crate::resources) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = validate(new);
    for field in ["parameters", "provisioner", "reclaimPolicy"] {
        if new.get(field) != old.get(field) {
            errors.push(FieldError::forbidden(&Path::new(field), format!("updates to {field} are forbidden.")));
        }
    }
    errors.extend(meta::immutable(new, old, &["volumeBindingMode"]));
    errors
}

pub(in crate::resources) fn driver_defaults(driver: &mut Value) {
    let Some(spec) = object_mut(driver, "spec") else { return };
    default_to(spec, "attachRequired", true);
    default_to(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    default_to(spec, "volumeLifecycleModes", json!(["Persistent"]));
    for field in ["podInfoOnMount", "requiresRepublish", "seLinuxMount", "storageCapacity"] {
        default_to(spec, field, false);
    }
}

pub(in crate::resources) fn driver(driver: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    driver
        .get("spec")
        .and_then(|s| meta::optional_one_of(s, "fsGroupPolicy", &path, &["File", "None", "ReadWriteOnceWithFSType"]))
        .into_iter()
        .collect()
}

pub(in crate::resources) fn driver_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = driver(new);
    errors.extend(meta::immutable(new, old, &["spec.attachRequired", "spec.volumeLifecycleModes"]));
    errors
}

pub(in crate::resources) fn attachment(attachment: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    ["attacher", "nodeName"]
        .into_iter()
        .filter(|f| str_at(attachment, &format!("spec.{f}")).is_empty())
        .map(|f| FieldError::required(&path.child(f), ""))
        .collect()
}

pub(in crate::resources) fn attachment_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = attachment(new);
    errors.extend(meta::immutable(new, old, &["spec"]));
    errors
}
