//! Quality of service (kubernetes `pkg/apis/core/helper/qos`).

use serde_json::Value;

use crate::{
    quantity,
    value::{list_at, map_at},
};

const COUNTED: [&str; 2] = ["cpu", "memory"];

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn class(pod: &Value) -> &'static str {
    // what the pod says as a whole stands for its containers (KEP-2837)
    let whole = pod.get("spec").filter(|spec| {
        ["requests", "limits"].iter().any(|kind| {
            let amounts = map_at(spec, "resources").and_then(|r| r.get(*kind)?.as_object());
            amounts.is_some_and(|a| COUNTED.iter().any(|name| a.contains_key(*name)))
        })
    });
    let containers: Vec<&Value> = match whole {
        Some(spec) => vec![spec],
        None => list_at(pod, "spec.containers").iter().chain(list_at(pod, "spec.initContainers")).collect(),
    };
    let amount = |c: &Value, kind: &str, name: &str| {
        map_at(c, "resources")
            .and_then(|r| r.get(kind)?.get(name))
            .and_then(|q| quantity::from_json(q).ok())
            .filter(|q| !q.is_zero())
    };
    let any = containers
        .iter()
        .any(|c| COUNTED.iter().any(|n| amount(c, "requests", n).or(amount(c, "limits", n)).is_some()));
    if !any {
        return "BestEffort";
    }
    let guaranteed = |c: &&Value| {
        COUNTED.iter().all(|n| {
            let limit = amount(c, "limits", n);
            limit.is_some() && amount(c, "requests", n).or(limit) == limit
        })
    };
    if containers.iter().all(guaranteed) { "Guaranteed" } else { "Burstable" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn classes() {
        let pod = |resources: Value| json!({"spec": {"containers": [{"resources": resources}]}});
        assert_eq!(class(&pod(json!({}))), "BestEffort");
        assert_eq!(class(&pod(json!({"requests": {"cpu": "1"}}))), "Burstable");
        let full = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}});
        assert_eq!(class(&pod(full)), "Guaranteed");
        assert_eq!(
            class(&pod(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1m"}}))),
            "Burstable"
        );
        assert_eq!(class(&pod(json!({"requests": {"ephemeral-storage": "1Gi"}}))), "BestEffort");
    }
}
