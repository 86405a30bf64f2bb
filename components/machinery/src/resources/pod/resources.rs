//! `resources` of containers: names, quantities, requests within limits.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::{
    field::{FieldError, Path},
    names,
    quantity::{self, Quantity},
    resources::meta,
    value::{get, list_at, map_at, str_at},
};

const STANDARD: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// A quantity that must be there and not negative.
pub(in crate::resources) fn amount(value: &Value, path: &Path) -> Result<Quantity, FieldError> {
    let quantity = quantity::from_json(value).map_err(|e| FieldError::invalid(path, value.clone(), e.to_string()))?;
    if quantity.sign() < 0 {
        return Err(FieldError::invalid(path, quantity.to_string(), "must be greater than or equal to 0"));
    }
    Ok(quantity)
}

fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.starts_with("kubernetes.io/") && !name.contains(".kubernetes.io/")
}

fn name_problem(name: &str, path: &Path) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> =
        names::qualified_name(name).into_iter().map(|p| FieldError::invalid(path, name, p)).collect();
    if errors.is_empty() && !name.contains('/') && !STANDARD.contains(&name) && !name.starts_with("hugepages-") {
        errors.push(FieldError::invalid(path, name, "must be a standard resource for containers"));
    }
    errors
}

pub(super) fn validate(container: &Value, path: &Path) -> Vec<FieldError> {
    let empty = Map::new();
    let limits = map_at(container, "resources.limits").unwrap_or(&empty);
    let requests = map_at(container, "resources.requests").unwrap_or(&empty);
    let mut errors = Vec::new();
    for (list, what) in [(limits, "limits"), (requests, "requests")] {
        for (name, value) in list {
            let at = path.child(what).key(name);
            errors.extend(name_problem(name, &at));
            match amount(value, &at) {
                Err(error) => errors.push(error),
                Ok(q) if is_extended(name) && !q.is_integer() => {
                    errors.push(FieldError::invalid(&at, q.to_string(), "must be an integer"))
                }
                Ok(_) => {}
            }
        }
    }
    if errors.is_empty() {
        errors.extend(requests.iter().filter_map(|(name, request)| within(name, request, limits.get(name), path)));
    }
    errors
}

fn within(name: &str, request: &Value, limit: Option<&Value>, path: &Path) -> Option<FieldError> {
    let exact = is_extended(name) || name.starts_with("hugepages-");
    let request = quantity::from_json(request).ok()?;
    let Some(limit) = limit.and_then(|l| quantity::from_json(l).ok()) else {
        let detail = "Limit must be set for non overcommitable resources";
        return exact.then(|| FieldError::required(&path.child("limits"), detail));
    };
    if exact && request != limit {
        let detail = format!("must be equal to {name} limit of {limit}");
        return Some(FieldError::invalid(&path.child("requests"), request.to_string(), detail));
    }
    let detail = format!("must be less than or equal to {name} limit of {limit}");
    (request > limit).then(|| FieldError::invalid(&path.child("requests"), request.to_string(), detail))
}

/// `resources.claims` of a container: each names a claim of the pod, once.
pub(super) fn claims(container: &Value, known: &BTreeSet<&str>, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, claim) in list_at(container, "resources.claims").iter().enumerate() {
        let at = path.child("claims").index(i);
        let (name, request) = (str_at(claim, "name"), str_at(claim, "request"));
        if name.is_empty() {
            errors.push(FieldError::required(&at, ""));
            continue;
        }
        if !known.contains(name) {
            errors.push(FieldError::not_found(&at, name));
        }
        if !seen.insert((name, request)) {
            let text = if request.is_empty() { name.to_owned() } else { format!("{name}/{request}") };
            errors.push(FieldError::duplicate(&at, text));
        }
    }
    errors
}

/// `spec.resourceClaims`.
pub(super) fn pod_claims(spec: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, claim) in list_at(spec, "resourceClaims").iter().enumerate() {
        let at = path.index(i);
        let name = str_at(claim, "name");
        if name.is_empty() {
            errors.push(FieldError::required(&at.child("name"), ""));
        } else if !seen.insert(name) {
            errors.push(FieldError::duplicate(&at.child("name"), name));
        } else {
            errors.extend(
                names::dns1123_label(name).into_iter().map(|p| FieldError::invalid(&at.child("name"), name, p)),
            );
        }
        let both = ["resourceClaimName", "resourceClaimTemplateName"].map(|field| (field, str_at(claim, field)));
        match both.iter().filter(|(_, value)| !value.is_empty()).count() {
            0 => {
                let detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                errors.push(FieldError::invalid(&at, claim.clone(), detail));
            }
            2 => {
                let detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                errors.push(FieldError::invalid(&at, claim.clone(), detail));
            }
            _ => {}
        }
        for (field, value) in both.iter().filter(|(_, value)| !value.is_empty()) {
            let problems = names::dns1123_subdomain(value);
            errors.extend(problems.into_iter().map(|p| FieldError::invalid(&at.child(field), *value, p)));
        }
    }
    errors
}

/// Resources of the pod as a whole (KEP-2837): at least what its containers ask for together.
pub(super) fn of_pod(spec: &Value, path: &Path) -> Vec<FieldError> {
    if spec.get("resources").is_none() {
        return Vec::new();
    }
    let mut errors = validate(spec, path);
    for list in ["limits", "requests"] {
        for name in map_at(spec, &format!("resources.{list}")).into_iter().flat_map(Map::keys) {
            if !matches!(name.as_str(), "cpu" | "memory") && !name.starts_with("hugepages-") {
                let at = path.child(list).key(name);
                errors.push(FieldError::not_supported(&at, name.as_str(), &["cpu", "hugepages-", "memory"]));
            }
        }
    }
    for (name, value) in map_at(spec, "resources.requests").into_iter().flatten() {
        let asked = list_at(spec, "containers").iter().filter_map(|c| get(c, "resources.requests")?.get(name));
        let sum = asked.filter_map(|q| quantity::from_json(q).ok()).reduce(|a, b| a + b);
        if let (Some(sum), Ok(own)) = (sum, quantity::from_json(value))
            && sum > own
        {
            let detail = format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.push(FieldError::invalid(&path.child("requests").key(name), own.to_string(), detail));
        }
    }
    errors
}

pub(super) fn overhead(spec: &Value, path: &Path) -> Vec<FieldError> {
    let amounts = map_at(spec, "overhead").into_iter().flatten();
    amounts.filter_map(|(name, value)| amount(value, &path.key(name)).err()).collect()
}

/// What a container does when it is resized (KEP-1287).
pub(super) fn resize_policy(container: &Value, restart_policy: &str, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, policy) in list_at(container, "resizePolicy").iter().enumerate() {
        let at = path.index(i);
        let (name, restart) = (str_at(policy, "resourceName"), str_at(policy, "restartPolicy"));
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&at, name));
        }
        errors.extend(meta::one_of(policy, "resourceName", path, &["cpu", "memory"]));
        errors.extend(meta::one_of(policy, "restartPolicy", path, &["NotRequired", "RestartContainer"]));
        if restart_policy == "Never" && restart == "RestartContainer" {
            let detail = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            errors.push(FieldError::invalid(path, restart, detail));
        }
    }
    errors
}
