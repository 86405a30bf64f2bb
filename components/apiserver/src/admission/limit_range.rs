//! LimitRanger: containers get what they do not ask for, and nothing is smaller or larger than the namespace allows
//! (kubernetes `plugin/pkg/admission/limitranger`).

use std::{collections::BTreeMap, sync::Arc};

use machinery::{
    ApiError,
    quantity::{self, Quantity},
    value::{get, list_at, map_at, object_mut, str_at},
};
use serde_json::{Map, Value};

use super::{Attempt, Operation};
use crate::registry;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

type Amounts = BTreeMap<String, Quantity>;

async fn ranges(attempt: &Attempt<'_>) -> Result<Vec<Arc<Value>>, ApiError> {
    let Some(row) = registry::find("", "v1", "limitranges") else { return Ok(Vec::new()) };
    registry::look_all(&attempt.call.core, row, &attempt.target.namespace).await
}

/// Requests and limits that a new pod's containers leave open.
pub async fn fill(attempt: &Attempt<'_>, pod: &mut Value) -> Result<(), ApiError> {
    if attempt.is(Operation::Create, "", "pods") {
        for range in ranges(attempt).await? {
            fill_from(&range, pod);
        }
    }
    Ok(())
}

fn fill_from(range: &Value, pod: &mut Value) {
    let of_containers = |list: &str| -> Map<String, Value> {
        let items = list_at(range, "spec.limits").iter().filter(|item| str_at(item, "type") == "Container");
        items.filter_map(|item| map_at(item, list)).flatten().map(|(name, q)| (name.clone(), q.clone())).collect()
    };
    let (limits, requests) = (of_containers("default"), of_containers("defaultRequest"));
    let mut set = Vec::new();
    for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
        for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let name = str_at(container, "name").to_owned();
            let new_limits = fill_list(container, "limits", &limits);
            let new_requests = fill_list(container, "requests", &requests);
            for (filled, kind) in [(new_requests, "request"), (new_limits, "limit")] {
                if !filled.is_empty() {
                    set.push(format!("{} {kind} for {what} {name}", filled.join(", ")));
                }
            }
        }
    }
    if !set.is_empty() {
        let text = format!("LimitRanger plugin set: {}", set.join("; "));
        if let Some(annotations) = object_mut(pod, "metadata").and_then(|m| object_mut(m, "annotations")) {
            annotations[ANNOTATION] = text.into();
        }
    }
}

/// The names that were added, in order.
fn fill_list(container: &mut Value, list: &str, defaults: &Map<String, Value>) -> Vec<String> {
    let missing: Vec<(String, Value)> = defaults
        .iter()
        .filter(|(name, _)| get(container, "resources").and_then(|r| r.get(list)?.get(*name)).is_none())
        .map(|(name, q)| (name.clone(), q.clone()))
        .collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let amounts = object_mut(container, "resources").and_then(|r| object_mut(r, list)).and_then(Value::as_object_mut);
    let Some(amounts) = amounts else { return Vec::new() };
    let mut names: Vec<String> = missing.iter().map(|(name, _)| name.clone()).collect();
    amounts.extend(missing);
    names.sort();
    names
}

/// Pods (new ones, and resized ones) and claims within minimum, maximum and ratio.
pub async fn check(attempt: &Attempt<'_>, object: &Value) -> Result<(), ApiError> {
    let is_pod = attempt.is(Operation::Create, "", "pods")
        || (attempt.is_of("", "pods") && attempt.operation == Operation::Update && attempt.subresource == "resize");
    let is_claim = attempt.is_of("", "persistentvolumeclaims")
        && attempt.subresource.is_empty()
        && matches!(attempt.operation, Operation::Create | Operation::Update)
        && str_at(object, "metadata.deletionTimestamp").is_empty();
    if !is_pod && !is_claim {
        return Ok(());
    }
    for range in ranges(attempt).await? {
        let problems: Vec<String> = list_at(&range, "spec.limits")
            .iter()
            .flat_map(|item| if is_pod { of_pod(item, object) } else { of_claim(item, object) })
            .collect();
        match problems.as_slice() {
            [] => {}
            [one] => return Err(attempt.target.forbidden(one)),
            many => return Err(attempt.target.forbidden(&format!("[{}]", many.join(", ")))),
        }
    }
    Ok(())
}

fn of_pod(item: &Value, pod: &Value) -> Vec<String> {
    match str_at(item, "type") {
        "Container" => list_at(pod, "spec.containers")
            .iter()
            .chain(list_at(pod, "spec.initContainers"))
            .flat_map(|container| {
                let amounts = |list: &str| quota::amounts(get(container, &format!("resources.{list}")));
                bounds(item, "Container", &amounts("requests"), &amounts("limits"))
            })
            .collect(),
        "Pod" => bounds(item, "Pod", &quota::requests(pod), &quota::limits(pod)),
        _ => Vec::new(),
    }
}

fn of_claim(item: &Value, claim: &Value) -> Vec<String> {
    const KIND: &str = "PersistentVolumeClaim";
    if str_at(item, "type") != KIND {
        return Vec::new();
    }
    let asked = quota::amounts(get(claim, "spec.resources.requests"));
    let mut problems: Vec<String> = Vec::new();
    for (name, bound) in quota::amounts(item.get("min")) {
        problems.extend(minimum(KIND, &name, bound, asked.get(&name), None));
    }
    for (name, bound) in quota::amounts(item.get("max")) {
        let rule = format!("maximum {name} usage per {KIND} is {bound}");
        match asked.get(&name) {
            None => problems.push(format!("{rule}.  No request is specified")),
            Some(request) if *request > bound => problems.push(format!("{rule}, but request is {request}")),
            Some(_) => {}
        }
    }
    problems
}

