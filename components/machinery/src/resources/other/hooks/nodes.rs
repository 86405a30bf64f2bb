//! Namespaces and nodes.

use serde_json::{Value, json};

use crate::{
    field::{FieldError, Path},
    names,
    resources::{meta, networking, pod, writing},
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

/// What has to go before a namespace goes. Upstream shows the list's path for every fault.
pub(in crate::resources) fn namespace(namespace: &Value) -> Vec<FieldError> {
    let at = Path::new("spec").child("finalizers");
    finalizers(namespace).flat_map(|(_, name)| meta::finalizer(name, &at)).collect()
}

/// The same for `/finalize`, with paths of its own.
pub(in crate::resources) fn namespace_finalize(_: &str, new: &Value, _: &Value) -> Vec<FieldError> {
    let at = Path::new("spec").child("finalizers");
    finalizers(new).flat_map(|(i, name)| meta::finalizer(name, &at.index(i))).collect()
}

fn finalizers(namespace: &Value) -> impl Iterator<Item = (usize, &str)> {
    list_at(namespace, "spec.finalizers").iter().filter_map(Value::as_str).enumerate()
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
    if texts.len() < 2 {
        return errors;
    }
    let of_two_families = texts.len() == 2 && texts[0].contains(':') != texts[1].contains(':');
    if !of_two_families {
        let detail = "may specify no more than one CIDR for each IP family";
        errors.push(FieldError::invalid(&at, ranges.to_vec(), detail));
    }
    let again = texts.iter().enumerate().filter(|(i, range)| texts[..*i].contains(range));
    errors.extend(again.map(|(i, range)| FieldError::duplicate(&at.index(i), *range)));
    errors
}

fn amounts(node: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for list in ["capacity", "allocatable"] {
        let at = Path::new("status").child(list);
        let all = get(node, "status").and_then(|s| s.get(list)).and_then(Value::as_object).into_iter().flatten();
        errors.extend(all.flat_map(|(name, amount)| pod::quantity_value(name, amount, &at.child(name))));
    }
    errors
}

pub(in crate::resources) fn node(node: &Value) -> Vec<FieldError> {
    let mut errors = taints(node);
    errors.extend(amounts(node));
    errors.extend(pod_ranges(node));
    errors
}

/// Upstream judges the whole node first and then what changes; what both find is told twice.
pub(in crate::resources) fn node_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = node(new);
    errors.extend(node_status(new, old));
    errors
}

pub(in crate::resources) fn node_status(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = amounts(new);
    errors.extend(addresses(new));
    let (after, before) = (list_at(new, "spec.podCIDRs"), list_at(old, "spec.podCIDRs"));
    let differ = if after.len() == before.len() {
        before.iter().zip(after).filter(|(old, new)| old != new).count()
    } else {
        usize::from(!before.is_empty())
    };
    let fixed = |field: &str, what: &str| {
        FieldError::forbidden(
            &path.child(field),
            format!("node updates may not change {what} except from \"\" to valid"),
        )
    };
    errors.extend((0..differ).map(|_| fixed("podCIDRs", "podCIDR")));
    let [(id, old_id), (external, old_external)] =
        ["spec.providerID", "spec.externalID"].map(|field| (str_at(new, field), str_at(old, field)));
    if !old_id.is_empty() && id != old_id {
        errors.push(fixed("providerID", "providerID"));
    }
    errors.extend(taints(new));
    if external != old_external {
        errors.push(FieldError::forbidden(&path.child("externalID"), "may not be updated"));
    }
    errors
}

/// Nodes no longer take their kubelet's configuration from the API: a source of it can only be kept or removed.
pub(in crate::resources) fn node_create(node: &mut Value) {
    no_new_source(node, None);
}

/// As `node_create`; the status is written on its own.
pub(in crate::resources) fn node_prepare_update(new: &mut Value, old: &Value) {
    writing::keep_status(new, old);
    no_new_source(new, Some(old));
}

pub(in crate::resources) fn node_prepare_status(new: &mut Value, old: &Value) {
    no_new_source(new, Some(old));
}

fn no_new_source(node: &mut Value, old: Option<&Value>) {
    for (part, field) in [("spec", "configSource"), ("status", "config")] {
        let used = old.and_then(|old| old.get(part)?.get(field)).is_some();
        if !used && let Some(place) = node.get_mut(part).and_then(Value::as_object_mut) {
            place.remove(field);
        }
    }
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
        let amounts = json!({"status": {"capacity": {"pods": "1500m"}, "allocatable": {"cpu": "-1"}}});
        assert_eq!(
            texts(&node(&amounts)),
            [
                "status.capacity.pods: Invalid value: \"1500m\": must be an integer",
                "status.allocatable.cpu: Invalid value: \"-1\": must be greater than or equal to 0",
            ]
        );
        let two = json!({"spec": {"podCIDRs": ["10.0.0.0/24", "fd00::/64"]}});
        assert!(node(&two).is_empty());
        assert_eq!(
            texts(&node_status(&json!({"spec": {"externalID": "x", "podCIDRs": ["10.0.1.0/24", "fd01::/64"]}}), &two)),
            [
                "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
                "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
                "spec.externalID: Forbidden: may not be updated",
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
    fn sources_of_configuration_are_of_the_past() {
        let with = || json!({"spec": {"configSource": {}}, "status": {"config": {}}});
        let mut new = with();
        node_create(&mut new);
        assert_eq!(new, json!({"spec": {}, "status": {}}));
        let mut kept = with();
        node_prepare_update(&mut kept, &with());
        assert_eq!(kept, with());
        let mut status = with();
        node_prepare_status(&mut status, &json!({}));
        assert_eq!(status, json!({"spec": {}, "status": {}}));
    }

    #[test]
    fn finalizers_of_namespaces_are_known_or_somebodys() {
        let of = |names: &[&str]| json!({"spec": {"finalizers": names}});
        assert_eq!(texts(&namespace(&of(&["kubernetes", "a.io/b"]))), [""; 0]);
        const DETAIL: &str = "name is neither a standard finalizer name nor is it fully qualified";
        assert_eq!(texts(&namespace(&of(&["x"]))), [format!("spec.finalizers: Invalid value: \"x\": {DETAIL}")]);
        assert_eq!(
            texts(&namespace_finalize("finalize", &of(&["kubernetes", "x"]), &Value::Null)),
            [format!("spec.finalizers[1]: Invalid value: \"x\": {DETAIL}")]
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
