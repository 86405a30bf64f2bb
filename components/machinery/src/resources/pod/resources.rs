//! `resources` of containers: names, quantities, requests within limits.

use serde_json::{Map, Value};

use crate::{
    field::{FieldError, Path},
    names,
    quantity::{self, Quantity},
    value::map_at,
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