fn bounds(item: &Value, kind: &str, requests: &Amounts, limits: &Amounts) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, bound) in quota::amounts(item.get("min")) {
        problems.extend(minimum(kind, &name, bound, requests.get(&name), limits.get(&name)));
    }
    for (name, bound) in quota::amounts(item.get("max")) {
        problems.extend(maximum(kind, &name, bound, requests.get(&name), limits.get(&name)));
    }
    for (name, bound) in quota::amounts(item.get("maxLimitRequestRatio")) {
        problems.extend(ratio(kind, &name, bound, requests.get(&name), limits.get(&name)));
    }
    problems
}

fn minimum(
    kind: &str,
    name: &str,
    bound: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let rule = format!("minimum {name} usage per {kind} is {bound}");
    match (request, limit) {
        (None, _) => Some(format!("{rule}.  No request is specified")),
        (Some(request), _) if *request < bound => Some(format!("{rule}, but request is {request}")),
        (_, Some(limit)) if *limit < bound => Some(format!("{rule}, but limit is {limit}")),
        _ => None,
    }
}

fn maximum(
    kind: &str,
    name: &str,
    bound: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let rule = format!("maximum {name} usage per {kind} is {bound}");
    match (request, limit) {
        (_, None) => Some(format!("{rule}.  No limit is specified")),
        (_, Some(limit)) if *limit > bound => Some(format!("{rule}, but limit is {limit}")),
        (Some(request), _) if *request > bound => Some(format!("{rule}, but request is {request}")),
        _ => None,
    }
}

#[allow(clippy::cast_precision_loss)]
fn ratio(
    kind: &str,
    name: &str,
    bound: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let rule = format!("{name} max limit to request ratio per {kind} is {bound}");
    let Some(request) = request.filter(|q| !q.is_zero()) else {
        return Some(format!("{rule}, but no request is specified or request is 0"));
    };
    let Some(limit) = limit.filter(|q| !q.is_zero()) else {
        return Some(format!("{rule}, but no limit is specified or limit is 0"));
    };
    let observed = limit.milli_value() as f64 / request.milli_value() as f64;
    let most = bound.milli_value() as f64 / Quantity::from_int(1, quantity::Format::DecimalSi).milli_value() as f64;
    (observed > most).then(|| format!("{rule}, but provided ratio is {observed:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_left_open_is_filled_and_told() {
        let range = json!({"spec": {"limits": [
            {"type": "Container", "default": {"cpu": "500m", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m"}}]}});
        let mut pod = json!({"metadata": {}, "spec": {
            "containers": [{"name": "a"}, {"name": "b", "resources": {"limits": {"cpu": "1", "memory": "2Gi"}, "requests": {"cpu": "1"}}}],
            "initContainers": [{"name": "i", "resources": {"limits": {"memory": "1Mi"}}}]}});
        fill_from(&range, &mut pod);
        assert_eq!(
            pod["spec"]["containers"][0]["resources"],
            json!({"limits": {"cpu": "500m", "memory": "1Gi"}, "requests": {"cpu": "100m"}})
        );
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu request for container a; cpu, memory limit for container a; cpu request for init container i; cpu limit for init container i"
        );
        let once = pod.clone();
        fill_from(&range, &mut pod);
        assert_eq!(pod, once);
    }

    #[test]
    fn bounds_have_upstreams_texts() {
        let pod = |resources: Value| json!({"spec": {"containers": [{"name": "a", "resources": resources}]}});
        for (item, resources, wanted) in [
            (
                json!({"min": {"cpu": "50m"}}),
                json!({"requests": {"cpu": "10m"}}),
                "minimum cpu usage per Container is 50m, but request is 10m",
            ),
            (
                json!({"min": {"cpu": "50m"}}),
                json!({}),
                "minimum cpu usage per Container is 50m.  No request is specified",
            ),
            (json!({"max": {"cpu": "1"}}), json!({}), "maximum cpu usage per Container is 1.  No limit is specified"),
            (
                json!({"max": {"memory": "1Gi"}}),
                json!({"limits": {"memory": "2Gi"}}),
                "maximum memory usage per Container is 1Gi, but limit is 2Gi",
            ),
            (
                json!({"maxLimitRequestRatio": {"cpu": "2"}}),
                json!({"limits": {"cpu": "3"}, "requests": {"cpu": "1"}}),
                "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
            ),
        ] {
            let mut item = item;
            item["type"] = "Container".into();
            assert_eq!(of_pod(&item, &pod(resources)), [wanted]);
        }
        let whole = json!({"type": "Pod", "max": {"cpu": "1"}});
        assert_eq!(
            of_pod(&whole, &pod(json!({"limits": {"cpu": "2"}}))),
            ["maximum cpu usage per Pod is 1, but limit is 2"]
        );
        let claim = json!({"spec": {"resources": {"requests": {"storage": "3Gi"}}}});
        assert_eq!(
            of_claim(&json!({"type": "PersistentVolumeClaim", "max": {"storage": "2Gi"}}), &claim),
            ["maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"]
        );
    }
}
