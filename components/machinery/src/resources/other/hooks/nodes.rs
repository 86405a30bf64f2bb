//! Namespaces and nodes.

use serde_json::{Value, json};

use crate::{
    field::{FieldError, Path},
    names,
    resources::{meta, networking},
    value::{get, list_at, name, object_mut, str_at},
};

/// Every namespace carries its name as a label, so that selectors can find it (KEP-2161).
pub(in crate::resources) fn namespace_defaults(namespace: &mut Value) {
    let own = name(namespace).to_owned();
    if own.is_empty() {
        return;
    }
    if let Some(labels) =
        object_mut(namespace, "metadata").and_then(|m| object_mut(m, "labels")).and_then(Value::as_object_mut)
    {
        labels.insert("kubernetes.io/metadata.name".into(), own.into());
    }
}

pub(in crate::resources) fn namespace_create(namespace: &mut Value) {
    meta::set_status(namespace, json!({"phase": "Active"}));
    let Some(spec) = object_mut(namespace, "spec") else { return };
    let mut finalizers = list_at(spec, "finalizers").to_vec();
    if !finalizers.iter().any(|f| f == "kubernetes") {
        finalizers.push("kubernetes".into());
    }
    spec["finalizers"] = finalizers.into();
}

/// What can be allocated is, until the node says otherwise, all it has.
pub(in crate::resources) fn node_defaults(node: &mut Value) {
    object_mut(node, "spec");
    let Some(status) = node.get_mut("status").filter(|s| s.get("allocatable").is_none()) else { return };
    if let Some(capacity) = status.get("capacity").cloned() {
        status["allocatable"] = capacity;
    }
}

/// Upstream shows its own structure, and puts what belongs to the spec under `metadata`.
fn taints(node: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = Vec::new();
    for (i, taint) in list_at(node, "spec.taints").iter().enumerate() {
        let at = Path::new("metadata").child("taints").index(i);
        let (key, value, effect) = (str_at(taint, "key"), str_at(taint, "value"), str_at(taint, "effect"));
        errors.extend(FieldError::each_invalid(&at.child("key"), key, names::qualified_name(key)));
        let problems = names::label_value(value);
        if !problems.is_empty() {
            errors.push(FieldError::invalid(&at.child("value"), value, problems.join(";")));
        }
        errors.extend(meta::one_of(taint, "effect", &at, &["NoSchedule", "PreferNoSchedule", "NoExecute"]));
        if seen.contains(&(key, effect)) {
            let added = taint.get("timeAdded").unwrap_or(&Value::Null);
            let [key, value, effect] = [key, value, effect].map(|text| json!(text));
            let shown = format!(r#"{{"Key":{key},"Value":{value},"Effect":{effect},"TimeAdded":{added}}}"#);
            let detail = format!("{shown}: taints must be unique by key and effect pair");
            errors.push(FieldError::duplicate_shown(&at, &detail));
        }
        seen.push((key, effect));
    }
    errors
}

/// The ranges of a node's pods, at most one of each family.
fn pod_ranges(node: &Value) -> Vec<FieldError> {
    let at = Path::new("spec").child("podCIDRs");
    let ranges = list_at(node, "spec.podCIDRs");
    let texts: Vec<&str> = ranges.iter().filter_map(Value::as_str).collect();
    let mut errors: Vec<FieldError> =
        texts.iter().enumerate().filter_map(|(i, range)| networking::range(range, &at.index(i))).collect();
    let of_two_families = texts.len() == 2 && texts[0].contains(':') != texts[1].contains(':');
    if texts.len() > 1 && !of_two_families {
        let detail = "may specify no more than one CIDR for each IP family";
        errors.push(FieldError::invalid(&at, ranges.to_vec(), detail));
    }
    errors
}

pub(in crate::resources) fn node(node: &Value) -> Vec<FieldError> {
    let mut errors = taints(node);
    errors.extend(pod_ranges(node));
    errors
}

pub(in crate::resources) fn node_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = addresses(new);
    errors.extend(pod_ranges(new));
    for (field, what) in [("podCIDRs", "podCIDR"), ("providerID", "providerID")] {
        let at = |n: &Value| get(n, &format!("spec.{field}")).cloned().unwrap_or_default();
        let (after, before) = (at(new), at(old));
        let unset = before.is_null() || before.as_str() == Some("") || before.as_array().is_some_and(Vec::is_empty);
        if !unset && after != before {
            let detail = format!("node updates may not change {what} except from \"\" to valid");
            errors.push(FieldError::forbidden(&Path::new("spec").child(field), detail));
        }
    }
    errors.extend(taints(new));
    errors
}

