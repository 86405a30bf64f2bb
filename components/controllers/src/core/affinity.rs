//! Node selection and taints: the part of the scheduler's rules that DaemonSets and the taint evictor share. An operator
//! this code does not know matches nothing (fail closed).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration,
};

/// nodeSelector and required node affinity of a pod.
pub fn matches_node(spec: &PodSpec, node: &Node) -> bool {
    let none = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    let by_label = spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|it| it.node_affinity.as_ref())
        .and_then(|it| it.required_during_scheduling_ignored_during_execution.as_ref());
    by_label && required.is_none_or(|selector| matches_selector(selector, node))
}

pub fn matches_selector(selector: &NodeSelector, node: &Node) -> bool {
    selector.node_selector_terms.iter().any(|term| matches_term(term, node))
}

fn matches_term(term: &NodeSelectorTerm, node: &Node) -> bool {
    let (expressions, fields) =
        (term.match_expressions.as_deref().unwrap_or_default(), term.match_fields.as_deref().unwrap_or_default());
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let label = |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    let field = |key: &str| node.metadata.name.as_deref().filter(|_| key == "metadata.name");
    expressions.iter().all(|it| matches_requirement(it, label(&it.key)))
        && fields.iter().all(|it| matches_requirement(it, field(&it.key)))
}

fn matches_requirement(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|it| it == value));
    let number = || Some((value?.parse::<i64>().ok()?, values.first()?.parse::<i64>().ok()?));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number().is_some_and(|(has, bound)| has > bound),
        "Lt" => number().is_some_and(|(has, bound)| has < bound),
        _ => false,
    }
}

pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |it: &Option<String>| it.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => !key.is_empty() && text(&toleration.value) == text(&taint.value),
        "Exists" => true,
        _ => false,
    }
}

pub fn tolerates_all<'a>(tolerations: &[Toleration], mut taints: impl Iterator<Item = &'a Taint>) -> bool {
    taints.all(|taint| tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

pub fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn tolerations() {
        let taint: Taint = serde_json::from_value(json!({"key": "k", "value": "v", "effect": "NoExecute"})).unwrap();
        let check = |it: serde_json::Value| tolerates(&serde_json::from_value(it).unwrap(), &taint);
        assert!(check(json!({"operator": "Exists"})));
        assert!(check(json!({"key": "k", "value": "v"})));
        assert!(check(json!({"key": "k", "operator": "Exists", "effect": "NoExecute"})));
        assert!(!check(json!({"key": "k", "value": "w"})));
        assert!(!check(json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"})));
        assert!(!check(json!({"key": "k", "operator": "Lt", "value": "v"})));
    }

    #[test]
    fn node_affinity_on_name_and_labels() {
        let node: Node =
            serde_json::from_value(json!({"metadata": {"name": "n1", "labels": {"disk": "ssd", "cpu": "8"}}})).unwrap();
        let check = |spec: serde_json::Value| matches_node(&serde_json::from_value(spec).unwrap(), &node);
        let term = |term: serde_json::Value| json!({"containers": [], "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}});
        assert!(check(json!({"containers": [], "nodeSelector": {"disk": "ssd"}})));
        assert!(!check(json!({"containers": [], "nodeSelector": {"disk": "hdd"}})));
        assert!(check(term(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}))));
        assert!(check(term(json!({"matchExpressions": [{"key": "cpu", "operator": "Gt", "values": ["4"]}]}))));
        assert!(!check(term(json!({}))));
    }
}
