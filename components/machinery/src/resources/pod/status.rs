//! What a pod's status may become (kubernetes `ValidatePodStatusUpdate`).

use std::collections::BTreeSet;

use serde_json::Value;

use super::{annotations, ip, ip::one_of_each_family, is_sidecar, security};
use crate::{
    field::{FieldError, Path},
    names,
    value::{get, int_at, list_at, map_at, str_at},
};

const STATUS_LISTS: [(&str, &str); 3] = [
    ("containerStatuses", "containers"),
    ("initContainerStatuses", "initContainers"),
    ("ephemeralContainerStatuses", "ephemeralContainers"),
];

pub(in crate::resources) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::new("status");
    let metadata = Path::new("metadata");
    let mut errors = annotations::validate_update(new, old, &metadata.child("annotations"));
    let spec = new.get("spec").unwrap_or(&Value::Null);
    errors.extend(annotations::validate(new, spec, &metadata.child("annotations"), true));
    errors.extend(conditions(new, &metadata.child("conditions")));
    if str_at(new, "spec.nodeName") != str_at(old, "spec.nodeName") {
        errors.push(FieldError::forbidden(&path.child("nodeName"), "may not be changed directly"));
    }
    let nominated = str_at(new, "status.nominatedNodeName");
    if !nominated.is_empty() && nominated != str_at(old, "status.nominatedNodeName") {
        let at = path.child("nominatedNodeName");
        errors.extend(FieldError::each_invalid(&at, nominated, names::dns1123_subdomain(nominated)));
    }
    let class = str_at(new, "status.qosClass");
    if class != str_at(old, "status.qosClass") {
        errors.push(FieldError::invalid(&path.child("qosClass"), class, "field is immutable"));
    }
    errors.extend(STATUS_LISTS.iter().flat_map(|(list, _)| revived(list, new, old, &path.child(list))));
    errors.extend(claims(new, &path.child("resourceClaimStatuses")));
    errors.extend(addresses(new, "podIPs", &path));
    if let Some(first) = list_at(new, "status.hostIPs").first().map(|a| str_at(a, "ip"))
        && first != str_at(new, "status.hostIP")
    {
        let at = path.child("hostIPs").index(0).child("ip");
        errors.push(FieldError::invalid(&at, first, "must be equal to `hostIP`"));
    }
    errors.extend(addresses(new, "hostIPs", &path));
    errors.extend(STATUS_LISTS.iter().flat_map(|(list, _)| users(list, new, &path.child(list))));
    errors.extend(STATUS_LISTS.iter().flat_map(|(list, of)| allocated(list, of, new, &path.child(list))));
    errors
}

fn conditions(pod: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, condition) in list_at(pod, "status.conditions").iter().enumerate() {
        let kind = str_at(condition, "type");
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            errors.extend(FieldError::each_invalid(&path.index(i).child("Type"), kind, names::qualified_name(kind)));
        }
    }
    errors
}

/// A container that has ended for good does not come back.
fn revived(list: &str, new: &Value, old: &Value, path: &Path) -> Vec<FieldError> {
    let policy = if list == "ephemeralContainerStatuses" { "Never" } else { str_at(old, "spec.restartPolicy") };
    if policy == "Always" {
        return Vec::new();
    }
    // a container's own rules may start it again
    let restarts = |name: &str| {
        let all = ["containers", "initContainers"].iter().flat_map(|l| list_at(old, &format!("spec.{l}")));
        all.into_iter().any(|c| {
            str_at(c, "name") == name
                && (is_sidecar(c) || c.get("restartPolicy").is_some() || c.get("restartPolicyRules").is_some())
        })
    };
    let after = list_at(new, &format!("status.{list}"));
    let mut errors = Vec::new();
    for (i, before) in list_at(old, &format!("status.{list}")).iter().enumerate() {
        let Some(ended) = get(before, "state.terminated") else { continue };
        let failed = int_at(ended, "exitCode").unwrap_or(0) != 0;
        let name = str_at(before, "name");
        if (failed && policy == "OnFailure") || restarts(name) {
            continue;
        }
        for _ in after.iter().filter(|s| str_at(s, "name") == name && get(s, "state.terminated").is_none()) {
            let detail = "may not be transitioned to non-terminated state";
            errors.push(FieldError::forbidden(&path.index(i).child("state"), detail));
        }
    }
    errors
}