fn addresses(node: &Value) -> Vec<FieldError> {
    let at = Path::new("status").child("addresses");
    let all = list_at(node, "status.addresses");
    let twice = all.iter().enumerate().filter(|(i, address)| all[..*i].contains(address));
    let shown = |address: &Value| {
        format!(r#"{{"Type":{},"Address":{}}}"#, json!(str_at(address, "type")), json!(str_at(address, "address")))
    };
    twice.map(|(i, address)| FieldError::duplicate_shown(&at.index(i), &shown(address))).collect()
}

/// A namespace ends when it is deleted, and not before.
pub(in crate::resources) fn namespace_status(new: &Value, _: &Value) -> Vec<FieldError> {
    let phase = str_at(new, "status.phase");
    let (wanted, when) = if get(new, "metadata.deletionTimestamp").is_none() {
        ("Active", "is empty")
    } else {
        ("Terminating", "is not empty")
    };
    if phase == wanted {
        return Vec::new();
    }
    let detail = format!("may only be '{wanted}' if `deletionTimestamp` {when}");
    vec![FieldError::invalid(&Path::new("status").child("Phase"), phase, detail)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(FieldError::to_string).collect()
    }

    #[test]
    fn nodes_fail_in_upstreams_words() {
        let bad = json!({"spec": {
            "taints": [{"key": "a", "effect": "NoSchedule"}, {"key": "a", "value": "x", "effect": "NoSchedule"}, {"key": "b", "effect": "No"}],
            "podCIDRs": ["10.0.0.0/24", "10.1.0.0/24", "x"],
        }});
        assert_eq!(
            texts(&node(&bad)),
            [
                "metadata.taints[1]: Duplicate value: {\"Key\":\"a\",\"Value\":\"x\",\"Effect\":\"NoSchedule\",\"TimeAdded\":null}: taints must be unique by key and effect pair",
                "metadata.taints[2].effect: Unsupported value: \"No\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
                "spec.podCIDRs[2]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                "spec.podCIDRs: Invalid value: [\"10.0.0.0/24\",\"10.1.0.0/24\",\"x\"]: may specify no more than one CIDR for each IP family",
            ]
        );
        let old = json!({"spec": {"providerID": "a", "podCIDRs": ["10.0.0.0/24"]}});
        let home = json!({"type": "InternalIP", "address": "10.0.0.1"});
        let new = json!({"spec": {"providerID": "b"}, "status": {"addresses": [home, home]}});
        assert_eq!(
            texts(&node_update(&new, &old)),
            [
                "status.addresses[1]: Duplicate value: {\"Type\":\"InternalIP\",\"Address\":\"10.0.0.1\"}",
                "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
                "spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid",
            ]
        );
    }

    #[test]
    fn namespaces_end_when_they_are_deleted() {
        let of = |phase: &str| json!({"metadata": {}, "status": {"phase": phase}});
        assert_eq!(texts(&namespace_status(&of("Active"), &of("Active"))), [""; 0]);
        assert_eq!(
            texts(&namespace_status(&of("Terminating"), &of("Active"))),
            ["status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty"]
        );
    }
}
