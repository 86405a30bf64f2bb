//! Which names of resources may stand where (kubernetes `pkg/apis/core/helper/helpers.go`).

use crate::{
    field::{FieldError, Path},
    names,
};

const CONTAINER: &[&str] = &["cpu", "memory", "ephemeral-storage"];
/// Resources of pods that a quota sums up.
pub(in crate::resources) const COMPUTE: &[&str] =
    &["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
/// What is counted as whole objects.
const COUNTED: &[&str] = &[
    "pods",
    "services",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
const STORAGE: &[&str] =
    &["ephemeral-storage", "requests.storage", "requests.ephemeral-storage", "limits.ephemeral-storage"];

fn is_hugepages(name: &str) -> bool {
    name.starts_with("hugepages-")
}

pub(in crate::resources) fn is_container(name: &str) -> bool {
    CONTAINER.contains(&name) || is_hugepages(name)
}

/// A name without a domain that quotas know.
pub(in crate::resources) fn is_quota(name: &str) -> bool {
    COMPUTE.contains(&name)
        || COUNTED.contains(&name)
        || STORAGE.contains(&name)
        || is_hugepages(name)
        || name.starts_with("requests.hugepages-")
}

fn is_standard(name: &str) -> bool {
    is_quota(name) || is_container(name) || name == "storage"
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// A resource that only its own domain knows, such as `example.com/gpu`.
pub(in crate::resources) fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

pub(in crate::resources) fn is_whole(name: &str) -> bool {
    COUNTED.contains(&name) || is_extended(name)
}

/// More of it may be promised than there is.
pub(in crate::resources) fn may_be_overcommitted(name: &str) -> bool {
    is_native(name) && !is_hugepages(name)
}

pub(in crate::resources) fn validate(name: &str, path: &Path) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> =
        names::qualified_name(name).into_iter().map(|p| FieldError::invalid(path, name, p)).collect();
    if errors.is_empty() && !name.contains('/') && !is_standard(name) {
        errors.push(FieldError::invalid(path, name, "must be a standard resource type or fully qualified"));
    }
    errors
}

pub(in crate::resources) fn validate_container(name: &str, path: &Path) -> Vec<FieldError> {
    let mut errors = validate(name, path);
    if !name.contains('/') && !is_container(name) {
        errors.push(FieldError::invalid(path, name, "must be a standard resource for containers"));
    } else if name.contains('/') && !is_native(name) && !is_extended(name) {
        errors.push(FieldError::invalid(path, name, "doesn't follow extended resource name standard"));
    }
    errors
}

pub(in crate::resources) fn validate_quota(name: &str, path: &Path) -> Vec<FieldError> {
    let mut errors = validate(name, path);
    if !name.contains('/') && !is_quota(name) {
        errors.push(FieldError::invalid(path, name, "must be a standard resource for quota"));
    }
    errors
}
