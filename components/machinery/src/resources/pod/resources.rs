//! `resources` of containers and pods: names, quantities, requests within limits.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::is_sidecar;
use crate::{
    field::{FieldError, Path},
    names,
    quantity::{self, Quantity},
    resources::limits::names as known,
    value::{get, list_at, map_at, str_at},
};

/// A quantity that must be there and not negative.
pub(in crate::resources) fn amount(value: &Value, path: &Path) -> Result<Quantity, FieldError> {
    let quantity = quantity::from_json(value).map_err(|e| FieldError::invalid(path, value.clone(), e.to_string()))?;
    if quantity.sign() < 0 {
        return Err(FieldError::invalid(path, quantity.to_string(), "must be greater than or equal to 0"));
    }
    Ok(quantity)
}

/// An amount of `name`: not negative, and whole where parts make no sense (`ValidateResourceQuantityValue`).
pub(in crate::resources) fn quantity_value(name: &str, value: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> = amount(value, path).err().into_iter().collect();
    if let Ok(quantity) = quantity::from_json(value)
        && known::is_whole(name)
        && quantity.milli_value() % 1000 != 0
    {
        errors.push(FieldError::invalid(path, quantity.to_string(), "must be an integer"));
    }
    errors
}

/// What names may stand in a list of resources.
type NameRule = fn(&str, &Path) -> Vec<FieldError>;

/// `resources` of a container.
pub(super) fn validate(container: &Value, path: &Path) -> Vec<FieldError> {
    let empty = Map::new();
    let limits = map_at(container, "resources.limits").unwrap_or(&empty);
    let requests = map_at(container, "resources.requests").unwrap_or(&empty);
    requirements(limits, requests, known::validate_container, path)
}

fn requirements(
    limits: &Map<String, Value>,
    requests: &Map<String, Value>,
    rule: NameRule,
    path: &Path,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (name, value) in limits {
        errors.extend(one(name, value, rule, &path.child("limits").key(name)));
    }
    for (name, value) in requests {
        let at = path.child("requests").key(name);
        errors.extend(rule(name, &at));
        errors.extend(quantity_value(name, value, &at));
        errors.extend(within(name, value, limits.get(name), path));
        errors.extend(whole_pages(name, value, &at));
    }
    let names = || limits.keys().chain(requests.keys()).map(String::as_str);
    if names().any(|name| name.starts_with("hugepages-")) && !names().any(|name| matches!(name, "cpu" | "memory")) {
        errors.push(FieldError::forbidden(path, "HugePages require cpu or memory"));
    }
    errors
}

fn one(name: &str, value: &Value, rule: NameRule, path: &Path) -> Vec<FieldError> {
    let mut errors = rule(name, path);
    errors.extend(quantity_value(name, value, path));
    errors.extend(whole_pages(name, value, path));
    errors
}

/// Huge pages come whole.
fn whole_pages(name: &str, value: &Value, path: &Path) -> Option<FieldError> {
    let size = quantity::from_json(&name.strip_prefix("hugepages-")?.into()).ok();
    let asked = quantity::from_json(value).ok()?;
    let divisible = size.is_some_and(|size| size.sign() > 0 && size.is_integer() && asked.value() % size.value() == 0);
    (!divisible).then(|| {
        let detail = format!("{asked} is not positive integer multiple of {name}");
        FieldError::invalid(path, asked.to_string(), detail)
    })
}

fn within(name: &str, request: &Value, limit: Option<&Value>, path: &Path) -> Option<FieldError> {
    let exact = !known::may_be_overcommitted(name);
    let request = quantity::from_json(request).ok()?;
    let Some(limit) = limit.and_then(|l| quantity::from_json(l).ok()) else {
        let detail = "Limit must be set for non overcommitable resources";
        return exact.then(|| FieldError::required(&path.child("limits"), detail));
    };
    let bad = |detail| Some(FieldError::invalid(&path.child("requests"), request.to_string(), detail));
    if exact && request != limit {
        bad(format!("must be equal to {name} limit of {limit}"))
    } else if request > limit {
        bad(format!("must be less than or equal to {name} limit of {limit}"))
    } else {
        None
    }
}