fn claims(pod: &Value, path: &Path) -> Vec<FieldError> {
    let known: BTreeSet<&str> = list_at(pod, "spec.resourceClaims").iter().map(|c| str_at(c, "name")).collect();
    let mut seen = BTreeSet::new();
    let mut errors = Vec::new();
    for (i, status) in list_at(pod, "status.resourceClaimStatuses").iter().enumerate() {
        let at = path.index(i).child("name");
        let name = str_at(status, "name");
        if !known.contains(name) {
            let detail = "must match the name of an entry in `spec.resourceClaims`";
            errors.push(FieldError::invalid(&at, name, detail));
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&at, name));
        }
        if let Some(claim) = status.get("resourceClaimName").and_then(Value::as_str) {
            errors.extend(FieldError::each_invalid(&at, claim, names::dns1123_subdomain(claim)));
        }
    }
    errors
}

fn addresses(pod: &Value, list: &str, path: &Path) -> Vec<FieldError> {
    let all = list_at(pod, &format!("status.{list}"));
    let texts: Vec<&str> = all.iter().map(|a| str_at(a, "ip")).collect();
    let at = path.child(list);
    let mut errors: Vec<FieldError> = texts.iter().enumerate().filter_map(|(i, text)| ip(text, &at.index(i))).collect();
    if !one_of_each_family(&texts) {
        let detail = "may specify no more than one IP for each IP family";
        errors.push(FieldError::invalid(&at, all.to_vec(), detail));
    }
    let repeated = texts.iter().enumerate().filter(|(i, text)| texts[..*i].contains(text));
    errors.extend(repeated.map(|(i, _)| FieldError::duplicate(&at.index(i), all[i].clone())));
    errors
}

fn users(list: &str, pod: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, status) in list_at(pod, &format!("status.{list}")).iter().enumerate() {
        let Some(user) = get(status, "user.linux") else { continue };
        let at = path.index(i).child("linux");
        if str_at(pod, "spec.os.name") == "windows" {
            errors.push(FieldError::forbidden(&at, "cannot be set for a windows pod"));
            continue;
        }
        for field in ["uid", "gid"] {
            errors.extend(int_at(user, field).and_then(|n| security::id(n, &at.child(field))));
        }
        let groups = list_at(user, "supplementalGroups").iter().enumerate();
        errors.extend(groups.filter_map(|(g, n)| security::id(n.as_i64()?, &at.child("supplementalGroups").index(g))));
    }
    errors
}

/// The health of devices: of those that the container asked for, each once.
fn allocated(list: &str, containers: &str, pod: &Value, path: &Path) -> Vec<FieldError> {
    const HEALTH: &[&str] = &["Healthy", "Unhealthy", "Unknown"];
    let mut errors = Vec::new();
    for (i, status) in list_at(pod, &format!("status.{list}")).iter().enumerate() {
        let at = path.index(i).child("allocatedResourcesStatus");
        let resources = list_at(status, "allocatedResourcesStatus");
        if containers == "ephemeralContainers" {
            if !resources.is_empty() {
                errors.push(FieldError::forbidden(&at, "must not be specified in container status"));
            }
            continue;
        }
        let all = list_at(pod, &format!("spec.{containers}"));
        let container = all.iter().find(|c| str_at(c, "name") == str_at(status, "name"));
        for (j, resource) in resources.iter().enumerate() {
            let at = at.index(j);
            if let Some(detail) = container.and_then(|c| unasked(c, str_at(resource, "name"))) {
                errors.push(FieldError::invalid(&at.child("name"), str_at(resource, "name"), detail));
            }
            let mut seen = BTreeSet::new();
            for (k, device) in list_at(resource, "resources").iter().enumerate() {
                let at = at.child("resources").index(k);
                let (health, id) = (str_at(device, "health"), str_at(device, "resourceID"));
                if !HEALTH.contains(&health) {
                    errors.push(FieldError::not_supported(&at.child("health"), health, HEALTH));
                }
                if !seen.insert(id) {
                    errors.push(FieldError::duplicate(&at.child("resourceID"), id));
                }
            }
        }
    }
    errors
}

fn unasked(container: &Value, name: &str) -> Option<&'static str> {
    if name.starts_with("claim:") {
        let asked = list_at(container, "resources.claims").iter().any(|claim| {
            let (claim, request) = (str_at(claim, "name"), str_at(claim, "request"));
            let whole = format!("claim:{claim}");
            name == if request.is_empty() { whole } else { format!("{whole}/{request}") }
        });
        return (!asked).then_some(
            "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty",
        );
    }
    let asked = map_at(container, "resources.requests").is_some_and(|requests| requests.contains_key(name));
    (!asked).then_some("must match one of the container's resource requests")
}
