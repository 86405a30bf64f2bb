//! Label selectors, node selectors, taints and tolerations: pure matching.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

pub type Labels = BTreeMap<String, String>;

static NO_LABELS: Labels = Labels::new();

/// An object's labels; empty when it has none.
pub fn labels_of<K: kube::Resource>(object: &K) -> &Labels {
    object.meta().labels.as_ref().unwrap_or(&NO_LABELS)
}

/// A missing selector selects nothing, an empty one everything.
pub fn matches_labels(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    let Some(selector) = selector else { return false };
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal && selector.match_expressions.iter().flatten().all(|requirement| matches_requirement(requirement, labels))
}

fn matches_requirement(requirement: &LabelSelectorRequirement, labels: &Labels) -> bool {
    operator(&requirement.operator, requirement.values.as_deref().unwrap_or_default(), labels.get(&requirement.key))
}

fn operator(operator: &str, values: &[String], found: Option<&String>) -> bool {
    let listed = found.is_some_and(|value| values.contains(value));
    match operator {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        "Gt" => compare(values, found, |have, bound| have > bound),
        "Lt" => compare(values, found, |have, bound| have < bound),
        _ => false,
    }
}

fn compare(values: &[String], found: Option<&String>, test: impl Fn(i64, i64) -> bool) -> bool {
    let bound = values.first().and_then(|value| value.parse().ok());
    let have = found.and_then(|value| value.parse().ok());
    matches!((have, bound), (Some(have), Some(bound)) if test(have, bound))
}

/// Terms are alternatives; a term without requirements matches nothing.
pub fn matches_node_selector(selector: &NodeSelector, node: &Node) -> bool {
    selector.node_selector_terms.iter().any(|term| matches_node_term(term, node))
}

/// All expressions (on labels) and fields (only `metadata.name`) of a term must hold.
pub fn matches_node_term(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let labels = labels_of(node);
    let holds = |requirement: &NodeSelectorRequirement, found: Option<&String>| {
        operator(&requirement.operator, requirement.values.as_deref().unwrap_or_default(), found)
    };
    expressions.iter().all(|requirement| holds(requirement, labels.get(&requirement.key)))
        && fields
            .iter()
            .all(|requirement| requirement.key == "metadata.name" && holds(requirement, node.metadata.name.as_ref()))
}

/// `spec.nodeSelector` and the required node affinity together.
pub fn pod_accepts_node(pod: &Pod, node: &Node) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let labels = labels_of(node);
    if !spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value)) {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|selector| matches_node_selector(selector, node))
}

/// Does the toleration cover the taint?
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    let wanted = toleration.value.as_deref().unwrap_or_default();
    let found = taint.value.as_deref().unwrap_or_default();
    let numbers = || Some((found.parse::<i64>().ok()?, wanted.parse::<i64>().ok()?));
    match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => true,
        "Equal" | "" => wanted == found,
        "Gt" => numbers().is_some_and(|(found, wanted)| found > wanted),
        "Lt" => numbers().is_some_and(|(found, wanted)| found < wanted),
        _ => false,
    }
}

/// Taints of the given effects that no toleration covers.
pub fn untolerated<'a>(pod: &'a Pod, node: &'a Node, effects: &'a [&str]) -> impl Iterator<Item = &'a Taint> {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    taints
        .iter()
        .filter(move |taint| effects.contains(&taint.effect.as_str()))
        .filter(move |taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

/// The effects that keep a pod off a node.
pub const HARD_EFFECTS: &[&str] = &["NoSchedule", "NoExecute"];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::testing::{node, pod};
    use serde_json::{from_value, json};

    #[test]
    fn label_selectors() {
        let labels: Labels = [("app".to_string(), "web".to_string())].into();
        let matches = |selector: serde_json::Value| matches_labels(Some(&from_value(selector).unwrap()), &labels);
        assert!(!matches_labels(None, &labels));
        assert!(matches(json!({})));
        assert!(matches(json!({"matchLabels": {"app": "web"}})));
        assert!(!matches(json!({"matchLabels": {"app": "db"}})));
        assert!(matches(json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]})));
        assert!(matches(json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["web"]}]})));
        assert!(!matches(json!({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]})));
    }

    #[test]
    fn node_affinity() {
        let node = node("n1", json!({"metadata": {"labels": {"zone": "a", "cores": "8"}}}));
        let accepts = |terms: serde_json::Value| {
            pod_accepts_node(
                &pod(
                    "p",
                    json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}),
                ),
                &node,
            )
        };
        assert!(accepts(json!([{"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["4"]}]}])));
        assert!(!accepts(json!([{"matchExpressions": [{"key": "cores", "operator": "Lt", "values": ["4"]}]}])));
        assert!(accepts(json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}])));
        assert!(!accepts(json!([{"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n1"]}]}])));
        assert!(accepts(json!([{}, {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}])));
        assert!(!accepts(json!([{}])), "an empty term matches nothing");
        assert!(!pod_accepts_node(&pod("p", json!({"nodeSelector": {"zone": "b"}})), &node));
    }

    #[test]
    fn tolerations() {
        let taint: Taint = from_value(json!({"key": "k", "value": "v", "effect": "NoSchedule"})).unwrap();
        let check = |toleration: serde_json::Value| tolerates(&from_value(toleration).unwrap(), &taint);
        assert!(check(json!({"operator": "Exists"})));
        assert!(check(json!({"key": "k", "value": "v"})));
        assert!(check(json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"})));
        assert!(!check(json!({"key": "k", "operator": "Exists", "effect": "NoExecute"})));
        assert!(!check(json!({"key": "k", "value": "w"})));
        assert!(!check(json!({"key": "other", "operator": "Exists"})));
    }
}