/// `resources.claims` of a container: each names a claim of the pod, as a whole or one request of it, once.
pub(super) fn claims(container: &Value, known: &BTreeSet<&str>, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for (i, claim) in list_at(container, "resources.claims").iter().enumerate() {
        let at = path.child("claims").index(i);
        let (name, request) = (str_at(claim, "name"), str_at(claim, "request"));
        if name.is_empty() {
            errors.push(FieldError::required(&at, ""));
            continue;
        }
        if seen.contains(name) {
            errors.push(FieldError::duplicate(&at, name));
        } else {
            let mut key = name.to_owned();
            if !request.is_empty() {
                errors.extend(FieldError::each_invalid(&at.child("request"), request, names::dns1123_label(request)));
                key = format!("{name}/{request}");
            }
            if seen.contains(&key) {
                errors.push(FieldError::duplicate(&at, key.as_str()));
            } else if request.is_empty() {
                let parts = seen.iter().filter(|k| k.split_once('/').is_some_and(|(whole, _)| whole == name));
                errors.extend(parts.map(|_| FieldError::duplicate(&at, name)));
            }
            seen.insert(key);
        }
        if !known.contains(name) {
            let mut error = FieldError::not_found(&at, name);
            error.detail = match known.is_empty() {
                true => "must be one of the names in pod.spec.resourceClaims which is empty".to_owned(),
                false => {
                    let names: Vec<&str> = known.iter().copied().collect();
                    format!("must be one of the names in pod.spec.resourceClaims: {}", names.join(", "))
                }
            };
            errors.push(error);
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
            errors.extend(FieldError::each_invalid(&at.child("name"), name, names::dns1123_label(name)));
        }
        let sources = ["resourceClaimName", "resourceClaimTemplateName"]
            .map(|field| (field, claim.get(field).and_then(Value::as_str)));
        match sources.iter().filter(|(_, value)| value.is_some()).count() {
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
        for (field, value) in sources {
            let Some(value) = value else { continue };
            errors.extend(FieldError::each_invalid(&at.child(field), value, names::dns1123_subdomain(value)));
        }
    }
    errors
}

/// What a pod can be given as a whole.
pub(super) fn is_for_pods(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

fn pod_name_rule(name: &str, path: &Path) -> Vec<FieldError> {
    let errors = known::validate(name, path);
    if errors.is_empty() && !is_for_pods(name) {
        return vec![FieldError::not_supported(path, name, &["cpu", "hugepages-", "memory"])];
    }
    errors
}

/// Resources of the pod as a whole (KEP-2837): at least what its containers ask for together.
pub(super) fn of_pod(spec: &Value, path: &Path) -> Vec<FieldError> {
    let Some(own) = spec.get("resources") else { return Vec::new() };
    let mut errors = Vec::new();
    if own.get("claims").is_some() {
        let detail = "claims cannot be set for Resources at pod-level";
        errors.push(FieldError::forbidden(&path.child("claims"), detail));
    }
    let empty = Map::new();
    let limits = map_at(own, "limits").unwrap_or(&empty);
    let requests = map_at(own, "requests").unwrap_or(&empty);
    errors.extend(requirements(limits, requests, pod_name_rule, path));
    for (name, sum) in summed(spec, "requests").into_iter().filter(|(name, _)| is_for_pods(name)) {
        let asked = requests.get(name).and_then(|q| quantity::from_json(q).ok()).unwrap_or_else(Quantity::zero);
        if sum > asked {
            let detail = format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.push(FieldError::invalid(&path.child("requests").key(name), asked.to_string(), detail));
        }
    }
    for (i, container) in list_at(spec, "containers").iter().enumerate() {
        for (name, limit) in map_at(container, "resources.limits").into_iter().flatten() {
            let pair = (quantity::from_json(limit), limits.get(name).map(quantity::from_json));
            if let (Ok(limit), Some(Ok(whole))) = pair
                && limit > whole
            {
                let at = path.child("containers").index(i).key(name).child("limits");
                let detail = format!("must be less than or equal to pod limits of {whole}");
                errors.push(FieldError::invalid(&at, limit.to_string(), detail));
            }
        }
    }
    errors
}

/// What the containers need at most at any moment (`AggregateContainerRequests`, `AggregateContainerLimits`): all that stay, or
/// one init container and the sidecars started before it. `list` is `requests` or `limits`.
pub(super) fn summed<'a>(spec: &'a Value, list: &str) -> BTreeMap<&'a str, Quantity> {
    let requests = |container: &'a Value| {
        let amounts = get(container, "resources").and_then(|r| r.get(list)?.as_object()).into_iter().flatten();
        amounts.filter_map(|(name, q)| Some((name.as_str(), quantity::from_json(q).ok()?)))
    };
    let add = |sums: &mut BTreeMap<_, Quantity>, name, q| {
        let sum = sums.entry(name).or_insert_with(Quantity::zero);
        *sum = *sum + q;
    };
    let mut staying = BTreeMap::new();
    for container in list_at(spec, "containers") {
        requests(container).for_each(|(name, q)| add(&mut staying, name, q));
    }
    let (mut sidecars, mut starting) = (BTreeMap::new(), BTreeMap::new());
    for container in list_at(spec, "initContainers") {
        let mut now = sidecars.clone();
        requests(container).for_each(|(name, q)| add(&mut now, name, q));
        if is_sidecar(container) {
            requests(container).for_each(|(name, q)| add(&mut staying, name, q));
            sidecars = now.clone();
        }
        for (name, q) in now {
            let most = starting.entry(name).or_insert(q);
            *most = q.max(*most);
        }
    }
    for (name, q) in starting {
        let sum = staying.entry(name).or_insert(q);
        *sum = q.max(*sum);
    }
    staying
}

pub(super) fn overhead(spec: &Value, path: &Path) -> Vec<FieldError> {
    limits(map_at(spec, "overhead"), path)
}

/// Amounts that are judged as the limits of a container, with their path.
pub(in crate::resources) fn limits(amounts: Option<&Map<String, Value>>, path: &Path) -> Vec<FieldError> {
    let empty = Map::new();
    requirements(amounts.unwrap_or(&empty), &empty, known::validate_container, path)
}

/// What a container does when it is resized (KEP-1287). Upstream shows the list's path.
pub(super) fn resize_policy(container: &Value, restart_policy: &str, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, policy) in list_at(container, "resizePolicy").iter().enumerate() {
        let (name, restart) = (str_at(policy, "resourceName"), str_at(policy, "restartPolicy"));
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path.index(i), name));
        }
        for (value, supported) in [(name, &["cpu", "memory"]), (restart, &["NotRequired", "RestartContainer"])] {
            if value.is_empty() {
                errors.push(FieldError::required(path, ""));
            } else if !supported.contains(&value) {
                errors.push(FieldError::not_supported(path, value, supported));
            }
        }
        if restart_policy == "Never" && restart != "NotRequired" {
            let detail = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            errors.push(FieldError::invalid(path, restart, detail));
        }
    }
    errors
}
